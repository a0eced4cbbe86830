"""The check of a judge: which answers it has rated, and what their ratings come to."""

from __future__ import annotations

import pytest

from bench.data.open_questions import OpenQuestion, Turn
from bench.judging import similarity
from bench.judging.judge_check import GOLD, OTHER, TRUNCATED, CheckResult, check_answers, check_results, truncated
from bench.judging.judgment_records import AnswerToRate, Rating


def question(number: int, references: int) -> OpenQuestion:
    """A question of two turns; its gold answers name it, the turn and the reference."""
    turns = (Turn(f"{number}?"), Turn("And?"))
    gold = tuple(
        (f"gold {number} one {reference} x y", f"gold {number} two {reference} x y") for reference in range(references)
    )
    return OpenQuestion(number, "math", turns, gold)


def test_gold_answers_are_compared_with_answers_to_other_questions() -> None:
    sets = {"s": [question(number, 2) for number in range(5)], "single": [question(9, 1), question(8, 1)]}
    answers = check_answers(sets, needs_reference=True)
    assert {answer.set for answer in answers} == {"s"}  # the reference judge is checked by a second reference
    for answer in answers:
        gold = f"gold {answer.question.id} {'one' if answer.turn == 1 else 'two'} 1"
        assert answer.question.references == question(answer.question.id, 1).references
        if answer.model == OTHER:
            assert gold not in answer.answers[-1]
        elif answer.model == GOLD:
            assert answer.answers[-1] == f"{gold} x y"
        else:
            assert answer.answers[-1] == "gold " + str(answer.question.id)
        assert answer.answers[:-1] == ((f"gold {answer.question.id} one 1 x y",) if answer.turn == 2 else ())
    short = [OpenQuestion(n, "math", (Turn("?"),), ((str(n),),)) for n in range(5)]
    assert check_answers({"short": short}, needs_reference=False) == []  # truncated, they are the same
    blind = check_answers({"single": [question(9, 1), question(8, 1)]}, needs_reference=False)
    assert len(blind) == 2 * 2 * 4 and all(answer.blind for answer in blind)


@pytest.mark.parametrize(
    ("text", "start"), [("one", "one"), ("a b c d e f", "a b"), (" a\n b c d\te f g", " a\n b"), ("", "")]
)
def test_a_truncated_answer_is_its_first_third_of_words(text: str, start: str) -> None:
    assert truncated(text) == start


def ratings(scores: dict[str, list[float]]) -> list[Rating]:
    """Ratings of a set of questions, by kind of answer; those of gold answers come twice, the second 3 higher."""
    rows: list[Rating] = []
    for kind, values in scores.items():
        for number, score in enumerate(values):
            asked = OpenQuestion(number, "math", (Turn("?"),), (("gold",),))
            for repeat in range(2 if kind == GOLD else 1):
                rating = similarity.rate(AnswerToRate("s", asked, 1, (kind,), kind, repeat))
                rating.score = score + 3 * repeat
                rows.append(rating)
    return rows


def test_a_check_has_its_separations_and_its_noise() -> None:
    rows = ratings({GOLD: [7, 8, 9], OTHER: [1, 2, 3], TRUNCATED: [7, 8, 9]})
    (check,) = check_results([*rows, rows[0]], {"s": len(rows)})
    assert (check.set, check.wanted, check.rated, check.complete) == ("s", 12, 12, True)
    assert check.separations[OTHER].auc == 1 and check.separations[TRUNCATED].auc == 0.5 and check.failed
    assert check.noise == pytest.approx(3 / 2**0.5)


def test_a_check_without_ratings_fails_unless_none_are_wanted() -> None:
    silent, impossible = check_results([], {"s": 4, "none": 0})
    assert silent == CheckResult("s", {}, None, wanted=4, rated=0)
    assert silent.failed and not silent.complete
    assert not impossible.failed and not impossible.complete
    (partial,) = check_results(ratings({GOLD: [7, 8], OTHER: [1, 2]}), {"s": 7})
    assert not partial.failed and not partial.complete
