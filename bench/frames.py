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
    """A sweep's results."""

    cells: pd.DataFrame
    """One row a cell of the plan."""
    scores: pd.DataFrame
    """One row a cell and task."""
    problems: tuple[str, ...]
    """What did not agree with its rows."""
    beside: int
    """Recorded cells of other settings, which the plan no longer names."""


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
    planned = {cell["folder"] for cell in plan["cells"]}
    beside = sum(folder.path.name not in planned for folder in results.folders())
    return Frames(frame, pd.DataFrame(rows, columns=columns), tuple(problems), beside)


def differences(cells: pd.DataFrame) -> pd.DataFrame:
    """Each series against the baseline method (LoRA, else the first trained one) at equal base, rank, samples and
    training settings: the mean of the per-seed differences in average accuracy (points), its t interval over seeds,
    and the verdict. A method without a rank has no equal and is not in it."""
    columns = ["series", "baseline", "base", "rank", "samples", "seeds", "difference", "low", "high", "verdict"]
    done = cells[(cells["status"] == "done") & (cells["method"] != "base") & cells["rank"].notna()]
    methods = list(dict.fromkeys(done["method"]))
    if len(methods) < 2:
        return pd.DataFrame(columns=columns)
    done = done.assign(settings=done["training"].map(repr))
    baseline = "lora" if "lora" in methods else methods[0]
    keys = ["base", "rank", "samples", "settings"]
    rows = []
    against = dict.fromkeys(done[done["method"] == baseline]["series"])
    for series in dict.fromkeys(done[done["method"] != baseline]["series"]):
        for reference in against:
            paired = done[done["series"] == series].merge(
                done[done["series"] == reference],
                on=[*keys, "seed"],
                suffixes=("", "_baseline"),
                validate="one_to_one",
            )
            for (base, rank, samples, _), group in paired.groupby(keys, sort=False):
                values = list(group["average"] - group["average_baseline"])
                interval = mean_interval(values)
                rows.append(
                    {
                        "series": series,
                        "baseline": reference,
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
