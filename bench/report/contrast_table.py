"""The contrasts of a sweep in sentences and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.contrasts import PRIMARY, RATES, TRENDS, Contrast, SweepComparisons
from bench.analysis.interval_text import half_width_text, interval_text
from bench.analysis.robustness import Robustness
from bench.analysis.tie_margin import TieMargin
from bench.report.content import ReportSection
from bench.report.difference_table import interval_parts, needed_text, optional_p_text
from bench.report.finding import adjusted_text, bound_text, more_seeds_text, points_text
from bench.report.robustness_table import robustness_sentences, robustness_table
from bench.report.table import ReportTable, filled_table, number_text

SENTENCES = 6
"""More contrasts of a family than these are in the table alone, but for those that are told."""


def contrast_sentences(comparisons: SweepComparisons, margin: TieMargin, robustness: Robustness) -> list[str]:
    """What the contrasts say, a paragraph a family, and whether the secondary outcome agrees."""
    paragraphs = []
    for family in (PRIMARY, TRENDS, RATES):
        members = [contrast for contrast in comparisons.contrasts if contrast.family == family]
        shown = [contrast for contrast in members if contrast.answered] if len(members) > SENTENCES else members
        if family == TRENDS:
            # A trend that is not told is in the table: it was estimated for every method, and asked of none.
            shown = [contrast for contrast in members if contrast.answered]
        sentences = [_sentence(contrast, margin) for contrast in shown]
        if sentences:
            sentences += [_terms(shown, comparisons.sequential), *robustness_sentences(shown, robustness)]
            paragraphs.append(" ".join(sentences))
    return [*([comparisons.look] if comparisons.look else []), *paragraphs]


def contrast_section(
    comparisons: SweepComparisons,
    margin: TieMargin,
    robustness: Robustness,
    looks: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ReportSection:
    """The table of contrasts, with what to know of them, after the looks that they had."""
    tables = [*_table(comparisons, margin), *robustness_table(comparisons.contrasts, robustness)]
    return ReportSection("contrasts", "Contrasts", looks, [*notes, *comparisons.problems], tables=tables)


def margin_sentence(margin: TieMargin) -> str:
    """`The margin of a tie is 0.9 points (20 % of the gain: ...).`"""
    if margin.points <= 0:
        return f"There is no margin for ties: {margin.reason}."
    return f"The margin of a tie is {points_text(margin.points)} ({margin.reason})."


def _sentence(contrast: Contrast, margin: TieMargin) -> str:
    """A contrast with its estimate, its interval and its verdict."""
    estimate, result = contrast.judged.estimate, contrast.judged.result
    interval = result.interval
    assert interval is not None  # a contrast has three seeds or more
    text = interval_text(interval.low, interval.high, "+.2f")
    numbers = f"{estimate.mean:+.2f} points {text}"
    if contrast.per_doubling:
        numbers = f"{estimate.mean:+.2f} {text}"
    adjusted = adjusted_text(result.p_adjusted)
    more = more_seeds_text(contrast.judged.seeds_needed, estimate.lasting_error)
    if contrast.verdict == "unresolved":
        what = contrast.of if contrast.against is None else f"{contrast.of} and {contrast.against}"
        bound = f"by at most {contrast.bound:.1f} points"
        if contrast.per_doubling:
            subject = what if contrast.against is None else f"the difference of {what}"
            return f"{_capital(subject)} changes {bound} per doubling of {contrast.per_doubling}: {numbers}{adjusted}."
        return f"{_capital(what)} differ {bound} either way{_where(contrast)}: {numbers}{adjusted}; {more}."
    if contrast.per_doubling:
        subject = contrast.of if contrast.against is None else f"the difference {contrast.of} - {contrast.against}"
        way = "rises" if contrast.verdict == "better" else "falls"
        return f"{_capital(subject)} {way} per doubling of {contrast.per_doubling}: {numbers}{adjusted}."
    if contrast.verdict == "tie":
        alike = f"within {points_text(margin.points)}{adjusted_text(result.tie_p_adjusted)}"
        return f"{_capital(contrast.of)} and {contrast.against} are equivalent{_where(contrast)}: {numbers} ({alike})."
    word = "better" if contrast.verdict == "better" else "worse"
    return f"{_capital(contrast.of)} is {word} than {contrast.against}{_where(contrast)}: {numbers}{adjusted}."


def _where(contrast: Contrast) -> str:
    base = f" on {contrast.base}" if contrast.base else ""
    measure = f" {contrast.measure}" if contrast.measure else ""
    return f"{base}{measure}, mean over {contrast.over}" if contrast.over else f"{base}{measure}"


def _capital(text: str) -> str:
    """Names of methods stay as they are."""
    return f"T{text[1:]}" if text.startswith("the ") else text


def _terms(shown: Sequence[Contrast], sequential: bool) -> str:
    seeds = sorted({contrast.judged.estimate.seeds for contrast in shown})
    over = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    with_questions = all(contrast.judged.estimate.spread is not None for contrast in shown)
    family = shown[0].judged.comparisons
    what = "verdicts" if sequential else "p"
    number = f"; {what} adjusted for {family} comparisons (Holm)" if family > 1 else ""
    post_hoc = (
        "; post hoc: not in the plan before the first score" if any(contrast.post_hoc for contrast in shown) else ""
    )
    intervals = "repeated 95 % intervals" if sequential else "95 % intervals"
    return f"({intervals} over {over}{' and questions' if with_questions else ''}{number}{post_hoc}.)"


def _table(comparisons: SweepComparisons, margin: TieMargin) -> list[ReportTable]:
    if not comparisons.contrasts:
        return []
    rows = list(comparisons.contrasts)
    columns = {
        "contrast": [contrast.name for contrast in rows],
        "seeds": [str(contrast.judged.estimate.seeds) for contrast in rows],
        "estimate": [f"{contrast.judged.estimate.mean:+.2f}" for contrast in rows],
        "95 % (unadjusted)": [_interval(contrast) for contrast in rows],
        "± seeds": [half_width_text(contrast.judged.seed_half, 2) for contrast in rows],
        "± questions": [_questions(contrast) for contrast in rows],
        "± learning rate": [_choice(contrast) for contrast in rows],
        "adjusted p": [optional_p_text(contrast.judged.result.p_adjusted) for contrast in rows],
        "adjusted p of a tie": [optional_p_text(contrast.judged.result.tie_p_adjusted) for contrast in rows],
        "seeds to tell": [
            needed_text(contrast.verdict, contrast.judged.seeds_needed, contrast.judged.estimate.lasting_error)
            for contrast in rows
        ],
        "verdict": [_verdict(contrast) for contrast in rows],
    }
    return [filled_table("Contrasts", columns, _note(rows, comparisons, margin))]


def _interval(contrast: Contrast) -> str:
    interval = contrast.judged.result.interval
    return "-" if interval is None else interval_text(interval.low, interval.high, "+.2f")


def _questions(contrast: Contrast) -> str:
    estimate = contrast.judged.estimate
    return number_text(estimate.question_half_width() if estimate.spread is not None else None, ".2f")


def _choice(contrast: Contrast) -> str:
    estimate = contrast.judged.estimate
    return number_text(estimate.choice_half_width() if estimate.choice_error else None, ".2f")


def _verdict(contrast: Contrast) -> str:
    if contrast.verdict == "unresolved":
        return bound_text(contrast.bound)
    if contrast.per_doubling:
        return "rises" if contrast.verdict == "better" else "falls"
    return contrast.verdict


def _note(rows: Sequence[Contrast], comparisons: SweepComparisons, margin: TieMargin) -> str:
    note = (
        "The questions that the sweep file names. "
        if comparisons.named
        else "No contrast is named in the sweep file, so these are the default ones: each series against the baseline, "
        "by the mean over all that both have, and the trend of each. "
    )
    late = [contrast.name for contrast in rows if contrast.post_hoc]
    if late and len(late) == len(rows):
        note += "All are post hoc: they were not in the plan before the first score. "
    elif late:
        note += f"Post hoc, not in the plan before the first score: {'; '.join(late)}. "
    families = (
        "Differences and trends are adjusted each for their own number (Holm)"
        if {contrast.family for contrast in rows} >= {PRIMARY, TRENDS}
        else "Each p is adjusted for the number of contrasts (Holm)"
    )
    if comparisons.sequential:
        families = (
            "It is the repeated one, by the boundary of the look at which the contrast was told, or of its last look; "
            "verdicts are adjusted for the number of contrasts (Holm), and there is no p"
        )
    if any(contrast.family == RATES for contrast in rows):
        families += (
            ". When the learning rate is off by a step: the mean score at the rates next to the chosen one, less that "
            "at the chosen; better is what loses less; a family of its own"
        )
    parts = interval_parts(any(contrast.judged.estimate.choice_error for contrast in rows))
    return (
        f"{note}Points of average accuracy, or of its slope; one number a seed. The interval holds for the tasks, not "
        f"for the questions that were asked: {parts} (docs/statistics.md). {families}. {margin_sentence(margin)}"
    )
