"""The comparison in sentences."""

from __future__ import annotations

import math

from helpers.tables import ONE_SETTING, baseline_of, cells_of, compared, said
from scipy import stats

from bench.analysis.comparison import done_baseline
from bench.report.finding import noise_text, span, uncompared
from bench.statistics import SeedEstimate, compare_family
from bench.sweep.sections import ReportConfig


def test_the_noise_floor_is_said() -> None:
    rows = [{"method": "lora", "rank": rank, "seed": s, "average": 50.0 + s} for rank in (4, 8) for s in range(2)]
    limit = stats.t.ppf(0.975, 2) * math.sqrt(2 * 0.5)
    assert f"lie up to {limit:.1f} points apart, 95 % of the time (s.d. over seeds 0.71, 2 degrees" in noise_text(
        cells_of(rows)
    )
    assert "nothing here says how far a seed alone moves a score" in noise_text(cells_of(rows[:1]))
    assert "one seed each" in said(rows[:1])[-1] and "one seed each" not in said(rows)[-1]


def seeded(method: str, rank: int | None, leads: tuple[float, ...]) -> list[dict]:
    """A setting whose cells lie so many points over LoRA's 50, a seed each."""
    return [{"method": method, "rank": rank, "seed": s, "average": 50 + lead} for s, lead in enumerate(leads)]


def test_one_sentence_says_every_verdict_of_a_series() -> None:
    rows = [row for rank in (4, 8, 16, 32, 64) for row in seeded("lora", rank, (0, 0, 0))]
    rows += seeded("dora", 4, (3, 3.1, 3.2)) + seeded("dora", 8, (-3, -3.1, -3.2))
    rows += seeded("dora", 16, (0.1, 0.2, 0.0)) + seeded("dora", 32, (0.1, 0.0, 0.2)) + seeded("dora", 64, (-1, 0, 4))
    first, *rest = said(rows)
    # The half-widths by hand: t(0.975, 2) = 4.303 times the s.d. (0.1; 2.646) over the root of three.
    assert first.startswith(
        "dora beats lora at rank 4 by 3.1 points [2.9, 3.3]; it is worse at rank 8 by 3.1 points [2.9, 3.3]; it is a "
        "tie at rank 16 and at rank 32 (within 1 point); they differ by at most 7.6 points at rank 64 "
        "(+1.0 [-5.6, 7.6], adjusted p "
    )
    assert first.endswith(
        " seeds would tell, if difference and spread stayed so) (100 samples; intervals: 95 % over 3 seeds; verdicts "
        "adjusted for their number)."
    )
    assert rest == ["The 30 trained cells score 46.8 to 54.0."]


def test_few_seeds_speak_of_runs() -> None:
    rows = [row for rank in (4, 8) for row in seeded("lora", rank, (0,)) + seeded("dora", rank, (rank - 4.0,))]
    assert said(rows)[0] == (
        "Beside lora, dora scored +0.0 points at rank 4 and +4.0 points at rank 8; with one run each this speaks of "
        "these runs, not of the methods (100 samples)."
    )


def test_many_comparisons_are_counted_and_speak_of_runs() -> None:
    sentences = said(ONE_SETTING)
    assert sentences == [
        "Of 30 comparisons with lora, of one run each: -18.0 to +9.0 points. This speaks of these runs, not of the "
        "methods.",
        "The 31 trained cells score 40.0 to 67.0, the untuned base 42.0 (3 of them no higher); one seed each, so how "
        "far a seed alone moves a score is not known.",
    ]


def test_many_comparisons_with_seeds_are_counted_by_verdict_and_those_that_tell_are_named() -> None:
    found = seeded("lora", 4, (0, 0, 0))
    for i in range(5):
        found += seeded(f"better{i}", 4, (3, 3.1, 3.2)) + seeded(f"worse{i}", 4, (-3, -3.1, -3.2))
        found += seeded(f"tied{i}", 4, (0.1, 0.11, 0.1)) + seeded(f"single{i}", 4, (2,))
    found += seeded("unresolved", 4, (-4, 0, 5))
    sentences = said(found)
    assert sentences[0] == (
        "Of 16 comparisons with lora over 3 seeds each: 5 better (better0 at rank 4 +3.1, better1 at rank 4 +3.1, "
        "better2 at rank 4 +3.1, better3 at rank 4 +3.1 and 1 more), 5 worse (worse0 at rank 4 -3.1, worse1 at rank 4 "
        "-3.1, worse2 at rank 4 -3.1, worse3 at rank 4 -3.1 and 1 more), 5 tied (within 1 point), 1 inconclusive "
        "(at most 11.5 points either way). Verdicts are adjusted for their number (Holm)."
    )
    assert sentences[1].startswith("Of 5 comparisons with lora, of one run each: +2.0 to +2.0 points.")
    assert len(sentences) == 3


def test_what_is_compared_does_not_depend_on_what_is_done() -> None:
    """At equal ranks, though of each method one rank alone is done, and not the same."""
    rows = [row for rank in (8, 16) for name in ("lora", "dora") for row in seeded(name, rank, (0, 1, 2))]
    cells = cells_of(rows)
    apart = (cells["method"] == "lora") & (cells["rank"] == 16) | (cells["method"] == "dora") & (cells["rank"] == 8)
    assert compared(cells.assign(status=["failed" if one else "done" for one in apart])).empty


def test_a_cell_is_held_against_its_own_base() -> None:
    rows = [
        {"method": "base", "rank": None, "samples": 0, "base": base, "average": at}
        for base, at in (("a", 30.0), ("b", 60.0))
    ]
    rows += [{"method": "lora", "rank": 8, "base": base, "average": at} for base, at in (("a", 40.0), ("b", 65.0))]
    assert said(rows)[-1].startswith("The 2 trained cells score 40.0 to 65.0, the untuned bases 30.0 to 60.0; one seed")
    rows[-1]["average"] = 60.0
    assert "the untuned bases 30.0 to 60.0 (1 of them no higher)" in said(rows)[-1]
    assert "The trained cell scores 60.0, the untuned base 60.0 (it is no higher)" in said(rows[1::2])[-1]


def test_a_cell_as_good_as_the_majority_is_no_higher() -> None:
    """Whatever the order in which the two were summed."""
    shares = [62.2, 27.8, 25.07, 27.6]
    cells = cells_of([{"method": "lora", "rank": 8, "average": sum(shares) / 4}])
    assert "(it is no higher)" in span(cells, majority=sum(reversed(shares)) / 4 - 1e-12)


def test_a_chosen_baseline_may_be_without_a_rank() -> None:
    rows = seeded("lora", 8, (0, 0, 0)) + seeded("full", None, (3, 3.1, 3.2))
    found = compared(cells_of(rows), rules=ReportConfig(baseline="full"))
    assert list(found["series"]) == ["lora"] and list(found["baseline"]) == ["full"]


def test_methods_without_an_equal_are_named() -> None:
    def left(rows: list[dict]) -> list[str]:
        cells = cells_of(rows)
        return uncompared(cells, compared(cells), baseline_of(cells))

    full, tuning = ({"method": name, "rank": None, "average": 50.0} for name in ("full", "ln_tuning"))
    lora = [{"method": "lora", "rank": rank, "average": 50.0} for rank in (4, 8)]
    assert left([full, tuning]) == []  # none has a rank, so they are compared without
    assert left([*lora, full, {"method": "vera", "rank": 9, "average": 1.0}]) == [
        "Not compared pairwise (without a done lora run at equal rank, samples, seed, settings and questions): full, "
        "vera r9."
    ]
    assert left(lora) == left([*lora[:1], full]) == left(ONE_SETTING) == []
    assert left(
        [*lora[:1], {**full, "samples": 7}, {**tuning, "seed": 1}, {"method": "vera", "rank": 9, "average": 1.0}]
    ) == [
        "Not compared pairwise (without a done lora run at equal samples, seed, settings and questions): full n=7, "
        "ln_tuning n=100."
    ]


def test_a_wider_margin_makes_a_tie() -> None:
    differences = [SeedEstimate((2.0, 1.4, 1.6)), SeedEstimate((0.2, 0.1, 0.3))]
    assert [one.verdict for one in compare_family(differences, 1.0)] == ["better", "tie"]
    assert [one.verdict for one in compare_family(differences, 2.5)] == ["tie", "tie"]


def test_the_rule_chooses_among_done_methods_where_the_baseline_is_not_done() -> None:
    rows = [
        {"method": "lora", "rank": 4, "average": None, "status": "failed"},
        {"method": "dora", "rank": 4, "average": 50.0},
        {"method": "vera", "rank": 4, "average": 49.0},
    ]
    assert done_baseline(cells_of(rows), "lora") == "dora"
    assert done_baseline(cells_of([*rows, {"method": "lora", "rank": 8, "average": 48.0}]), "lora") == "lora"
    assert done_baseline(cells_of(rows[:1]), "lora") == "lora"
