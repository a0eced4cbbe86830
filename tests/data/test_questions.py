"""Questions as text."""

from __future__ import annotations

import pytest

from bench.data.questions import Question, Wording, render


def test_fill_in_and_completion_forms() -> None:
    blank = render(Question("t", "The _ sleeps.", ("cat", "dog"), 1), Wording(form="blank"), "question")
    assert blank.contexts == ("The cat", "The dog")
    assert blank.continuations == (" sleeps.", " sleeps.")
    ending = render(
        Question("t", "Go: [header] On [title] they", ("[step] run", "sit"), 0),
        Wording(form="completion", strip_brackets=True),
        "question",
    )
    assert (ending.contexts[0], ending.continuations) == ("Go: On. they", ("  run", " sit"))
    with pytest.raises(ValueError, match="no '_'"):
        render(Question("t", "No blank", ("a", "b"), 0), Wording(form="blank"), "question")
