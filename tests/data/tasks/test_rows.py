"""The commonsense tasks' rows: the same question from the hub and from LLM-Adapters' files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.questions import HUB_ROWS

from bench.data.questions import render
from bench.data.tasks import commonsense_tasks
from bench.data.tasks.rows import FROM_HUB, from_hub, from_llm_adapters


@pytest.mark.parametrize("task", FROM_HUB)
def test_a_question_is_the_same_from_either_origin(task: str) -> None:
    row, instruction, answer = HUB_ROWS[task]
    wording = commonsense_tasks()[task].wording
    hub = from_hub(task, row)
    assert wording.llm_adapters_instruction(hub.text, hub.choices) == instruction
    assert from_llm_adapters(task, {"instruction": instruction, "answer": answer}, wording) == hub


def test_rendering_equals_llm_adapters_files(shared: Path) -> None:
    tasks = commonsense_tasks()
    for name in ("boolq_closed", "arc_easy", "arc_challenge", "openbookqa"):
        task = tasks[name]
        for split in ("train", "test"):
            path = shared / "data" / "commonsense" / task.source.folder / f"{split}.json"
            for row in json.loads(path.read_text()):
                question = from_llm_adapters(name, row, task.wording)
                rendered = render(question, task.wording, "llm_adapters")
                assert f"### Instruction:\n{' ' * 16}{row['instruction']}\n" in rendered.contexts[0]
                assert rendered.continuations[question.label] == row["output"]
