"""A results folder read back as tables (pandas): one row a cell, one row a score, one row a difference."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.evaluation import check, scores
from bench.statistics import mean_interval, question_noise, verdict
from bench.store import CellFolder, Results


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
                "status": _status(status, whole and bool(found)),
                "reason": metrics.get("reason", ""),
                "traceback": metrics.get("traceback", []),
                **_costs(metrics.get("costs", {})),
                **_merging(metrics),
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


def trained(cells: pd.DataFrame) -> pd.DataFrame:
    """The trained cells that are done and scored."""
    return cells[(cells["status"] == "done") & (cells["method"] != "base") & cells["average"].notna()]


def baseline_of(cells: pd.DataFrame) -> str | None:
    """The method that the others are compared with: LoRA, else the first trained one with a rank; None without one."""
    done = trained(cells)
    methods = list(dict.fromkeys(done[done["rank"].notna()]["method"]))
    return "lora" if "lora" in methods else methods[0] if methods else None


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


def differences(cells: pd.DataFrame) -> pd.DataFrame:
    """Each series against the baseline method (LoRA, else the first trained one) at equal base, rank, samples and
    training settings: the mean of the per-seed differences in average accuracy (points), its t interval over seeds,
    and the verdict. A method without a rank has no equal and is not in it."""
    columns = ["series", "baseline", "base", "rank", "samples", "seeds", "difference", "low", "high", "verdict"]
    done = trained(cells)
    done = done[done["rank"].notna()]
    if done["method"].nunique() < 2:
        return pd.DataFrame(columns=columns)
    done = done.assign(settings=done["training"].map(repr))
    baseline = baseline_of(cells)
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


def _status(recorded: str, scored: bool) -> str:
    """A cell is done when all of the plan's scores are there, whatever was still to be measured when it was stopped."""
    if recorded in ("done", "trained"):
        return "done" if scored else "missing" if recorded == "done" else "trained"
    return recorded


def _costs(costs: dict[str, Any]) -> dict[str, Any]:
    trainable, total = costs.get("trainable"), costs.get("total")
    names = ("training_seconds", "tokens_per_second", "training_tokens", "final_loss", "steps", "adapter_bytes")
    names += ("base_bytes", "optimizer_bytes")
    return {
        "trainable": trainable,
        "percent": 100 * trainable / total if trainable is not None and total else None,
        **{name: costs.get(name) for name in names},
    }


def _merging(metrics: dict[str, Any]) -> dict[str, Any]:
    """How far merging moved a logit, in float32 and in half precision, or why the method cannot merge; all missing in
    the records of older cells. What is not a number counts as infinite, so that it is not taken for missing."""
    found = {
        dtype: math.inf if value is None or math.isnan(value) else value
        for dtype, value in (metrics.get("merge_max_abs_diff") or {}).items()
    }
    half = next((dtype for dtype in found if dtype != "float32"), None)
    return {
        "merge_float32": found.get("float32"),
        "merge_half": found.get(half),
        "merge_half_dtype": half or "",
        "merge_reason": metrics.get("merge_reason", ""),
    }


def _total(seconds: Any) -> float | None:
    known = [one for one in seconds if one is not None]
    return round(sum(known), 1) if known else None


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
