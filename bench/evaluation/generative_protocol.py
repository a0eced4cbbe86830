"""The protocols that read an answer from generated text: `llm-adapters-v1`, `loreft-v1` and `generative-v2`.

- `llm-adapters-v1` is LLM-Adapters' commonsense_evaluate.py (arXiv 2304.01933), which the DoRA paper's numbers were
  computed with: the wrapper's evaluation literal, whose white space differs from that of the training literal,
  including the 16 spaces at its end; 4 beams, no sampling, 32 new tokens, one prompt at a time; the text up to a
  repeated `### Response:`; the first match of the task's regex, case-sensitive; no match is wrong.
- `loreft-v1` is pyreft's examples/loreft (compute_metrics.py, greedy; arXiv 2404.03592): what follows the trigger in
  the text, stripped of white space, must equal the answer's name.
- `generative-v2` has no mismatch between training and evaluation: it uses the training prompt and greedy decoding with
  attention masks; the parser is that of `llm-adapters-v1`.

In the last two, the prompt's tokens are exactly those that training marks as prompt. White space at the end of the
prompt, and a character that shares a token with it (a colon and a line break in Llama 3's tokenizer), are left to the
model, because training supervises them with the answer (`bench.data.encoding.encode_pair`). In `loreft-v1` this is the
only difference from pyreft, which gives the newline after the instruction. Upstream decodes prompt and answer as
one text and parses all of it; here only the generated text is parsed. The results differ if a question itself contains
`### Response:` or the trigger.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.data.encoding import prompt_text
from bench.data.questions import LLM_ADAPTERS_EVALUATION_PROMPT, TRIGGER, Question, Rendered
from bench.data.sweep_data import SweepData
from bench.data.tasks import Task
from bench.environment import errors_only
from bench.evaluation.scoring import check_rows
from bench.evaluation.task_sample import run_lm_eval_task
from bench.evaluation.workload import PROTOCOL_TOKENS
from bench.hashing import short_hash
from bench.sweep.evaluation_identity import EvaluationIdentity

if TYPE_CHECKING:
    import pandas as pd
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task as LmEvalTask
    from transformers import PreTrainedTokenizerBase

RESPONSE = "### Response:"


@dataclass(frozen=True)
class GenerativeProtocol:
    """How a protocol builds the prompt and how it parses the answer."""

    prompt: Callable[[Question, Rendered, Task, PreTrainedTokenizerBase | None], str]
    """Of a question; the tokenizer is the model's, where it has one."""
    pattern: Callable[[Task, Sequence[Question]], str]
    """The regex whose only group is the answer, made for the questions of the evaluation."""
    num_beams: int = 1
    until: tuple[str, ...] = ()
    """Texts that end the generation, because the parser ignores what follows them."""


def evaluate_by_generation(lm: LM, data: SweepData, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task. One row for each question, in the task's order, with the generated text and the parsed answer.

    `lm` is any lm-eval model. `parsed` is the answer that the parser found, empty if it found none; `prediction` is
    the index of the choice with that name, -1 if there is none.
    """
    import pandas as pd

    items, clusters = data.rendered(identity.task), data.clusters(identity.task)
    definition = data.tasks[identity.task]
    task = generative_lm_eval_task(items, definition, identity, getattr(lm, "tokenizer", None))
    samples = run_lm_eval_task(lm, identity.task, task)
    rows = []
    for (question, _), sample in zip(items, samples, strict=True):
        prompt, parsed = sample.document["prompt"], sample.parsed
        names = _names(question, definition)
        rows.append(
            {
                "question_id": question.key,
                "cluster": clusters[question.key],
                "prompt_hash": short_hash(prompt),
                "text": sample.generated,
                "parsed": parsed,
                "prediction": names.index(parsed) if parsed in names else -1,
                "gold": question.label,
                "choices": len(question.choices),
                "acc": sample.metric("exact_match"),
                "protocol": identity.label,
                "task_version": identity.task_version,
            }
        )
    return check_rows(pd.DataFrame(rows))


@errors_only("lm_eval")
def generative_lm_eval_task(
    items: list[tuple[Question, Rendered]],
    task: Task,
    identity: EvaluationIdentity,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> LmEvalTask:
    """An lm-eval task over these questions: generation, regex filter and exact match are lm-eval's. The tokenizer is
    that of the model that will be asked."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    protocol = GENERATIVE[identity.protocol]
    documents = [
        {
            "id": question.key,
            "prompt": protocol.prompt(question, rendered, task, tokenizer),
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
                "max_gen_toks": PROTOCOL_TOKENS,
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

    Upstream's regexes are `answer1|...|answer5` and the like, whatever the number of choices. `metadata.parsed_answers`
    of a task's file gives that number; without it, the questions' choices do. The regexes ignore word boundaries:
    `answer10` is parsed as `answer1`, and `untrue` as `true`.
    """
    if task.wording.noun:
        most = max(len(question.choices) for question in questions)
        most = max(most, task.parsed_answers)
        names = task.wording.answer_names(("",) * most)
    else:
        names = tuple(dict.fromkeys(name for question in questions for name in _names(question, task)))
    # The longest first: with ten choices or more, `answer10` is not parsed as `answer1`.
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return rf"(?s)\A(?:(?!{re.escape(RESPONSE)}).)*?({alternatives})"


def loreft_pattern(task: Task, questions: Sequence[Question]) -> str:
    """pyreft's `extract_output`: all that follows the first trigger."""
    return rf"(?s){re.escape(TRIGGER)}(.*)"


def _names(question: Question, task: Task) -> tuple[str, ...]:
    """The answer that stands for each choice."""
    return tuple(name.strip() for name in task.wording.answer_names(question.choices))


def _evaluation_prompt(
    question: Question, rendered: Rendered, task: Task, tokenizer: PreTrainedTokenizerBase | None
) -> str:
    instruction = task.wording.llm_adapters_instruction(question.text, question.choices)
    return LLM_ADAPTERS_EVALUATION_PROMPT.format(instruction=instruction)


def _trained_prompt(
    question: Question, rendered: Rendered, task: Task, tokenizer: PreTrainedTokenizerBase | None
) -> str:
    """The part of the training text that is tokenized as its prompt."""
    if tokenizer is None:
        return rendered.contexts[0].rstrip()
    return prompt_text(tokenizer, rendered.contexts[0], rendered.continuations[0])


GENERATIVE = {
    # No `until`: upstream's beams continue after a repeated `### Response:`, and the best beam is cut there.
    "llm-adapters-v1": GenerativeProtocol(_evaluation_prompt, llm_adapters_pattern, num_beams=4),
    "loreft-v1": GenerativeProtocol(_trained_prompt, loreft_pattern),
    "generative-v2": GenerativeProtocol(_trained_prompt, llm_adapters_pattern, until=(RESPONSE,)),
}
"""By name; `bench.evaluation.protocols.PROTOCOLS` has the versions and the formats."""
