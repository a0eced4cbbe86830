"""A results folder read back as tables (pandas): one row a cell, one row a score, one row a difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.evaluation import check, scores
from bench.statistics import mean_interval, question_noise, verdict
from bench.store import CellFolder, Results

HYPERPARAMETERS = ("rank", "alpha")
"""Settings that move along a line of the figure instead of starting a new one."""


@dataclass(frozen=True)
class Frames:
    """cells: one row a cell; scores: one row a cell and task; problems: what did not agree with its rows."""

    cells: pd.DataFrame
    scores: pd.DataFrame
    problems: tuple[str, ...]


def read(results: Results) -> Frames:
    """All cells of the sweep's plan, those that were not begun included, with their scores recomputed from the items.

    Accuracies are in points (0 to 100).
    """
    plan = results.plan()
    problems: list[str] = []
    cells, rows = [], []
    for planned in plan["cells"]:
        folder = CellFolder(results.path / "cells" / planned["folder"])
        metrics = folder.metrics() if (folder.path / "cell.json").is_file() else {}
        recorded = metrics.get("evaluations", {})
        found = {}
        for id, one in recorded.items():
            if id in planned["evaluations"]:
                found[id] = {**one, **_recomputed(folder, one, problems)}
        status = metrics.get("status", "missing")
        whole = set(planned["evaluations"]) <= set(found)
        cells.append(
            {
                **{key: planned[key] for key in ("folder", "name", "base", "method", "rank", "samples", "seed")},
                "options": planned["options"],
                "training": planned["training"],
                "status": status if status != "done" or whole else "missing",
                "reason": metrics.get("reason", ""),
                "traceback": metrics.get("traceback", []),
                **_costs(metrics.get("costs", {})),
                "evaluation_seconds": _total(one["seconds"] for one in found.values()),
                "average": 100 * sum(one["score"] for one in found.values()) / len(found) if whole and found else None,
                "question_noise": 100 * question_noise([(one["score"], one["n"]) for one in found.values()])
                if whole and found
                else None,
            }
        )
        for one in found.values():
            row = {
                "folder": planned["folder"],
                "task": one["task"],
                "protocol": f"{one['protocol']}-v{one['protocol_version']}",
            }
            row |= {"metric": one["primary"], "n": one["n"], "merged": one["merged"]}
            row |= {key: 100 * one[key] for key in ("score", "acc", "acc_norm", "majority", "chance")}
            rows.append(row)
    frame = pd.DataFrame(cells)
    frame["series"] = _series(frame)
    columns = ["folder", "task", "protocol", "metric", "n", "merged", "score", "acc", "acc_norm", "majority", "chance"]
    return Frames(frame, pd.DataFrame(rows, columns=columns), tuple(problems))


def differences(cells: pd.DataFrame) -> pd.DataFrame:
    """Each series against the baseline (LoRA, else the first trained one) at equal rank and samples: the mean of the
    per-seed differences in average accuracy (points), its t interval over seeds, and the verdict."""
    done = cells[(cells["status"] == "done") & (cells["method"] != "base")]
    names = list(dict.fromkeys(done["series"]))
    columns = ["series", "baseline", "base", "rank", "samples", "seeds", "difference", "low", "high", "verdict"]
    if len(names) < 2:
        return pd.DataFrame(columns=columns)
    baseline = next((name for name in names if name.split(" ")[0] == "lora"), names[0])
    rows = []
    keys = ["base", "rank", "samples"]
    for series in names:
        if series == baseline:
            continue
        paired = done[done["series"] == series].merge(
            done[done["series"] == baseline], on=[*keys, "seed"], suffixes=("", "_baseline")
        )
        for (base, rank, samples), group in paired.groupby(keys, dropna=False):
            values = list(group["average"] - group["average_baseline"])
            interval = mean_interval(values)
            rows.append(
                {
                    "series": series,
                    "baseline": baseline,
                    "base": base,
                    "rank": rank,
                    "samples": samples,
                    "seeds": len(values),
                    "difference": sum(values) / len(values),
                    "low": interval.low if interval else None,
                    "high": interval.high if interval else None,
                    "verdict": verdict(values),
                }
            )
    return pd.DataFrame(rows, columns=columns)


def _recomputed(folder: CellFolder, recorded: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """The scores as the rows give them; a disagreement with the record is a problem that the report shows."""
    items = folder.items(recorded["file"])
    name = f"{folder.path.name}: {recorded['file']}"
    if items is None:
        problems.append(f"{name} is missing; its score is the recorded one")
        return {}
    try:
        found = scores(check(items), recorded["primary"])
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return {}
    if any(abs(found[key] - recorded[key]) > 1e-9 for key in ("acc", "acc_norm", "n")):
        problems.append(f"{name}: recorded {recorded['acc']:.4f}, its rows give {found['acc']:.4f}; the rows are shown")
    return found


def _costs(costs: dict[str, Any]) -> dict[str, Any]:
    trainable, total = costs.get("trainable"), costs.get("total")
    names = ("training_seconds", "tokens_per_second", "training_tokens", "final_loss", "steps", "adapter_bytes")
    return {
        "trainable": trainable,
        "percent": 100 * trainable / total if trainable is not None and total else None,
        **{name: costs.get(name) for name in names},
    }


def _total(seconds: Any) -> float | None:
    known = [one for one in seconds if one is not None]
    return round(sum(known), 1) if known else None


def _series(cells: pd.DataFrame) -> list[str]:
    """The name of the line that a cell lies on: its method, and every setting that varies within the method."""
    settings = [
        {**{f"training.{key}": value for key, value in (row.training or {}).items()}, **row.options}
        for row in cells.itertuples()
    ]
    bases = cells["base"].nunique() > 1
    names = []
    for row, mine in zip(cells.itertuples(), settings, strict=True):
        peers = [other for method, other in zip(cells["method"], settings, strict=True) if method == row.method]
        varying = [
            key for key in mine if key not in HYPERPARAMETERS and len({repr(peer.get(key)) for peer in peers}) > 1
        ]
        # alpha follows rank; where it varies at one rank, it is a setting like any other.
        ranked = {(peer.get("rank"), peer.get("alpha")) for peer in peers}
        if "alpha" in mine and len(ranked) > len({rank for rank, _ in ranked}):
            varying.append("alpha")
        parts = [row.method, *(f"{key.removeprefix('training.')}={mine[key]}" for key in sorted(varying))]
        names.append(" ".join(parts) + (f" on {row.base}" if bases else ""))
    return names
