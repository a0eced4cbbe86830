"""Two sweeps, or two versions of one, side by side: what changed in the scores beyond noise, and in the settings."""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml

from bench import comparison, frames
from bench.report import forest, provenance, tables
from bench.report.content import Content, Section
from bench.report.finding import p_text, sentence
from bench.report.tables import Table
from bench.statistics import LEVEL
from bench.store import Results
from bench.sweep import ReportConfig

MANY = 8
"""More changes than this are counted instead of being said one by one."""


def content(first: Results, second: Results) -> Content:
    """The second sweep held against the first, setting by setting.

    Raises UserError for a folder that holds no sweep.
    """
    plans, read = (first.plan(), second.plan()), (frames.read(first), frames.read(second))
    names = _names(first, second)
    margin = ReportConfig.model_validate(plans[1].get("report", {})).tie_margin
    found = comparison.between(*read, margin)
    alone = _alone(*read, names)
    named = found.assign(
        series=found["series"] + f" in {names[1]}" if len(found) else found["series"],
        baseline=found["baseline"] + f" in {names[0]}" if len(found) else found["baseline"],
    )
    environments = [
        Table(f"Environment of {name}", one.heads, one.rows, one.note, folded=True, prose=True)
        for name, results, plan in zip(names, (first, second), plans, strict=True)
        for one in provenance.tables(results, plan)
    ]
    sections = [
        Section("finding", "What changed", _sentences(named, margin), alone),
        Section(
            "differences",
            "Setting by setting",
            figures=forest.draw(named, margin),
            tables=tables.differences_table(named, f"Points of average accuracy, {names[1]} minus {names[0]}", margin),
        ),
        Section("settings", "Settings that differ", tables=_settings(first, second, names)),
        Section("provenance", "Provenance", tables=environments),
    ]
    return Content(
        f"{names[1]} against {names[0]}",
        [],
        [section for section in sections if not section.empty],
        [],
        (second.path / "sweep.yaml").read_text(encoding="utf-8"),
        f"bench report {first.path.name} {second.path.name} --compare",
        {"differences": found},
    )


def _names(first: Results, second: Results) -> tuple[str, str]:
    """What tells the two apart: their folders' names, else with those of the folders above."""
    mine, other = first.path.resolve(), second.path.resolve()
    if mine.name != other.name:
        return mine.name, other.name
    return "/".join(mine.parts[-2:]), "/".join(other.parts[-2:])


def _sentences(rows: pd.DataFrame, margin: float) -> list[str]:
    """What differs beyond noise, and how many do not."""
    if rows.empty:
        return ["No setting was done in both, with the same questions, seed and training settings."]
    verdicts = rows["verdict"].value_counts()
    tested = rows["mcnemar_p_adjusted"].astype(float) < 1 - LEVEL
    changed = rows[rows["verdict"].isin(["better", "worse"]) | ((rows["verdict"] == "these two runs") & tested)]
    said = [sentence(row, margin) for row in changed.itertuples()] if len(changed) <= MANY else []
    if not len(changed):
        said.append("Nothing changed beyond noise.")
    elif not said:
        up = int((changed["difference"] > 0).sum())
        said.append(f"{len(changed)} settings changed beyond noise: {up} up, {len(changed) - up} down.")
    same = rows[rows["difference"].abs().eq(0) & ~rows.index.isin(changed.index)]
    counts = {
        "tied": verdicts.get("tie", 0),
        "unresolved": verdicts.get("unresolved", 0),
        "of fewer than three seeds that McNemar's test does not tell apart": int(
            ((rows["verdict"] == "these two runs") & ~tested).sum()
        ),
    }
    rest = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    largest = rows.loc[rows["difference"].abs().idxmax()]
    said.append(
        f"{len(rows)} settings were done in both: {len(changed)} changed beyond noise"
        + (f"; {rest}" if rest else "")
        + (f"; {len(same)} have exactly the same average" if len(same) else "")
        + f". The largest difference is {largest['difference']:+.2f} points"
        + (f" (adjusted p {p_text(largest['p_adjusted'])})" if pd.notna(largest["p_adjusted"]) else "")
        + "."
    )
    return said


def _alone(first: frames.Frames, second: frames.Frames, names: tuple[str, str]) -> list[str]:
    """The settings that only one of the two has done."""
    labels = []
    for one in (first, second):
        done = frames.trained(one.cells)
        labels.append(dict.fromkeys(frames.labels(done)))
    notes = []
    for mine, other, name in ((0, 1, names[0]), (1, 0, names[1])):
        only = [label for label in labels[mine] if label not in labels[other]]
        if only:
            notes.append(f"Done in {name} alone: {', '.join(only)}.")
    return notes


def _settings(first: Results, second: Results, names: tuple[str, str]) -> list[Table]:
    """The keys of the resolved sweep files whose values differ."""
    flat = [_flat(yaml.safe_load((one.path / "sweep.yaml").read_text(encoding="utf-8"))) for one in (first, second)]
    keys = list(dict.fromkeys([*flat[0], *flat[1]]))
    rows = [[key, *(str(one.get(key, "-")) for one in flat)] for key in keys if flat[0].get(key) != flat[1].get(key)]
    return [Table("Settings that differ", ["setting", *names], rows, prose=True)] if rows else []


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    """A nested document by dotted keys."""
    if isinstance(value, dict) and value:
        return {
            key: one for name, part in value.items() for key, one in _flat(part, f"{at}.{name}" if at else name).items()
        }
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return {key: one for place, part in enumerate(value) for key, one in _flat(part, f"{at}[{place}]").items()}
    return {at: value}
