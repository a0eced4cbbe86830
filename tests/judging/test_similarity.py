"""The offline judge against sacrebleu's corpus score and a longest common subsequence written out here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.data.open_questions import OpenQuestion, Turn
from bench.judging import similarity
from bench.judging.ledger import cell_ratings
from bench.store.folder import CellFolder
from bench.sweep.evaluation_identity import AnswersIdentity

QUESTION = OpenQuestion(
    7, "stem", (Turn("Why?"), Turn("And?")), (("Because of the sun.", "Because of rain."), ("The sun it is.", "Rain."))
)


def lcs_f1(answer: str, other: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004)."""
    a, b = ("".join(c if c.isalnum() else " " for c in text.lower()).split() for text in (answer, other))
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, one in enumerate(a):
        for j, two in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if one == two else max(table[i][j + 1], table[i + 1][j])
    common = table[-1][-1]
    precision, recall = common / len(a), common / len(b)
    return 2 * precision * recall / (precision + recall) if common else 0.0


@pytest.mark.parametrize("answer", ["Because of the sun", "the sun, of course", "No idea at all", "sun"])
def test_similarity_is_the_mean_of_both_metrics(answer: str) -> None:
    from sacrebleu import corpus_chrf

    references = ["Because of the sun.", "The sun it is."]
    found = similarity.similarity(answer, references)
    assert found.rouge_l == pytest.approx(100 * max(lcs_f1(answer, one) for one in references), abs=1e-3)
    assert found.chrf == pytest.approx(max(corpus_chrf([answer], [[one]]).score for one in references), abs=1e-3)
    assert found.score == pytest.approx((found.chrf + found.rouge_l) / 2, abs=1e-3)
    assert 0 <= found.score <= 100


def test_the_same_text_is_100_and_none_is_0() -> None:
    assert similarity.similarity("Because of the sun.", ["Because of the sun."]).score == 100
    assert similarity.similarity(" ", ["Because of the sun."]) == similarity.Similarity(0.0, 0.0, 0.0)


def test_a_cells_judgments_are_of_its_answers_and_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CellFolder(tmp_path / "lora-r4-n8-s0-01234567")
    told = {"template": "alpaca", "temperature": "greedy", "max_new_tokens": 8, "dtype": "float32", "merged": True}
    first, second = (AnswersIdentity(set=name, questions="0", **told) for name in ("one", "two"))
    blank = OpenQuestion(8, "writing", (Turn("Write."),))  # no reference: not this judge's
    similarity.rate_cell(folder, first, [QUESTION, blank], {7: ["The sun.", "Rain."], 8: ["Words."]})
    similarity.rate_cell(folder, second, [QUESTION], {7: ["Rain."]})
    path = folder.judgments(similarity.judge_record().label)
    before = path.read_text()
    ratings = cell_ratings(folder, similarity.judge_record().label).read()
    assert [(rating.set, rating.turn) for rating in ratings] == [("one", 1), ("one", 2), ("two", 1)]
    assert ratings[1].score == 100 and ratings[2].score < ratings[0].score
    with monkeypatch.context() as patched:
        patched.delattr(similarity, "similarity")  # what is judged is not measured again
        similarity.rate_cell(folder, second, [QUESTION], {7: ["Rain."]})
    assert path.read_text() == before
    assert all(json.loads(line)["judge"][0] == similarity.judge_record().label for line in before.splitlines())
