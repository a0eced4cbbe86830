"""Two sweeps, or two versions of one, side by side: what changed in the scores beyond noise, and in the settings."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import pandas as pd
from pydantic import JsonValue

from bench.analysis import comparison
from bench.analysis.judgments import read_judgments
from bench.analysis.rescoring import QUESTION_KEY
from bench.analysis.result_tables import ResultTables, read_results, trained_cells
from bench.analysis.series import setting_labels
from bench.errors import UserError
from bench.judging.question_files import plan_with_questions
from bench.report.content import ReportContent, ReportSection
from bench.report.difference_table import differences_table
from bench.report.figures import differences
from bench.report.finding import NAMED, comparisons, p_text
from bench.report.judge_panels import JudgePanel, judge_panels
from bench.report.provenance import environment_table
from bench.report.table import ReportTable
from bench.statistics import LEVEL, SINGLE
from bench.store.folder import Results
from bench.store.recorded_sweep import read_sweep_file
from bench.store.records import PlanRecord
from bench.sweep.sections import ReportConfig

MANY = 3
"""More changes than this are counted instead of being said one by one."""


@dataclass(frozen=True)
class ComparedScore:
    """One kind of score that both sweeps have: the accuracy, or what one judge says of one set of questions."""

    name: str
    """Empty for the accuracy."""
    what: str
    """The quantity and its unit."""
    margin: float
    digits: int
    differences: pd.DataFrame
    """As `comparison.between` returns them."""
    doubt: str = ""
    """The warning that goes with everything that is said of it."""

    @property
    def sentences(self) -> list[str]:
        head = f"{self.name}: " if self.name else ""
        sentences = [f"{head}{sentence}" for sentence in _sentences(self.differences, self.margin, self.digits)]
        return [*sentences, f"{head}{self.doubt}"] if self.doubt else sentences

    def table(self, names: tuple[str, str]) -> list[ReportTable]:
        return differences_table(
            self.differences,
            f"{self.what}, {names[1]} minus {names[0]}",
            self.margin,
            f"Paired differences: {self.name}" if self.name else "Paired differences",
            paired="the same setting of both paired by seed, where both answered the same questions.",
        )


@dataclass(frozen=True)
class _Side:
    """One of the two sweeps."""

    name: str
    results: Results
    plan: PlanRecord
    tables: ResultTables

    @classmethod
    def of(cls, name: str, results: Results) -> _Side:
        plan, tables = plan_with_questions(results), read_results(results)
        plan = plan.model_copy(update={"baseline": comparison.done_baseline(tables.cells, plan.baseline)})
        return cls(name, results, plan, tables)

    def panels(self, rules: ReportConfig) -> dict[tuple[str, str], JudgePanel]:
        """By judge and set."""
        judgments = read_judgments(self.results, self.plan)
        panels = judge_panels(self.tables, judgments, self.plan.baseline, rules)
        return {(panel.judge, panel.set): panel for panel in panels}


def comparison_report(first: Results, second: Results) -> ReportContent:
    """The second sweep compared with the first, setting by setting.

    Raises UserError for a folder that holds no sweep, and where both are one.
    """
    names = _names(first, second)
    before, after = _Side.of(names[0], first), _Side.of(names[1], second)
    before, after, left_out = _on_common_tasks(before, after)
    scores = list(_compared_scores(before, after))
    environments = [
        ReportTable(f"Environment of {side.name}", table.heads, table.rows, table.note, folded=True, prose=True)
        for side in (before, after)
        for table in environment_table(side.results, side.plan)
    ]
    files = [(side, read_sweep_file(side.results).problem) for side in (before, after)]
    problems = [f"{side.name}: {text}" for side, problem in files for text in (*side.tables.problems, problem) if text]
    notes = [*left_out, *_only_in_one(before.tables, after.tables, names), *problems]
    sentences = [text for score in scores for text in score.sentences]
    if not sentences:
        sentences = ["Nothing was scored in both: neither accuracies nor answers that one judge has judged in both."]
    figures = [
        figure for score in scores if not score.name for figure in differences.draw(score.differences, score.margin)
    ]
    sections = [
        ReportSection("finding", "What changed", sentences, notes),
        ReportSection(
            "differences",
            "Setting by setting",
            figures=figures,
            tables=[table for score in scores for table in score.table(names)],
        ),
        ReportSection("settings", "Settings that differ", tables=_settings(first, second, names)),
        ReportSection("provenance", "Provenance", tables=environments),
    ]
    tables = [score.differences.assign(score=score.name or "accuracy") for score in scores]
    return ReportContent(
        f"{names[1]} against {names[0]}",
        [section for section in sections if not section.empty],
        read_sweep_file(second).text,
        f"bench report {shlex.join(names)} --compare",
        tables={"differences": pd.concat(tables)} if tables else {},
    )


def _compared_scores(before: _Side, after: _Side) -> Iterator[ComparedScore]:
    """Every kind of score that trained cells of both have."""
    rules = after.plan.report

    def between(first: ResultTables, second: ResultTables, margin: float) -> pd.DataFrame:
        rows = comparison.between(first, second, margin)
        return rows.assign(
            series=[f"{series} in {after.name}" for series in rows["series"]],
            baseline=[f"{series} in {before.name}" for series in rows["baseline"]],
        )

    if not any(trained_cells(side.tables.cells).empty for side in (before, after)):
        rows = between(before.tables, after.tables, rules.tie_margin)
        yield ComparedScore("", "Points of average accuracy", rules.tie_margin, 1, rows)
    earlier = before.panels(rules)
    for key, panel in after.panels(rules).items():
        if key not in earlier:
            continue
        both = earlier[key], panel
        common = set(both[0].questions["question_id"]) & set(panel.questions["question_id"])
        margin = rules.tie_margin * panel.hundredth
        rows = between(
            _of_questions(before.tables, both[0], common), _of_questions(after.tables, panel, common), margin
        ).assign(mcnemar_p=None, mcnemar_p_adjusted=None)
        left = max(side.questions["question_id"].nunique() for side in both) - len(common)
        excluded = f" {left} judgments that one of them lacks count for neither." if left else ""
        doubt = next((side.doubt for side in both if side.doubt), "").strip()
        what = f"{doubt} Points from {panel.scale}".strip()
        yield ComparedScore(panel.title, what, margin, 2, rows, f"{doubt}{excluded}".strip())


def _on_common_tasks(before: _Side, after: _Side) -> tuple[_Side, _Side, list[str]]:
    """Both sweeps with averages over the tasks whose questions both have answered, and a sentence on the
    tasks that are left out. Unchanged where all tasks are common, or none."""
    sides = before, after
    answered = [_question_sets(side.tables.questions) for side in sides]
    common = {key for key, questions in answered[0].items() if answered[1].get(key) == questions}
    rest = {name for sets in answered for name in set(sets) - common}
    if not common or not rest:
        return before, after, []
    restricted = [replace(side, tables=_restricted(side.tables, common)) for side in sides]
    compared, left = (", ".join(sorted({task for _, task in keys})) for keys in (common, rest))
    note = (
        f"Accuracies are averages over {compared}. {left}: not scored in both on the same questions, or "
        "near chance in one of them, so left out."
    )
    return restricted[0], restricted[1], [note]


def _question_sets(questions: pd.DataFrame) -> dict[tuple[str, str], frozenset[str]]:
    """The questions that any cell has answered, by protocol and task."""
    distinct = questions[QUESTION_KEY].drop_duplicates()
    groups = distinct.groupby(["protocol", "task"], observed=True)["question_id"]
    return {(str(protocol), str(task)): frozenset(rows) for (protocol, task), rows in groups}


def _restricted(tables: ResultTables, tasks: Collection[tuple[str, str]]) -> ResultTables:
    """The tables with averages over some tasks (protocol, task) alone; none for a cell that lacks one of them."""
    questions = tables.questions
    pairs = zip(questions["protocol"].astype(str), questions["task"].astype(str), strict=True)
    questions = questions[[pair in tasks for pair in pairs]]
    scores = questions.groupby(["folder", "protocol", "task"], observed=True)["correct"].mean()
    of_cell = scores.groupby("folder", observed=True)
    averages = 100 * of_cell.mean()[of_cell.size() == len(tasks)]
    cells = tables.cells.assign(average=tables.cells["folder"].map(averages.to_dict()).astype(float))
    return replace(tables, cells=cells, questions=questions)


def _of_questions(tables: ResultTables, panel: JudgePanel, questions: set[str]) -> ResultTables:
    """The cells of a panel, their averages being over some of its judgments alone."""
    rows = panel.questions[panel.questions["question_id"].isin(questions)]
    averages = 100 * rows.groupby("folder", observed=True)["correct"].mean()
    cells = panel.cells.assign(average=panel.cells["folder"].map(averages.to_dict()).astype(float))
    return replace(tables, cells=cells, questions=rows)


def _names(first: Results, second: Results) -> tuple[str, str]:
    """As much of the ends of both paths as it takes for them to differ."""
    before, after = first.path.resolve(), second.path.resolve()
    if before == after:
        raise UserError(
            f"{first.path} and {second.path} are one folder", "Give two: bench report BEFORE AFTER --compare"
        )
    for length in range(1, max(len(before.parts), len(after.parts))):
        names = "/".join(before.parts[-length:]), "/".join(after.parts[-length:])
        if names[0] != names[1]:
            return names
    return str(before), str(after)


def _sentences(rows: pd.DataFrame, margin: float, digits: int) -> list[str]:
    """What differs beyond noise, and how many do not."""
    if rows.empty:
        return ["No setting was done in both, with the same questions, seed and training settings."]
    verdicts = rows["verdict"].value_counts()
    few, p = rows["verdict"] == SINGLE, rows["mcnemar_p_adjusted"].astype(float)
    changed = rows[rows["verdict"].isin(["better", "worse"]) | (few & (p < 1 - LEVEL))]
    sentences = comparisons(changed, margin, digits) if len(changed) <= MANY else []
    if len(changed) > MANY:
        largest = changed.reindex(changed["difference"].abs().sort_values(ascending=False).index).head(NAMED)
        named = ", ".join(f"{row.series} {row.difference:+.{digits}f}" for row in largest.itertuples())
        up = int((changed["difference"] > 0).sum())
        sentences.append(
            f"{len(changed)} settings changed beyond noise: {up} up, {len(changed) - up} down, the most: {named}."
        )
    untested = int((few & p.isna()).sum())
    if not len(changed) and not untested:
        sentences.append("Nothing changed beyond noise.")
    counts = {
        "tied": verdicts.get("tie", 0),
        "inconclusive": verdicts.get("unresolved", 0),
        "of one seed that McNemar's test does not tell apart": int((few & (p >= 1 - LEVEL)).sum()),
        "of fewer than three seeds, which no test here judges": untested,
        "with exactly the same average": int((rows["difference"] == 0).sum()),
    }
    rest = [f"{count} {words}" for words, count in counts.items() if count]
    largest = rows.loc[rows["difference"].abs().idxmax()]
    adjusted = f" (adjusted p {p_text(largest['p_adjusted'])})" if pd.notna(largest["p_adjusted"]) else ""
    sentences.append(
        f"{len(rows)} settings were done in both: {'; '.join([f'{len(changed)} changed beyond noise', *rest])}. "
        f"The largest difference is {largest['difference']:+.2f} points{adjusted}."
    )
    return sentences


def _only_in_one(first: ResultTables, second: ResultTables, names: tuple[str, str]) -> list[str]:
    """The settings that only one of the two has done."""
    done = [trained_cells(tables.cells).assign(side=side) for side, tables in enumerate((first, second))]
    both = pd.concat([cells for cells in done if len(cells)] or done)
    if both.empty:
        return []
    both = both.assign(label=setting_labels(both))
    keys = [both[name].map(repr) for name in ("method", "options", "base", "samples", "training")]
    both = both.assign(setting=["|".join(parts) for parts in zip(*keys, strict=True)])
    sides = both.groupby("setting")["side"].agg(set)
    notes = []
    for side, name in enumerate(names):
        only = both[both["setting"].map(sides) == {side}]["label"]
        if len(only):
            notes.append(f"Done in {name} alone: {', '.join(dict.fromkeys(only))}.")
    return notes


def _settings(first: Results, second: Results, names: tuple[str, str]) -> list[ReportTable]:
    """The keys of the resolved sweep files whose values differ."""
    before, after = (_flat(dict(read_sweep_file(results).content)) for results in (first, second))
    keys = dict.fromkeys([*before, *after])
    rows = [
        [key, str(before.get(key, "-")), str(after.get(key, "-"))] for key in keys if before.get(key) != after.get(key)
    ]
    return [ReportTable("Settings that differ", ["setting", *names], rows, prose=True)] if rows else []


def _flat(value: JsonValue, at: str = "") -> dict[str, JsonValue]:
    """A nested document by dotted keys."""
    parts: dict[str, JsonValue] = {}
    if isinstance(value, dict) and value:
        parts = {f"{at}.{name}" if at else name: part for name, part in value.items()}
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        parts = {f"{at}[{place}]": part for place, part in enumerate(value)}
    if not parts:
        return {at: value}
    return {key: leaf for name, part in parts.items() for key, leaf in _flat(part, name).items()}
