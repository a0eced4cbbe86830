"""Cells that were scored in batches of another size than the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.store.records import EvaluationRecord


def unequal_batches(cells: Iterable[tuple[str, Sequence[EvaluationRecord]]]) -> list[str]:
    """Sentences on cells that were scored with other numbers of tokens a forward pass than the cells that they are
    compared with. `cells`: names and evaluations."""
    names: dict[str, dict[tuple[int, ...], list[str]]] = {}
    for name, evaluations in cells:
        for evaluation in evaluations:
            if evaluation.batch_tokens is not None:
                label = f"{evaluation.task} ({evaluation.label})"
                names.setdefault(label, {}).setdefault(evaluation.batch_tokens, []).append(name)
    sentences: dict[str, list[str]] = {}
    for label, by_size in names.items():
        usual = max(by_size, key=lambda size: len(by_size[size]))
        for size, members in by_size.items():
            if size != usual:
                sentence = (
                    f"{first_names(members)}: scored with {_sizes_text(size)} tokens a forward pass, the others with "
                    f"{_sizes_text(usual)}; in half precision this alone moves answers that are nearly tied"
                )
                sentences.setdefault(sentence, []).append(label)
    return [f"{sentence} ({first_names(labels)})" for sentence, labels in sentences.items()]


def _sizes_text(sizes: Sequence[int]) -> str:
    """`65,536`, or `65,536, then 32,768` where memory ran out."""
    return ", then ".join(f"{size:,}" for size in sizes)


def first_names(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 2 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
