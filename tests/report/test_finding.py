"""The comparison in sentences."""

from __future__ import annotations

import math

from cells import ONE_SETTING, said
from scipy import stats

from bench.statistics import judge


def test_the_noise_floor_is_said() -> None:
    rows = [{"method": "lora", "rank": rank, "seed": s, "average": 50.0 + s} for rank in (4, 8) for s in range(2)]
    limit = stats.t.ppf(0.975, 2) * math.sqrt(2 * 0.5)
    assert f"lie up to {limit:.1f} points apart, 95 % of the time (s.d. over seeds 0.71, 2 degrees" in said(rows)[0]
    assert "nothing here says how far a seed alone moves a score" in said(rows[:1])[0]


def test_many_comparisons_are_counted_and_speak_of_runs() -> None:
    sentences = said(ONE_SETTING)
    assert len(sentences) == 5
    assert sentences[0] == (
        "Of 20 comparisons with lora at equal rank and samples, with one seed each: 1 above it, 18 below it, 1 level "
        "with it (-18.0 to +1.0 points). This speaks of these runs, not of the methods."
    )
    assert "Not compared pairwise" in sentences[2] and "full, vera r256, peft20 r20" in sentences[2]
    assert "peft19 r32" not in sentences[2]


def test_many_comparisons_with_seeds_are_counted_by_verdict() -> None:
    def rows(method: str, leads: tuple[float, ...]) -> list[dict]:
        return [{"method": method, "rank": 4, "seed": s, "average": 50 + lead} for s, lead in enumerate(leads)]

    found = rows("lora", (0, 0, 0))
    for i in range(3):
        found += rows(f"better{i}", (3, 3.1, 3.2)) + rows(f"worse{i}", (-3, -3.1, -3.2))
        found += rows(f"tied{i}", (0.1, 0.2, 0.0)) + rows(f"single{i}", (2,))
    found += rows("unresolved", (-4, 0, 5))
    sentences = said(found)
    assert "over three seeds or more each: 3 better, 3 worse, 3 tied, 1 unresolved." in sentences[0]
    assert "adjusted for their number (Holm)" in sentences[0]
    assert sentences[1].startswith("The unresolved would take ") and "seeds each" in sentences[1]
    assert "Of 3 comparisons" in sentences[2] and "not of the methods" in sentences[2]
    assert "Each stands in the table" in sentences[3]
    assert "The noise floor" in sentences[4]
    assert len(sentences) == 5


def test_methods_without_an_equal_are_named() -> None:
    full, tuning = ({"method": name, "rank": None, "average": 50.0} for name in ("full", "ln_tuning"))
    lora = [{"method": "lora", "rank": rank, "average": 50.0} for rank in (4, 8)]
    assert said([full, tuning])[0] == "Not compared pairwise (none has a rank): full, ln_tuning."
    assert said([*lora, full, {"method": "vera", "rank": 9, "average": 1.0}])[0] == (
        "Not compared pairwise (without a rank, or without a done lora run at equal rank, samples, seed, settings and "
        "questions): full, vera r9."
    )
    assert not any("Not compared" in sentence for sentence in said(lora))


def test_a_wider_margin_makes_a_tie() -> None:
    differences = [[2.0, 1.4, 1.6], [0.2, 0.1, 0.3]]
    assert [one.verdict for one in judge(differences, 1.0)] == ["better", "tie"]
    assert [one.verdict for one in judge(differences, 2.5)] == ["tie", "tie"]
