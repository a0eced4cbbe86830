"""The protocols that read an answer from generated text: `llm-adapters-v1`, `loreft-v1` and `generative-v2`.

- `llm-adapters-v1` is LLM-Adapters' commonsense_evaluate.py (arXiv 2304.01933), which the DoRA paper's numbers were
  made with: the wrapper's evaluation literal, whose white space differs from the training literal's, given whole with
  the 16 spaces at its end; 4 beams, no sampling, 32 new tokens, one prompt at a time; the text up to a repeated
  `### Response:`; the first match of the task's regex, case-sensitive; no match is wrong.
- `loreft-v1` is pyreft's examples/loreft (compute_metrics.py, greedy; arXiv 2404.03592): what follows the trigger in
  the text, stripped of white space, must equal the answer's name.
- `generative-v2` is the sound one: the prompt is the one trained on, decoding is greedy with attention masks, and the
  parser is that of `llm-adapters-v1`.

In the last two the prompt's tokens are exactly those that training marks as prompt: white space at the prompt's end is
the model's to say, because in training it was supervised with the answer (`encoding.encode_pair`). In `loreft-v1` this
is the one departure from pyreft, which gives the newline after the instruction. Upstream decodes prompt and answer as
one text and looks in that; here only what was generated is looked at, which differs where a question itself holds
`### Response:` or the trigger.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.data.questions import LLM_ADAPTERS_EVALUATION_PROMPT, TRIGGER, Question, Rendered, cluster
from bench.data.sweep_data import SweepData
from bench.data.tasks import Task
from bench.evaluation.scoring import check, samples_of
from bench.hashing import short_hash
from bench.sweep.identity import EvaluationIdentity

if TYPE_CHECKING:
    import pandas as pd

RESPONSE = "### Response:"
NEW_TOKENS = 32


@dataclass(frozen=True)
class Generative:
    """How a protocol asks and how it reads."""

    prompt: Callable[[Question, Rendered, Task], str]
    pattern: Callable[[Task, Sequence[Question]], str]
    """The regex whose one group is the answer, from the questions that are asked."""
    num_beams: int = 1
    until: tuple[str, ...] = ()
    """Texts after which nothing is generated, because the parser looks at nothing there."""


def evaluate(lm: Any, data: SweepData, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task. One row a question, in the task's order, with the generated text and what was read from it.

    `lm` is any lm-eval model. `parsed` is the answer as the parser found it, empty where it found none; `prediction`
    is the index of the choice with that name, -1 where there is none.
    """
    import pandas as pd

    items = data.rendered(identity.task)
    definition = data.tasks[identity.task]
    samples = samples_of(lm, identity.task, lm_eval_task(items, definition, identity))
    rows = []
    for (question, _), sample in zip(items, samples, strict=True):
        prompt, parsed = sample["doc"]["prompt"], sample["filtered_resps"][0]
        names = _names(question, definition)
        rows.append(
            {
                "question_id": question.key,
                "cluster": cluster(question),
                "prompt_hash": short_hash(prompt),
                "text": sample["resps"][0][0],
                "parsed": parsed,
                "prediction": names.index(parsed) if parsed in names else -1,
                "gold": question.label,
                "choices": len(question.choices),
                "acc": float(sample["exact_match"]),
                "protocol": identity.label,
                "task_version": identity.task_version,
            }
        )
    return check(pd.DataFrame(rows))


def lm_eval_task(items: list[tuple[Question, Rendered]], task: Task, identity: EvaluationIdentity) -> Any:
    """lm-eval's task over these questions: its generation, its regex filter, its exact match."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    protocol = GENERATIVE[identity.protocol]
    documents = [
        {
            "id": question.key,
            "prompt": protocol.prompt(question, rendered, task),
            "answer": _names(question, task)[question.label],
        }
        for question, rendered in items
    ]
    dataset = Dataset.from_list(documents)
    pattern = protocol.pattern(task, [question for question, _ in items])
    return ConfigurableTask(
        config={
            "task": identity.task,
            "output_type": "generate_until",
            "test_split": "test",
            "custom_dataset": lambda **_: {"test": dataset},
            "doc_to_text": "prompt",
            "doc_to_target": "answer",
            "generation_kwargs": {
                "until": list(protocol.until),
                "max_gen_toks": NEW_TOKENS,
                "do_sample": False,
                "num_beams": protocol.num_beams,
            },
            "filter_list": [
                {
                    "name": "parsed",
                    "filter": [
                        {"function": "regex", "regex_pattern": pattern, "group_select": 0, "fallback": ""},
                        {"function": "take_first"},
                    ],
                }
            ],
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": identity.task_version},
        }
    )


def llm_adapters_pattern(task: Task, questions: Sequence[Question]) -> str:
    """LLM-Adapters' first match, as one regex: the first of the task's answers in the text before `### Response:`.

    Its regexes are `answer1|...|answer5` and the like, whatever the number of choices; where a task's file does not
    say how far they go (`metadata.parsed_answers`), they go as far as the questions' choices. They stop at no word's
    end: `answer10` is read as `answer1`, and `untrue` as `true`.
    """
    if task.wording.noun:
        most = max(len(question.choices) for question in questions)
        most = max(most, task.metadata.get("parsed_answers", 0))
        names = task.wording.answer_names(("",) * most)
    else:
        names = tuple(dict.fromkeys(name for question in questions for name in _names(question, task)))
    # The longest first, so that with ten choices or more `answer10` is not read as `answer1`.
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return rf"(?s)\A(?:(?!{re.escape(RESPONSE)}).)*?({alternatives})"


def loreft_pattern(task: Task, questions: Sequence[Question]) -> str:
    """pyreft's `extract_output`: all that follows the first trigger."""
    return rf"(?s){re.escape(TRIGGER)}(.*)"


def _names(question: Question, task: Task) -> tuple[str, ...]:
    """What the model is to say for each choice."""
    return tuple(name.strip() for name in task.wording.answer_names(question.choices))


def _evaluation_prompt(question: Question, rendered: Rendered, task: Task) -> str:
    instruction = task.wording.llm_adapters_instruction(question.text, question.choices)
    return LLM_ADAPTERS_EVALUATION_PROMPT.format(instruction=instruction)


def _trained_prompt(question: Question, rendered: Rendered, task: Task) -> str:
    """The part of the training text that is tokenized as its prompt (`encoding.encode_pair`)."""
    return rendered.contexts[0].rstrip()


GENERATIVE = {
    # No `until`: upstream's beams go on after a repeated `### Response:`, and the best of them is cut.
    "llm-adapters-v1": Generative(_evaluation_prompt, llm_adapters_pattern, num_beams=4),
    "loreft-v1": Generative(_trained_prompt, loreft_pattern),
    "generative-v2": Generative(_trained_prompt, llm_adapters_pattern, until=(RESPONSE,)),
}
"""By protocol; the formats that each scores stand in `spec.PROTOCOLS`."""
