"""What judges say of open answers: tables, differences and sentences. Two judges or sets never share a column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench import frames
from bench.judging.checking import KINDS
from bench.judging.frames import Judged
from bench.judging.judgments import baseline_of
from bench.judging.measures import Match, noise_of_mean, standings
from bench.report import published
from bench.report.finding import noise_text, sentence
from bench.report.tables import Table, differences_table
from bench.sweep import ReportConfig


@dataclass(frozen=True)
class Panel:
    """One judge's scores of the answers to one set of questions: a scale and an axis of its own."""

    judge: str
    """Its label."""
    name: str
    """Its name."""
    set: str
    low: float
    high: float
    cells: pd.DataFrame
    """Cells as in `Frames`, their `average` being the mean score."""
    scores: pd.DataFrame
    """Rows of `Judged.scores`."""
    differences: pd.DataFrame
    noise: float | None
    """Half-width of what the judge's own noise does to a mean, 95 % of the time; None where it is not known."""
    useless: bool
    """Its check says that it cannot tell gold answers from others."""
    left_out: int
    """Questions that lack a judgment in some cell: no cell's mean is compared on them."""

    @property
    def title(self) -> str:
        return f"{self.set}, judged by {self.name}"

    @property
    def scale(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    @property
    def margin(self) -> float:
        """Of a tie, where a point of 100 is one: a hundredth of the scale."""
        return (self.high - self.low) / 100


def panels(read: frames.Frames, judged: Judged, rules: ReportConfig) -> list[Panel]:
    """Every judge's view of every set of questions."""
    return list(_panels(read, judged, rules))


def _panels(read: frames.Frames, judged: Judged, rules: ReportConfig) -> Iterator[Panel]:
    scores = judged.scores()
    for (label, name), own in scores.groupby(["judge", "set"], sort=False):
        identity = judged.judges[label]
        cells = read.cells.assign(average=read.cells["folder"].map(own.set_index("folder")["mean"]))
        low, high = identity.scale
        rows = judged.rows[(judged.rows["judge"] == label) & (judged.rows["set"] == name)]
        complete, left_out = _complete(rows)
        compared = cells.assign(average=cells["folder"].map(complete.groupby("folder")["score"].mean()))
        check = next((one for one in judged.checks.get(label, ()) if one.set == name), None)
        noise = None if check is None or check.noise is None else noise_of_mean(check.noise, int(own["n"].median()))
        adapted = rules.model_copy(update={"tie_margin": rules.tie_margin * (high - low) / 100})
        one_rank = cells[cells["method"] != "base"].groupby("series")["rank"].nunique().max() <= 1
        differences = frames.differences(compared, _questions(complete), adapted, equal_rank=not one_rank)
        yield Panel(
            label,
            identity.name,
            name,
            low,
            high,
            cells,
            own,
            differences.assign(mcnemar_p=None, mcnemar_p_adjusted=None),
            noise,
            any(one.useless for one in judged.checks.get(label, ())),
            left_out,
        )


def _complete(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The judgments of those turns that have one in every cell, and how many turns have not."""
    keys = ["question_id", "turn", "repeat"]
    cells = rows["folder"].nunique()
    have = rows[rows["score"].notna()].groupby(keys)["folder"].nunique()
    whole = have[have == cells].index
    asked = rows.groupby(keys).ngroups
    kept = rows.set_index(keys)
    return kept[kept.index.isin(whole)].reset_index(), asked - len(whole)


def _questions(rows: pd.DataFrame) -> pd.DataFrame:
    """Judgments as `Frames.questions` has answers: a row a question and turn, its question being its cluster."""
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


def finding(found: list[Panel], rules: ReportConfig) -> list[str]:
    """What the judges say, in sentences."""
    sentences = []
    for panel in found:
        margin = rules.tie_margin * panel.margin
        head = f"{panel.title} ({panel.scale}): "
        done = panel.cells[panel.cells["average"].notna()]
        untuned = done[done["method"] == "base"]["average"]
        trained = done[done["method"] != "base"]["average"]
        if len(trained):
            span = f"the trained cells score {trained.min():.2f} to {trained.max():.2f}"
            base = f", the untuned base {untuned.mean():.2f}" if len(untuned) else ""
            sentences.append(f"{head}{span}{base}.{_doubt(panel)}")
        judged = panel.differences[panel.differences["verdict"] != "these two runs"]
        sentences += [f"{head}{sentence(row, margin, digits=2)}" for row in judged.itertuples()]
        alone = panel.differences.drop(judged.index)
        if len(alone):
            gaps = alone["difference"]
            sentences.append(
                f"{head}of {len(alone)} comparisons with {alone['baseline'].iloc[0]} with fewer than three seeds each, "
                f"{(gaps > 0).sum()} above it and {(gaps < 0).sum()} below ({gaps.min():+.2f} to {gaps.max():+.2f}). "
                "This speaks of these runs, not of the methods."
            )
        if len(trained):
            sentences.append(f"{head}{noise_text(done[done['method'] != 'base'])}")
    return sentences


def _doubt(panel: Panel) -> str:
    return " Its check says that this judge cannot tell good answers from bad ones." if panel.useless else ""


def warnings(found: list[Panel], judged: Judged) -> list[str]:
    """What keeps judges from being believed."""
    said = []
    for label, identity in judged.judges.items():
        own = [panel for panel in found if panel.judge == label]
        if any(panel.useless for panel in own):
            said.append(
                f"{identity.name} cannot tell gold answers from others (its check is below): none of its scores says "
                "anything"
            )
        elif label not in judged.checks and own:
            said.append(f"{identity.name} was not checked: `bench judge FOLDER --check` says whether it can judge")
    if judged.stale:
        said.append(f"{judged.stale} judgments are of answers that have been replaced since; they count for nothing")
    return said


def tables(read: frames.Frames, found: list[Panel], judged: Judged, plan: dict[str, Any]) -> list[Table]:
    """Scores by cell and by category, differences, comparisons, checks, and what was published."""
    made: list[Table] = []
    names = dict(zip(read.cells["folder"], read.cells["name"], strict=True))
    for panel in found:
        made.append(_scores(panel, names))
        made += _categories(panel, names, judged)
        made += differences_table(
            panel.differences,
            f"Points from {panel.scale}",
            panel.margin,
            f"Paired differences: {panel.title}",
        )
    made += [*_answers(read), *_comparisons(judged, plan), *_checks(judged)]
    if "mt_bench" in plan.get("open_questions", {}):
        made.append(_published())
    return made


def _scores(panel: Panel, names: dict[str, str]) -> Table:
    turns = sorted(name for name in panel.scores if name.startswith("turn_") and panel.scores[name].notna().any())
    openai = panel.scores["fastchat"].notna().any()
    heads = ["cell", f"mean ({panel.scale})", "95 % over questions"]
    heads += [f"turn {name.removeprefix('turn_')}" for name in turns if len(turns) > 1] + ["judgments", "missing"]
    heads += ["by FastChat's parser", "parsers disagree"] if openai else []
    rows = []
    for row in panel.scores.itertuples():
        interval = "-" if pd.isna(row.low) else f"[{row.low:.2f}, {row.high:.2f}]"
        line = [names[row.folder], f"{row.mean:.2f}", interval]
        line += [f"{getattr(row, name):.2f}" for name in turns if len(turns) > 1] + [str(row.n), str(row.missing)]
        rows.append(line + ([f"{row.fastchat:.2f}", str(row.disagree)] if openai else []))
    note = (
        f"Scores from {panel.scale} that {panel.name} gave; an axis of its own, comparable with no other judge's. The "
        "interval resamples questions with all of their turns; it knows nothing of seeds. A judgment that could not be "
        "had or read is missing, and no zero."
    )
    if panel.name == "reference":
        note += (
            " It is the likeness to a reference answer (chrF and ROUGE-L), not quality: a right answer in other words "
            "scores low, and so does a long one."
        )
    if panel.useless:
        note = f"This judge failed its check: its scores say nothing. {note}"
    return Table(f"Open answers: {panel.title}", heads, rows, note)


def _categories(panel: Panel, names: dict[str, str], judged: Judged) -> list[Table]:
    own = judged.by_category()
    own = own[(own["judge"] == panel.judge) & (own["set"] == panel.set)]
    if own["category"].nunique() < 2:
        return []
    wide = own.pivot(index="folder", columns="category", values="mean")
    counts = own.drop_duplicates("category").set_index("category")["count"]
    heads = ["cell", *(f"{name} (n={counts[name]})" for name in wide.columns)]
    rows = [
        [names[folder], *("-" if pd.isna(one) else f"{one:.2f}" for one in wide.loc[folder])]
        for folder in panel.scores["folder"]
    ]
    note = f"Means from {panel.scale}; n judgments each."
    return [Table(f"By category: {panel.title}", heads, rows, note)]


def _answers(read: frames.Frames) -> list[Table]:
    """How long the answers are: what is long is judged otherwise, by any judge."""
    done = read.cells[read.cells["answers"].notna()]
    if done.empty:
        return []
    rows = [
        [row.name, f"{row.answers:.0f}", f"{row.answer_tokens / row.answers:.0f}", f"{row.answers_cut:.0f}"]
        for row in done.itertuples()
    ]
    note = (
        "Tokens of an answer on the mean, and how many answers ended at the limit of tokens instead of by themselves."
    )
    return [Table("Length of the answers", ["cell", "answers", "tokens each", "cut off"], rows, note)]


def _comparisons(judged: Judged, plan: dict[str, Any]) -> list[Table]:
    """Who wins where a judge set cells against one another."""
    made = []
    series = {one["folder"]: _player(one) for one in plan["cells"]}
    for (label, name), rows in judged.pairs.groupby(["judge", "set"], sort=False):
        rows = rows[rows["model_1"].isin(series) & rows["model_2"].isin(series)]
        matches, missing = _matches(rows, series)
        players = list(dict.fromkeys(one for match in matches for one in (match.first, match.second)))
        if not matches:
            continue
        baseline = next((one for one in players if one.split()[0] == baseline_of(plan)), players[0])
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
            for one in standings(players, matches, baseline)
        ]
        note = (
            f"{judged.judges[label].name} was shown each two answers in both orders; a win is one in both, anything "
            "else a tie (FastChat). Win rate: ties count half. Strength: Bradley and Terry's on Elo's scale, "
            f"{baseline} at 0, with the interval over questions; seeds are pooled. {missing} matches lack a verdict."
        )
        heads = ["series", "win rate %", "wins", "ties", "losses", "strength", "95 % over questions"]
        made.append(Table(f"Compared in pairs: {name}, by {judged.judges[label].name}", heads, lines, note))
    return made


def _player(cell: dict[str, Any]) -> str:
    rank = f" r{cell['rank']}" if cell["rank"] is not None else ""
    return cell["method"] + rank + (f" n={cell['samples']:,}" if cell["method"] != "base" else "")


def _matches(rows: pd.DataFrame, series: dict[str, str]) -> tuple[list[Match], int]:
    """Both games of two cells on a turn as one match; those without two verdicts are counted."""
    games: dict[Any, dict[str, float]] = {}
    wanted: set[Any] = set()
    for row in rows.itertuples():
        low, high = sorted((row.model_1, row.model_2))
        key = (low, high, row.question_id, row.turn)
        wanted.add(key)
        if isinstance(row.winner, str):
            first = {"A": 1.0, "B": 0.0, "tie": 0.5}[row.winner]
            games.setdefault(key, {})[row.model_1] = first if row.model_1 == low else 1 - first
    found = []
    for (low, high, question, _), won in games.items():
        if len(won) == 2:
            both = set(won.values())
            found.append(Match(series[low], series[high], question, both.pop() if len(both) == 1 else 0.5))
    return found, len(wanted) - len(found)


def _checks(judged: Judged) -> list[Table]:
    """What each judge's check says."""
    rows = []
    for label, found in judged.checks.items():
        name = judged.judges[label].name
        sets = dict.fromkeys(judged.rows[judged.rows["judge"] == label]["set"])
        for one in found:
            for kind, told in one.separations.items():
                interval = f"[{told.interval.low:.2f}, {told.interval.high:.2f}]"
                noise = "-" if one.noise is None else f"{one.noise:.2f}"
                verdict = "no: below 0.8" if told.useless else "yes"
                rows.append([name, one.set, KINDS[kind], f"{told.auc:.2f}", interval, str(told.gold), noise, verdict])
        known = {one.set for one in found}
        why = "not checkable: no second reference answer"
        rows += [[name, other, why, "-", "-", "-", "-", "-"] for other in sets if other not in known]
    if not rows:
        return []
    heads = ["judge", "set", "gold answers against", "AUC", "95 %", "gold answers", "noise (s.d.)", "tells them apart"]
    note = (
        "The chance that a gold answer scores above another one (0.5: by luck). The gold answer is the reference, "
        "which the judge is not shown; for the judge named reference, which measures likeness to it, a second one "
        "written independently. Noise: the s.d. of one judgment, from the same answers judged twice."
    )
    return [Table("Can the judges judge?", heads, rows, note)]


def _published() -> Table:
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
        "Another base model, data or judge: not comparable with the scores above. The values of the paper's curve at "
        "1,000, 4,000 and 7,000 samples were never printed, but for these margins."
    )
    return Table("Published MT-Bench scores", ["method", "base", "samples", "score", "source"], rows, note)
