"""What judges say of open answers: tables, differences and sentences. Two judges or sets never share a column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis import comparison
from bench.analysis.judgments import Judged
from bench.analysis.result_tables import ResultTables, trained_cells
from bench.analysis.series import setting_labels
from bench.judging.judge_check import INFERIOR
from bench.judging.measures import Match, noise_of_mean, standings
from bench.report import published
from bench.report.finding import comparisons, lowered, span
from bench.report.tables import Table, differences_table
from bench.store.migrate import migrated
from bench.store.records import PlanRecord
from bench.sweep.sections import MT_BENCH, ReportConfig


@dataclass(frozen=True)
class Panel:
    """One judge's scores of the answers to one set of questions: a scale and an axis of its own."""

    judge: str
    """Its label."""
    name: str
    """Its name, with its label's end where another judge has the same name."""
    kind: str
    set: str
    low: float
    high: float
    cells: pd.DataFrame
    """Cells as in `ResultTables`; their `average` is the mean score over the judgments that all of them have, missing
    for a cell that lacks too many to be compared."""
    scores: pd.DataFrame
    """Rows of `Judged.scores`, each over all of its cell's own judgments."""
    questions: pd.DataFrame
    """Those judgments as `ResultTables.questions` has answers."""
    differences: pd.DataFrame
    noise: float | None
    """Half-width of what the judge's own noise does to a mean, 95 % of the time; None where it is not known."""
    useless: bool
    """Its check says that it cannot tell gold answers from others."""
    left_out: int
    """Judgments that some compared cell lacks, and that count for none of them."""
    partial: tuple[str, ...]
    """Names of the cells that lack too many to be compared."""

    @property
    def title(self) -> str:
        return f"{self.set}, judged by {self.name}"

    @property
    def scale(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    @property
    def hundredth(self) -> float:
        """Of the scale: where a point of 100 is a tie, this is."""
        return (self.high - self.low) / 100

    @property
    def doubt(self) -> str:
        """What must stand beside everything that this judge says; empty where nothing must."""
        return "This judge failed its check: its scores say nothing. " if self.useless else ""


MT_BENCH_QUESTIONS = 80
"""Questions of MT-Bench."""
WHOLE = 0.8
"""Share of its judgments that a cell must have to be compared with others."""


def panels(read: ResultTables, judged: Judged, baseline: str | None, rules: ReportConfig) -> list[Panel]:
    """Every judge's view of every set of questions."""
    return list(_panels(read, judged, baseline, rules))


def _panels(read: ResultTables, judged: Judged, baseline: str | None, rules: ReportConfig) -> Iterator[Panel]:
    scores = judged.scores()
    for (label, name), own in scores.groupby(["judge", "set"], sort=False):
        identity = judged.judges[label]
        low, high = identity.scale
        whole = set(own[own["n"] - own["missing"] >= WHOLE * own["n"]]["folder"])
        rows = judged.rows[(judged.rows["judge"] == label) & (judged.rows["set"] == name)]
        complete, left_out = _complete(rows[rows["folder"].isin(whole)])
        cells = read.cells.assign(average=read.cells["folder"].map(complete.groupby("folder")["score"].mean()))
        check = next((one for one in judged.checks.get(label, ()) if one.set == name and one.complete), None)
        each = complete.groupby("folder").size().max() if len(complete) else 0
        known = check is not None and check.noise is not None and each > 0
        adapted = rules.model_copy(update={"tie_margin": rules.tie_margin * (high - low) / 100})
        questions = _questions(complete)
        differences = comparison.differences(cells, baseline, questions, adapted)
        twins = [one for one, other in judged.judges.items() if other.name == identity.name]
        names = dict(zip(read.cells["folder"], read.cells["name"], strict=True))
        yield Panel(
            judge=label,
            name=identity.name if len(twins) == 1 else f"{identity.name} ({label[-8:]})",
            kind=identity.kind,
            set=name,
            low=low,
            high=high,
            cells=cells,
            scores=own,
            questions=questions,
            differences=differences.assign(mcnemar_p=None, mcnemar_p_adjusted=None),
            noise=noise_of_mean(check.noise, int(each)) if known else None,
            useless=any(one.failed for one in judged.checks.get(label, ())),
            left_out=left_out,
            partial=tuple(names[folder] for folder in own["folder"] if folder not in whole),
        )


def _complete(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The judgments that every cell has, and how many some cell lacks."""
    keys = ["question_id", "turn", "repeat"]
    cells = rows["folder"].nunique()
    have = rows[rows["score"].notna()].groupby(keys)["folder"].nunique()
    whole = have[have == cells].index
    asked = rows.groupby(keys).ngroups
    kept = rows.set_index(keys)
    return kept[kept.index.isin(whole)].reset_index(), asked - len(whole)


def _questions(rows: pd.DataFrame) -> pd.DataFrame:
    """Judgments as `ResultTables.questions` has answers: a row a question and turn, its question being its cluster."""
    own = rows["question_id"].astype(str)
    return pd.DataFrame(
        {
            "folder": pd.Categorical(rows["folder"]),
            "protocol": pd.Categorical(rows["judge"]),
            "task": pd.Categorical(rows["set"]),
            "question_id": pd.Categorical(own + ":" + rows["turn"].astype(str) + ":" + rows["repeat"].astype(str)),
            "cluster": pd.Categorical(own),
            "correct": rows["score"] / 100,  # an average over it comes out in points of 100
        }
    )


def finding(found: list[Panel], rules: ReportConfig, plan: dict[str, Any]) -> list[str]:
    """What the judges say, a paragraph each."""
    paragraphs = []
    for panel in found:
        if trained_cells(panel.cells).empty:
            continue
        asked = plan.get("open_questions", {}).get(panel.set, {}).get("n")
        part = (
            f"{asked} of its {MT_BENCH_QUESTIONS} questions, "
            if panel.set == MT_BENCH and asked and asked < MT_BENCH_QUESTIONS
            else ""
        )
        what = f"{part}likeness to a reference answer, which is not quality, " if panel.kind == "reference" else part
        said = [
            f"{panel.title} ({what}{panel.scale}): {lowered(span(panel.cells, digits=2))}",
            *_highest(panel),
            *comparisons(panel.differences, rules.tie_margin * panel.hundredth, digits=2),
            panel.doubt.strip(),
        ]
        paragraphs.append(" ".join(filter(None, said)))
    return paragraphs


def _highest(panel: Panel) -> list[str]:
    """The setting with the highest mean over its seeds; there are no development questions to choose one by."""
    done = trained_cells(panel.cells)
    means = done.assign(label=setting_labels(done)).groupby("label", sort=False)["average"].mean()
    if len(means) < 2:
        return []
    return [f"The highest is {means.idxmax()} ({means.max():.2f}), chosen by the very answers that it is the mean of."]


def warnings(found: list[Panel], judged: Judged) -> list[str]:
    """What keeps judges from being believed."""
    said = []
    for label, identity in judged.judges.items():
        own = [panel for panel in found if panel.judge == label]
        checks = judged.checks.get(label, [])
        if any(panel.useless for panel in own):
            said.append(
                f"{identity.name} cannot tell gold answers from others (its check is below): none of its scores says "
                "anything"
            )
        elif not checks and own:
            said.append(f"{identity.name} was not checked: `bench judge FOLDER --check` says whether it can judge")
        said += [
            f"the check of {identity.name} on {one.set} has {one.rated} of {one.wanted} judgments: `bench judge FOLDER "
            "--check` goes on"
            for one in checks
            if one.wanted and not one.complete and not one.failed
        ]
        models = judged.served.get(label, [])
        if len(models) > 1:
            said.append(f"{identity.name} answered as {', '.join(models)}: these are several judges under one name")
        said += [
            f"{panel.title}: {', '.join(panel.partial[:3])}{' and others' if len(panel.partial) > 3 else ''} lack more "
            "than a fifth of their judgments and are not compared"
            for panel in own
            if panel.partial
        ]
    return [*said, *judged.problems]


def tables(
    read: ResultTables,
    found: list[Panel],
    judged: Judged,
    plan: dict[str, Any],
    rules: ReportConfig = comparison.RULES,
) -> list[Table]:
    """Scores by cell and by category, differences, comparisons, and what was published."""
    made: list[Table] = []
    names = dict(zip(read.cells["folder"], read.cells["name"], strict=True))
    for panel in found:
        made.append(_scores(panel, names))
        made += _categories(panel, names, judged)
        made += differences_table(
            panel.differences,
            f"{panel.doubt}Points from {panel.scale}",
            rules.tie_margin * panel.hundredth,
            f"Paired differences: {panel.title}",
        )
    made += [*_answers(read), *_comparisons(read, judged, plan)]
    if MT_BENCH in plan.get("open_questions", {}):
        bases = set(read.cells["base"])
        drawn = any(published.comparable_scores(bases, plan, one.set, one.kind, one.name) for one in found)
        made.append(_published(drawn))
    return made


def _scores(panel: Panel, names: dict[str, str]) -> Table:
    turns = sorted(name for name in panel.scores if name.startswith("turn_") and panel.scores[name].notna().any())
    common = dict(zip(panel.cells["folder"], panel.cells["average"], strict=True))
    heads = ["cell", f"mean ({panel.scale})", "95 % over questions"]
    heads += ["mean of what all have"] if panel.left_out or panel.partial else []
    heads += [f"turn {name.removeprefix('turn_')}" for name in turns if len(turns) > 1] + ["judgments", "missing"]
    heads += ["by FastChat's parser", "missing to it", "parsers disagree"] if panel.kind == "openai" else []
    rows = []
    for row in panel.scores.itertuples():
        line = [names[row.folder], _two(row.mean), "-" if pd.isna(row.low) else f"[{row.low:.2f}, {row.high:.2f}]"]
        line += [_two(common[row.folder])] if panel.left_out or panel.partial else []
        line += [_two(getattr(row, name)) for name in turns if len(turns) > 1] + [str(row.n), str(row.missing)]
        line += [_two(row.fastchat), str(row.fastchat_missing), str(row.disagree)] if panel.kind == "openai" else []
        rows.append(line)
    note = (
        f"{panel.doubt}Scores from {panel.scale} that {panel.name} gave; an axis of its own, comparable with no other "
        "judge's. The interval resamples questions with all of their turns; it knows nothing of seeds. A judgment that "
        "could not be had or read is missing, and no zero."
    )
    if panel.left_out or panel.partial:
        note += (
            f" Cells are drawn and compared by what all of them have a judgment of: {panel.left_out} judgments that "
            "some cell lacks count for none, and a cell that lacks more than a fifth is left out."
        )
    if panel.kind == "reference":
        note += (
            " It is the likeness to a reference answer (chrF and ROUGE-L), not quality: a right answer in other words "
            "scores low, and so does a long one."
        )
    return Table(f"Open answers: {panel.title}", heads, rows, note)


def _two(value: Any) -> str:
    return "-" if pd.isna(value) else f"{value:.2f}"


def _categories(panel: Panel, names: dict[str, str], judged: Judged) -> list[Table]:
    own = judged.by_category()
    own = own[(own["judge"] == panel.judge) & (own["set"] == panel.set)]
    if own["category"].nunique() < 2:
        return []
    counts = own.groupby("category", sort=False)["count"].max()
    told = {(row.folder, row.category): row for row in own.itertuples()}
    rows = []
    for folder in panel.scores["folder"]:
        mine = [told.get((folder, name)) for name in counts.index]
        rows.append([names[folder], *("-" if one is None else _with_interval(one) for one in mine)])
    note = f"{panel.doubt}Means from {panel.scale}, with 95 % over questions; n: judgments, in the cell that has most."
    heads = ["cell", *(f"{name} (n={count})" for name, count in counts.items())]
    return [Table(f"By category: {panel.title}", heads, rows, note)]


def _with_interval(row: Any) -> str:
    return f"{row.mean:.2f}" + ("" if pd.isna(row.low) else f" [{row.low:.1f}, {row.high:.1f}]")


def _answers(read: ResultTables) -> list[Table]:
    """How long the answers are: what is long is judged otherwise, by any judge."""
    done = read.cells[read.cells["answers"].notna()]
    if done.empty:
        return []
    rows = [
        [
            row.name,
            f"{row.answers:.0f}",
            "-" if pd.isna(row.answer_tokens) else f"{row.answer_tokens / row.answers:.0f}",
            f"{row.answers_cut:.0f}",
        ]
        for row in done.itertuples()
    ]
    note = (
        "Tokens of an answer on the mean, and how many answers ended at the limit of tokens instead of by themselves."
    )
    return [Table("Length of the answers", ["cell", "answers", "tokens each", "cut off"], rows, note)]


def _comparisons(read: ResultTables, judged: Judged, plan: dict[str, Any]) -> list[Table]:
    """Who wins where a judge set cells against one another."""
    made = []
    series = dict(zip(read.cells["folder"], setting_labels(read.cells), strict=True))
    methods = dict(zip(series.values(), read.cells["method"], strict=True))
    for (label, name), rows in judged.pairs.groupby(["judge", "set"], sort=False):
        matches, missing = _matches(rows[rows["model_1"].isin(series) & rows["model_2"].isin(series)], series)
        players = list(dict.fromkeys(one for match in matches for one in (match.first, match.second)))
        if not matches:
            continue
        method = PlanRecord.model_validate(migrated(plan, PlanRecord)).baseline
        baseline = next((one for one in players if methods[one] == method), players[0])
        linked = _linked(baseline, matches)
        table = standings(
            [one for one in players if one in linked], [one for one in matches if one.first in linked], baseline
        )
        lines = [
            [
                one.player,
                f"{100 * one.win_rate:.1f}",
                f"{one.wins:g}",
                f"{one.ties:g}",
                f"{one.losses:g}",
                f"{one.elo:+.0f}",
                f"[{one.interval.low:+.0f}, {one.interval.high:+.0f}]" if one.interval else "-",
            ]
            for one in table
        ]
        useless = any(one.failed for one in judged.checks.get(label, ()))
        note = (
            f"{'This judge failed its check: its verdicts say nothing. ' if useless else ''}"
            f"{judged.judges[label].name} was shown each two answers in both orders; a win is one in both, anything "
            "else a tie (FastChat). Win rate: ties count half. Strength: Bradley and Terry's on Elo's scale, "
            f"{baseline} at 0, with the interval over questions; seeds are pooled. {missing} matches lack a verdict."
        )
        if len(linked) < len(players):
            note += f" {len(players) - len(linked)} series have no link to {baseline} and are left out."
        heads = ["series", "win rate %", "wins", "ties", "losses", "strength", "95 % over questions"]
        made.append(Table(f"Compared in pairs: {name}, by {judged.judges[label].name}", heads, lines, note))
    return made


def _linked(anchor: str, matches: list[Match]) -> set[str]:
    """Who has met the anchor, or one who has: only their strengths can be told from its."""
    found: set[str] = set()
    fresh = {anchor}
    while fresh:
        found |= fresh
        met = [(one.first, one.second) for one in matches if {one.first, one.second} & fresh]
        fresh = {name for pair in met for name in pair} - found
    return found


def _matches(rows: pd.DataFrame, series: dict[str, str]) -> tuple[list[Match], int]:
    """Both games of two cells on a turn as one match; those without two verdicts are counted."""
    games: dict[Any, dict[str, float]] = {}
    wanted: set[Any] = set()
    for row in rows.itertuples():
        low, high = sorted((row.model_1, row.model_2))
        key = (low, high, row.question_id, row.turn)
        if series[low] != series[high]:
            wanted.add(key)
        if isinstance(row.winner, str):
            first = {"A": 1.0, "B": 0.0, "tie": 0.5}[row.winner]
            games.setdefault(key, {})[row.model_1] = first if row.model_1 == low else 1 - first
    found = []
    for (low, high, question, _), won in games.items():
        if len(won) == 2 and series[low] != series[high]:
            both = set(won.values())
            found.append(Match(series[low], series[high], question, both.pop() if len(both) == 1 else 0.5))
    return found, len(wanted) - len(found)


def checks(judged: Judged) -> list[Table]:
    """What each judge's check says."""
    rows = []
    for label, found in judged.checks.items():
        name = judged.judges[label].name
        for one in found:
            noise = "-" if one.noise is None else f"{one.noise:.2f}"
            came = f"{one.rated} of {one.wanted}"
            if not one.wanted:
                why = "no second reference answer" if judged.judges[label].kind == "reference" else "no gold answer"
                rows.append([name, one.set, f"not checkable: {why}", "-", "-", "-", "-", "-"])
            elif not one.separations:
                rows.append([name, one.set, "no judgment that could be read", "-", "-", came, noise, "no"])
            for kind, told in one.separations.items():
                interval = f"[{told.interval.low:.2f}, {told.interval.high:.2f}]"
                verdict = "no: below 0.8" if told.insufficient else "yes" if one.complete else "not whole"
                rows.append([name, one.set, INFERIOR[kind], f"{told.auc:.2f}", interval, came, noise, verdict])
    if not rows:
        return []
    heads = ["judge", "set", "gold answers against", "AUC", "95 %", "judgments", "noise (s.d.)", "tells them apart"]
    note = (
        "The chance that a gold answer scores above another one (0.5: by luck). The gold answer is the reference, "
        "which the judge is not shown; for the judge named reference, which measures likeness to it, a second one "
        "written independently. Noise: the s.d. of one judgment, from the same answers judged twice."
    )
    return [Table("Can the judges judge?", heads, rows, note)]


def _published(drawn: bool) -> Table:
    scores = published.read("dora_mt_bench")
    margins = published.read("dora_mt_bench_margins")
    rows = [
        [row.method, row.base, f"{row.samples:,}", f"{row.score:.1f}", published.SOURCES["dora_mt_bench"]]
        for row in scores.itertuples()
    ]
    rows += [
        [f"{row.method} over {row.baseline}", row.base, f"{row.samples:,}", f"{row.margin:+.2f}", "section 5.4"]
        for row in margins.itertuples()
    ]
    note = (
        "Drawn in the figure. "
        if drawn
        else "Another base model, data or judge: not comparable with the scores above. "
    ) + "The values of the paper's curve at 1,000, 4,000 and 7,000 samples were never printed, but for these margins."
    return Table("Published MT-Bench scores", ["method", "base", "samples", "score", "source"], rows, note)
