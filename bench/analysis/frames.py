"""A results folder read back as tables (pandas): one row a cell, one row a score, one row a question."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench import statistics
from bench.evaluation.scoring import check_rows, compute_scores, is_correct
from bench.evaluation.workload import LATENCY_BATCHES
from bench.statistics import question_half_width
from bench.store.folder import CellFolder, Results
from bench.store.record_json import content_of
from bench.sweep.identity import label

SCORES = ("folder", "task", "protocol", "metric", "n", "merged", "score", "low", "high", "acc", "acc_norm")
SCORES += ("majority", "chance", "parse_rate", "acc_parsed")
PLACE = ["protocol", "task", "question_id"]
"""What tells one question from another."""
QUESTIONS = ("folder", *PLACE, "cluster", "correct")
ITEMS = ("question_id", "cluster", "gold", "prediction", "prediction_norm", "acc", "parsed", "choices")
ITEMS += ("loglikelihoods",)
"""The columns of an items file that scores and comparisons are made of."""

MEASURED = ("percent_of_base", "steps", "micro_batch", "training_tokens", "training_padding_tokens", "final_loss")
MEASURED += ("adapter_bytes", "base_bytes", "optimizer_bytes", "training_flops", "evaluation_flops")
MEASURED += ("evaluation_tokens", "shared", "others_cpu")

LATENCIES = tuple(f"latency_{how}_{batch}" for how in ("base", "unmerged", "merged") for batch in LATENCY_BATCHES)
ANSWERING = ("answers", "answers_cut", "answer_tokens", "answering_seconds")
"""Open answers: how many, how many of them were cut off at the limit, their tokens, and seconds of all."""
TAKES_TIME = ("training_seconds", "tokens_per_second", "training_peak_bytes", "training_reserved_bytes")
TAKES_TIME += ("training_joules", "training_utilisation", "evaluation_seconds", "evaluation_tokens_per_second")
TAKES_TIME += ("evaluation_peak_bytes", "evaluation_reserved_bytes", "evaluation_joules", "wall_seconds")
TAKES_TIME += ("answering_seconds", "inference_seconds", "merging_seconds", *LATENCIES)
"""Costs that say nothing of a method where a cell shared its device."""


@dataclass(frozen=True)
class Frames:
    """A sweep's results."""

    cells: pd.DataFrame
    """One row a cell of the plan."""
    scores: pd.DataFrame
    """One row a cell, protocol and task; low and high are Wilson's interval."""
    problems: tuple[str, ...]
    """What did not agree with its rows, or keeps cells from being compared."""
    beside: int
    """Recorded cells of other settings, which the plan no longer names."""
    questions: pd.DataFrame
    """One row a cell and question of its average; of cells whose rows could all be read. `cluster` is missing where a
    question is a cluster of its own. The texts are categories: they are few, and the rows many."""
    warnings: tuple[str, ...]
    """What the cells' records warn of, each once."""


def read(results: Results) -> Frames:
    """All cells of the sweep's plan, those that were not begun included, with their scores recomputed from the items.

    Accuracies are in points (0 to 100).
    """
    plan = results.plan()
    series = _series(pd.DataFrame(plan["cells"]))
    problems: list[str] = []
    warnings: dict[str, list[str]] = {}
    cells: list[dict[str, Any]] = []
    scored: list[tuple[str, dict[str, Any]]] = []
    questions: list[_Rows] = []
    for planned, line in zip(plan["cells"], series, strict=True):
        name = _name(planned, line)
        folder = CellFolder(results.path / "cells" / planned["folder"])
        metrics = folder.metrics() if folder.exists() else {}
        recorded = metrics.get("evaluations", {})
        found, answers = [], []
        for id in (id for id in planned["evaluations"] if id in recorded):
            one, items = _recomputed(folder, recorded[id], problems)
            found.append(one)
            answers.append(None if items is None else _Rows.of(planned["folder"], one, items))
        # Two protocols never share an average: it is the one that the plan names first.
        own = [place for place, one in enumerate(found) if _protocol(one) == _protocol(found[0])]
        complete = len(found) == len(planned["evaluations"])
        answered = [metrics.get("answers", {}).get(id) for id in planned.get("answers", ())]
        whole = complete and None not in answered and bool(found or answered)
        if complete and all(answers[place] is not None for place in own):
            questions += [answers[place] for place in own]
        for text in metrics.get("warnings", ()):
            warnings.setdefault(text, []).append(name)
        problems += _flipped(name, metrics)
        average = [(found[place]["score"], found[place]["n"]) for place in own] if complete else []
        cells.append(
            {
                "folder": planned["folder"],
                "name": name,
                "series": line,
                **{key: planned[key] for key in ("base", "method", "rank", "samples", "seed", "options", "training")},
                "status": _status(metrics.get("status", "missing"), whole),
                "reason": metrics.get("reason", ""),
                "traceback": metrics.get("traceback", []),
                **_costs(metrics.get("costs", {})),
                **_merging(metrics),
                "development": _points(metrics.get("development") or {}),
                "development_n": (metrics.get("development") or {}).get("n"),
                "evaluation_seconds": _total(one["seconds"] for one in found),
                **_answering([one for one in answered if one is not None]),
                "average": 100 * sum(score for score, _ in average) / len(average) if average else None,
                "question_noise": 100 * question_half_width(average) if average else None,
            }
        )
        scored += [(planned["folder"], one) for one in found]
    # The protocol of the averages first, whichever the first cell has scores of.
    order = {name: place for place, name in enumerate(plan["protocols"])}
    scored.sort(key=lambda one: order.get(one[1]["protocol"], len(order)))
    asked = _questions(questions)
    planned = {cell["folder"] for cell in (*plan["cells"], *plan.get("trials", ()))}
    return Frames(
        pd.DataFrame(cells),
        pd.DataFrame([_score(folder, one) for folder, one in scored], columns=SCORES),
        (*problems, *_other_questions(asked)),
        sum(folder.path.name not in planned for folder in results.folders()),
        asked,
        tuple(f"{_names(names)}: {text}" for text, names in warnings.items()),
    )


def trained(cells: pd.DataFrame) -> pd.DataFrame:
    """The trained cells that are done and have an average."""
    return cells[(cells["status"] == "done") & (cells["method"] != "base") & cells["average"].notna()]


def averaged(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores that the averages are made of: those of the protocol that the plan names first."""
    return scores[scores["protocol"] == scores["protocol"].iloc[0]] if len(scores) else scores


def majority(scores: pd.DataFrame) -> float | None:
    """The average of answering every task with its majority class; None where a task has none."""
    shares = scores.drop_duplicates("task")["majority"]
    return shares.mean() if len(shares) and shares.notna().all() else None


def labels(cells: pd.DataFrame) -> list[str]:
    """A short name of each cell without its seed: `lora r32`, with the samples where these cells have several counts,
    and with whatever else tells its series from others of the method."""
    several = cells["samples"].nunique() > 1
    return [
        row.method
        + (f" r{row.rank:g}" if pd.notna(row.rank) else "")
        + (f" n={row.samples:,}" if several else "")
        + row.series.removeprefix(row.method)
        for row in cells.itertuples()
    ]


def _other_questions(questions: pd.DataFrame) -> list[str]:
    """Of every task, the cells that were not asked what most cells of the task were."""
    numbered = questions.assign(question_id=pd.factorize(questions["question_id"])[0])
    evaluations = numbered.groupby(["protocol", "task", "folder"], sort=False, observed=True)["question_id"]
    by_task: defaultdict[tuple[str, str], dict[str, frozenset[int]]] = defaultdict(dict)
    for (protocol, task, folder), mine in evaluations:
        by_task[protocol, task][folder] = frozenset(mine.tolist())
    found = []
    for (protocol, task), asked in by_task.items():
        (usual, _), *others = Counter(asked.values()).most_common()
        found += [
            f"{folder}: of {task} ({protocol}) it answered other questions ({len(mine)}) than most cells "
            f"({len(usual)}); it is not compared with them"
            for folder, mine in asked.items()
            if others and mine != usual
        ]
    return found


def _recomputed(
    folder: CellFolder, recorded: dict[str, Any], problems: list[str]
) -> tuple[dict[str, Any], dict[str, pa.ChunkedArray] | None]:
    """The evaluation with its scores as the rows give them, and the rows' columns; without them where they are missing
    or contradict themselves. A disagreement with the record is a problem that the report shows."""
    items = folder.columns(recorded["file"], ITEMS)
    name = f"{folder.path.name}: {recorded['file']}"
    if items is None:
        problems.append(f"{name} is missing; its score is the recorded one")
        return recorded, None
    if "choices" not in items:
        items["choices"] = pc.list_value_length(items["loglikelihoods"])
    try:
        found = content_of(compute_scores(check_rows(items), recorded["primary"]))
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return recorded, None
    keys = ("acc", "acc_norm", "n", "score", "parse_rate", "acc_parsed")
    keys = [key for key in keys if recorded.get(key) is not None and found.get(key) is not None]
    if any(abs(found[key] - recorded[key]) > 1e-9 for key in keys):
        problems.append(f"{name}: recorded {recorded['acc']:.4f}, its rows give {found['acc']:.4f}; the rows are shown")
    return {**recorded, **found}, items


def _protocol(evaluation: dict[str, Any]) -> str:
    return label(evaluation["protocol"], evaluation["protocol_version"])


def _score(folder: str, one: dict[str, Any]) -> dict[str, Any]:
    """A row of the scores, in points."""
    interval = statistics.wilson(round(one["score"] * one["n"]), one["n"])
    row = {"folder": folder, "task": one["task"], "protocol": _protocol(one), "metric": one["primary"]}
    row |= {"n": one["n"], "merged": one["merged"], "low": 100 * interval.low, "high": 100 * interval.high}
    shares = ("score", "acc", "acc_norm", "majority", "chance", "parse_rate", "acc_parsed")
    return row | {key: None if one.get(key) is None else 100 * one[key] for key in shares}


@dataclass(frozen=True)
class _Rows:
    """The rows of one evaluation, on their way into `Frames.questions`."""

    folder: str
    protocol: str
    task: str
    ids: pa.ChunkedArray  # (questions,) texts
    clusters: pa.ChunkedArray  # (questions,) texts, or null
    correct: np.ndarray  # (questions,)

    @classmethod
    def of(cls, folder: str, one: dict[str, Any], items: dict[str, pa.ChunkedArray]) -> _Rows:
        # An answer that could not be parsed is -1: no gold.
        correct = is_correct(items, "prediction_norm" if one["primary"] == "acc_norm" else "prediction")
        clusters = items.get("cluster", pa.chunked_array([pa.nulls(len(correct))]))
        return cls(folder, _protocol(one), one["task"], items["question_id"], clusters, correct)


def _questions(evaluations: Sequence[_Rows]) -> pd.DataFrame:
    """All evaluations' rows as `Frames.questions`."""
    lengths = [len(one.correct) for one in evaluations]
    found = {
        name: pd.Categorical([getattr(one, name) for one in evaluations]).repeat(lengths)
        for name in ("folder", "protocol", "task")
    }
    found["question_id"] = _categories([one.ids for one in evaluations])
    found["cluster"] = _categories([one.clusters for one in evaluations])
    found["correct"] = np.concatenate([np.empty(0, dtype=bool), *(one.correct for one in evaluations)])
    return pd.DataFrame(found, columns=QUESTIONS)


def _categories(texts: Sequence[pa.ChunkedArray]) -> pd.Categorical:
    """Texts, one array after the other, as categories in sorted order."""
    chunks = [chunk.cast(pa.large_string()) for one in texts for chunk in one.chunks]
    encoded = pa.chunked_array(chunks, pa.large_string()).dictionary_encode().combine_chunks()
    known = encoded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(known)
    # The last place is that of what is missing.
    places = np.append(np.argsort(order), -1)
    return pd.Categorical.from_codes(places[encoded.indices.fill_null(-1).to_numpy()], known[order])


def _flipped(name: str, metrics: dict[str, Any]) -> list[str]:
    flips = metrics.get("merge_flips") or {}
    if not flips.get("flips_above_margin"):
        return []
    return [
        f"{name}: merged, it answers {flips['flips_above_margin']} of {flips['n']} probed questions otherwise than "
        f"unmerged, by more than the margin of {flips['margin']:g} nats"
    ]


def _names(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _status(recorded: str, scored: bool) -> str:
    """A cell is done when all of the plan's scores are there, whatever was still to be measured when it was stopped."""
    if recorded in ("done", "trained"):
        return "done" if scored else "missing" if recorded == "done" else "trained"
    return recorded


def _costs(costs: dict[str, Any]) -> dict[str, Any]:
    """What a cell cost; what an older record does not know is None."""
    trainable, total = costs.get("trainable"), costs.get("total")
    timed = costs.get("inference") or {}
    return {
        "trainable": trainable,
        "percent": 100 * trainable / total if trainable is not None and total else None,
        **{name: costs.get(name) for name in (*MEASURED, *TAKES_TIME) if name not in LATENCIES},
        **{name: _seconds(timed, name) for name in LATENCIES},
    }


def _answering(recorded: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the open answers of a cell came to; all missing where it has none."""
    if not recorded:
        return dict.fromkeys(ANSWERING)
    values = {key: [one.get(key) for one in recorded] for key in ("n", "cut", "new_tokens", "seconds")}
    sums = [None if None in own else sum(own) for own in values.values()]
    return dict(zip(ANSWERING, sums, strict=True))


def _seconds(timed: dict[str, Any], name: str) -> float | None:
    _, how, batch = name.split("_")
    return timed.get(how, {}).get(batch, {}).get("seconds")


def _merging(metrics: dict[str, Any]) -> dict[str, Any]:
    """How far merging moved a logit, in float32 and in half precision, or why the method cannot merge; all missing in
    the records of older cells. What is not a number counts as infinite, so that it is not taken for missing."""
    found = {
        dtype: math.inf if value is None or math.isnan(value) else value
        for dtype, value in (metrics.get("merge_max_abs_diff") or {}).items()
    }
    flips = metrics.get("merge_flips") or {}
    half = next((dtype for dtype in found if dtype != "float32"), None)
    return {
        "merge_float32": found.get("float32"),
        "merge_half": found.get(half),
        "merge_half_dtype": half or "",
        "merge_reason": metrics.get("merge_reason", ""),
        **{f"merge_{key}": flips.get(key) for key in ("n", "flips", "flips_above_margin", "margin")},
    }


def _points(development: dict[str, Any]) -> float | None:
    """The share of right answers to development questions, in points."""
    return 100 * development["acc"] if development.get("acc") is not None else None


def _total(seconds: Any) -> float | None:
    known = [one for one in seconds if one is not None]
    return round(sum(known), 1) if known else None


def _name(planned: dict[str, Any], series: str) -> str:
    """A cell's name, with what else tells its series from others of the method: no two cells share it."""
    more = series.removeprefix(planned["method"]).strip()
    return f"{planned['name']} ({more})" if more else planned["name"]


def _series(cells: pd.DataFrame) -> list[str]:
    """The name of the line that a cell lies on: its method, and every setting that varies within the method."""
    settings = [
        {**{f"training.{key}": value for key, value in (row.training or {}).items()}, **_flat(row.options)}
        for row in cells.itertuples()
    ]
    places = cells.reset_index(drop=True)
    names = [""] * len(places)
    # Within a base: what its size alone decides (layers, say) is said by its name.
    for (method, base), group in places.groupby(["method", "base"], sort=False):
        peers = {place: settings[place] for place in group.index}
        varying = [
            key
            for key in sorted({key for peer in peers.values() for key in peer if key != "rank"})
            if len({repr(peer.get(key)) for peer in peers.values()}) > 1
            # Tuned, a rate is what the method comes with at that setting.
            and not (key.rpartition(".")[2] == "lr" and "tuned" in group and group["tuned"].eq(True).all())
            and not _follows(key, [(group["rank"][place], peer.get(key)) for place, peer in peers.items()])
        ]
        for place, mine in peers.items():
            parts = [
                f"{key.removeprefix('training.').removeprefix('peft.')}={mine[key]}" for key in varying if key in mine
            ]
            names[place] = " ".join([method, *parts]) + (f" on {base}" if cells["base"].nunique() > 1 else "")
    return names


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """Settings with those of a part under `part.name`; what a part repeats of the whole is kept once."""
    flat = {key: value for key, value in options.items() if not isinstance(value, dict)}
    for part, settings in options.items():
        if isinstance(settings, dict):
            flat = {key: value for key, value in flat.items() if key == "rank" or key not in settings}
            flat |= {f"{part}.{key}": value for key, value in settings.items()}
    return flat


def _follows(key: str, found: Iterable[tuple[Any, Any]]) -> bool:
    """Whether a setting that varies is only the rank in other words, from its (rank, value) pairs: then it moves along
    a line instead of starting a new one. So an alpha with one value a rank, and whole numbers in proportion to the
    rank (PEFT's own name of it; AdaLoRA's first rank). A learning rate chosen for each rank is a choice, and is not."""
    if key.startswith("training."):
        return False
    values = {(rank, repr(value)): value for rank, value in found}
    ranks = {rank for rank, _ in values}
    if len(values) > len(ranks) or any(pd.isna(rank) for rank in ranks):
        return False
    if key.rpartition(".")[2].endswith(("alpha", "rank")):
        return True
    pairs = [(rank, value) for (rank, _), value in values.items()]
    if not all(isinstance(value, (int, float)) and value >= 1 and value == int(value) for _, value in pairs):
        return False
    top, of_top = max(pairs)
    return all(abs(value - rank * of_top / top) < 1 for rank, value in pairs)
