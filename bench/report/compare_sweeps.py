"""Two sweeps, or two versions of one, side by side: what changed in the scores beyond noise, and in the settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import yaml

from bench.analysis import comparison, judgments
from bench.analysis.result_tables import ResultTables, read_results, trained_cells
from bench.analysis.series import setting_labels
from bench.errors import UserError
from bench.report import open_answers, provenance, tables
from bench.report.content import Content, Section
from bench.report.figures import differences
from bench.report.finding import NAMED, comparisons, p_text
from bench.report.tables import Table
from bench.statistics import LEVEL, SINGLE
from bench.store.folder import Results
from bench.sweep.sections import ReportConfig

MANY = 3
"""More changes than this are counted instead of being said one by one."""


@dataclass(frozen=True)
class _Score:
    """One kind of score that both sweeps have: the accuracy, or what one judge says of one set of questions."""

    name: str
    """Empty for the accuracy."""
    what: str
    """The quantity and its unit."""
    margin: float
    digits: int
    rows: pd.DataFrame
    """As `comparison.between` has them."""
    doubt: str = ""
    """What must stand beside everything that is said of it."""

    @property
    def sentences(self) -> list[str]:
        head = f"{self.name}: " if self.name else ""
        said = [f"{head}{one}" for one in _sentences(self.rows, self.margin, self.digits)]
        return [*said, f"{head}{self.doubt}"] if self.doubt else said

    def table(self, names: tuple[str, str]) -> list[Table]:
        return tables.differences_table(
            self.rows,
            f"{self.what}, {names[1]} minus {names[0]}",
            self.margin,
            f"Paired differences: {self.name}" if self.name else "Paired differences",
            paired="the same setting of both paired by seed, where both answered the same questions.",
        )


def content(first: Results, second: Results) -> Content:
    """The second sweep held against the first, setting by setting.

    Raises UserError for a folder that holds no sweep, and where both are one.
    """
    names = _names(first, second)
    plans, read = (first.plan(), second.plan()), (read_results(first), read_results(second))
    rules = ReportConfig.model_validate(plans[1].get("report", {}))
    scores = list(_scores((first, second), plans, read, rules, names))
    environments = [
        Table(f"Environment of {name}", one.heads, one.rows, one.note, folded=True, prose=True)
        for name, results, plan in zip(names, (first, second), plans, strict=True)
        for one in provenance.tables(results, plan)
    ]
    problems = [f"{name}: {text}" for name, one in zip(names, read, strict=True) for text in one.problems]
    sentences = [text for one in scores for text in one.sentences]
    if not sentences:
        sentences = ["Nothing was scored in both: neither accuracies nor answers that one judge has judged in both."]
    sections = [
        Section("finding", "What changed", sentences, [*_alone(*read, names), *problems]),
        Section(
            "differences",
            "Setting by setting",
            figures=[drawn for one in scores if not one.name for drawn in differences.draw(one.rows, one.margin)],
            tables=[table for one in scores for table in one.table(names)],
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
        f"bench report {names[0]} {names[1]} --compare",
        {"differences": pd.concat([one.rows.assign(score=one.name or "accuracy") for one in scores])} if scores else {},
    )


def _scores(
    results: tuple[Results, Results],
    plans: tuple[dict[str, Any], dict[str, Any]],
    read: tuple[ResultTables, ResultTables],
    rules: ReportConfig,
    names: tuple[str, str],
) -> Iterator[_Score]:
    """Every kind of score that trained cells of both have."""

    def between(first: ResultTables, second: ResultTables, margin: float) -> pd.DataFrame:
        found = comparison.between(first, second, margin)
        return found.assign(
            series=[f"{one} in {names[1]}" for one in found["series"]],
            baseline=[f"{one} in {names[0]}" for one in found["baseline"]],
        )

    if not any(trained_cells(one.cells).empty for one in read):
        yield _Score("", "Points of average accuracy", rules.tie_margin, 1, between(*read, rules.tie_margin))
    before, after = (
        {
            (one.judge, one.set): one
            for one in open_answers.panels(mine, judgments.read(folder, plan), folder.plan_record().baseline, rules)
        }
        for folder, plan, mine in zip(results, plans, read, strict=True)
    )
    for key, panel in after.items():
        if key in before:
            both = before[key], panel
            common = set(before[key].questions["question_id"]) & set(panel.questions["question_id"])
            pair = (_of_questions(mine, one, common) for mine, one in zip(read, both, strict=True))
            margin = rules.tie_margin * panel.hundredth
            rows = between(*pair, margin).assign(mcnemar_p=None, mcnemar_p_adjusted=None)
            left = max(one.questions["question_id"].nunique() for one in both) - len(common)
            apart = f" {left} judgments that one of them lacks count for neither." if left else ""
            doubt = next((one.doubt for one in both if one.doubt), "").strip()
            what = f"{doubt} Points from {panel.scale}".strip()
            yield _Score(panel.title, what, margin, 2, rows, f"{doubt}{apart}".strip())


def _of_questions(read: ResultTables, panel: open_answers.Panel, kept: set[str]) -> ResultTables:
    """A panel's cells as accuracies stand in frames, by some of its judgments alone."""
    rows = panel.questions[panel.questions["question_id"].isin(kept)]
    averages = 100 * rows.groupby("folder", observed=True)["correct"].mean()
    cells = panel.cells.assign(average=panel.cells["folder"].map(averages.to_dict()).astype(float))
    return replace(read, cells=cells, questions=rows)


def _names(first: Results, second: Results) -> tuple[str, str]:
    """What tells the two apart: as much of the ends of their paths as it takes."""
    mine, other = first.path.resolve(), second.path.resolve()
    if mine == other:
        raise UserError(
            f"{first.path} and {second.path} are one folder", "Give two: bench report BEFORE AFTER --compare"
        )
    for length in range(1, max(len(mine.parts), len(other.parts))):
        found = "/".join(mine.parts[-length:]), "/".join(other.parts[-length:])
        if found[0] != found[1]:
            return found
    return str(mine), str(other)


def _sentences(rows: pd.DataFrame, margin: float, digits: int) -> list[str]:
    """What differs beyond noise, and how many do not."""
    if rows.empty:
        return ["No setting was done in both, with the same questions, seed and training settings."]
    verdicts = rows["verdict"].value_counts()
    few, p = rows["verdict"] == SINGLE, rows["mcnemar_p_adjusted"].astype(float)
    changed = rows[rows["verdict"].isin(["better", "worse"]) | (few & (p < 1 - LEVEL))]
    said = comparisons(changed, margin, digits) if len(changed) <= MANY else []
    if len(changed) > MANY:
        largest = changed.reindex(changed["difference"].abs().sort_values(ascending=False).index).head(NAMED)
        named = ", ".join(f"{row.series} {row.difference:+.{digits}f}" for row in largest.itertuples())
        up = int((changed["difference"] > 0).sum())
        said.append(
            f"{len(changed)} settings changed beyond noise: {up} up, {len(changed) - up} down, the most: {named}."
        )
    untested = int((few & p.isna()).sum())
    if not len(changed) and not untested:
        said.append("Nothing changed beyond noise.")
    counts = {
        "tied": verdicts.get("tie", 0),
        "unresolved": verdicts.get("unresolved", 0),
        "of one seed that McNemar's test does not tell apart": int((few & (p >= 1 - LEVEL)).sum()),
        "of fewer than three seeds, which no test here judges": untested,
        "with exactly the same average": int((rows["difference"] == 0).sum()),
    }
    rest = [f"{count} {words}" for words, count in counts.items() if count]
    largest = rows.loc[rows["difference"].abs().idxmax()]
    adjusted = f" (adjusted p {p_text(largest['p_adjusted'])})" if pd.notna(largest["p_adjusted"]) else ""
    said.append(
        f"{len(rows)} settings were done in both: {'; '.join([f'{len(changed)} changed beyond noise', *rest])}. "
        f"The largest difference is {largest['difference']:+.2f} points{adjusted}."
    )
    return said


def _alone(first: ResultTables, second: ResultTables, names: tuple[str, str]) -> list[str]:
    """The settings that only one of the two has done."""
    done = [trained_cells(one.cells).assign(side=side) for side, one in enumerate((first, second))]
    both = pd.concat([one for one in done if len(one)] or done)
    if both.empty:
        return []
    both = both.assign(label=setting_labels(both))
    keys = [both[name].map(repr) for name in ("method", "options", "base", "samples", "training")]
    both = both.assign(setting=["|".join(one) for one in zip(*keys, strict=True)])
    sides = both.groupby("setting")["side"].agg(set)
    notes = []
    for side, name in enumerate(names):
        only = both[both["setting"].map(sides) == {side}]["label"]
        if len(only):
            notes.append(f"Done in {name} alone: {', '.join(dict.fromkeys(only))}.")
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
