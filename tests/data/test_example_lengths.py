"""What a limit cuts of the training examples, by set, and how."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.sweeps import bench, tiny_tokenizer
from transformers import AutoTokenizer

from bench.data.encoding import encode, encode_all
from bench.data.example_lengths import check_supervised, length_sentences, set_lengths, suggested_limit
from bench.data.examples import Example
from bench.errors import CellProblem
from bench.store.folder import Results
from bench.store.records import SetLengths
from bench.sweep.sections import TrainingConfig


def test_a_limit_cuts_the_prompts_beginning_and_then_the_answers_end(tiny_model: Path) -> None:
    """A token is a byte here, and the end-of-text token counts."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    fits, prompt_cut, answer_cut = (
        encode(tokenizer, Example(prompt, answer), 16, append_eos=True)
        for prompt, answer in [("p" * 10, "a" * 5), ("p" * 10, "a" * 6), ("p", "a" * 15)]
    )
    assert (fits.truncated, fits.length, fits.answer_cut) == (False, 16, 0)
    assert (prompt_cut.truncated, prompt_cut.length, prompt_cut.answer_cut) == (True, 17, 0)
    # The prompt has its one token left; the answer alone is cut, which counts, too.
    assert (answer_cut.truncated, answer_cut.prompt_length, answer_cut.answer_cut) == (True, 1, 1)
    assert answer_cut.ids[-1] != tokenizer.eos_token_id


@pytest.mark.parametrize("answer", ["a" * 5, "a" * 6, "a" * 9, "a" * 40])
def test_truncated_at_the_end_an_example_is_llm_adapters(answer: str, tiny_model: Path) -> None:
    """Its `tokenize` (finetune.py): the text cut at cutoff_len, and the end-of-text token where there is room."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    prompt, cutoff_len = "p" * 10, 16
    theirs = tokenizer(prompt + answer, truncation=True, max_length=cutoff_len)["input_ids"]
    if theirs[-1] != tokenizer.eos_token_id and len(theirs) < cutoff_len:
        theirs.append(tokenizer.eos_token_id)
    ours = encode(tokenizer, Example(prompt, answer), cutoff_len, True, "end")
    assert ours.ids == theirs and ours.prompt_length == 10
    assert ours.truncated == (len(prompt + answer) + 1 > cutoff_len) == (ours.answer_cut > 0)


def test_lengths_are_counted_by_set(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    examples = [Example("p" * 20, "a" * n, "long") for n in range(1, 101)] + [Example("p", "a", "short")] * 3
    rows = encode_all(AutoTokenizer.from_pretrained(tiny_model), examples, 64, append_eos=True)
    lengths = set_lengths(examples, rows)
    assert lengths["short"] == SetLengths(rows=3, cut=0, cut_answers=0, usual=3, longest=3)
    # 21 tokens beside an answer of 1 to 100; an answer and its end have 63 places beside a token of the prompt.
    assert lengths["long"] == SetLengths(rows=100, cut=57, cut_answers=38, usual=120, longest=121)
    assert suggested_limit(lengths) == 128
    assert length_sentences(lengths, 64) == [
        "long: 57 of 100 rows are longer than training.max_length 64 and are cut, and 38 of these the end of the "
        "answer; 99 % of the rows have at most 120 tokens, the longest has 121",
        "training.max_length: 128 leaves 99 % of the rows of every set whole",
    ]
    assert length_sentences({"short": lengths["short"]}, 64) == []


SWEEP = """
name: cut
base_model: {{id: {model}, dtype: float32}}
data: {{train: [short, long], sets: {{short: {short}, long: {long}}}}}
methods: [{{method: lora, rank: 2, lr: 1e-2}}]
samples: all
training: {{batch_size: 4, max_length: 32{more}}}
costs: {{inference: false}}
evaluation: {{limit: 4, tasks: world_two}}
"""


def cut_sweep(folder: Path, model: Path, more: str = "") -> Path:
    files = {}
    for name, length in (("short", 5), ("long", 40)):
        path = folder / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps({"p": f"{name} {i:02d}:", "a": "a" * length}) for i in range(8)))
        files[name] = json.dumps({"train": str(path), "columns": {"prompt": "p", "answer": "a"}})
    path = folder / "cut.yaml"
    path.write_text(SWEEP.format(model=model, more=more, **files))
    return path


def test_plan_and_report_say_how_many_rows_are_cut(tiny_model: Path, tmp_path: Path) -> None:
    path = cut_sweep(tmp_path, tiny_model)
    sentence = (
        "long: 8 of 8 rows are longer than training.max_length 32 and are cut, and 8 of these the end of the answer; "
        "99 % of the rows have at most 49 tokens, the longest has 49"
    )
    suggestion = "training.max_length: 64 leaves 99 % of the rows of every set whole"
    plan = bench("plan", path, "--results", tmp_path)
    assert sentence in plan.output and suggestion in plan.output and "short: 8 of 8" not in plan.output
    rows = json.loads(bench("plan", path, "--json", "--results", tmp_path).output)["lengths"]
    assert {row["set"]: (row["rows"], row["cut"], row["max_length"]) for row in rows} == {
        "short": (8, 0, 32),
        "long": (8, 8, 32),
    }
    done = bench("run", path, "--results", tmp_path)
    assert done.exit_code == 0, done.output
    report = (tmp_path / "cut" / "report" / "report.md").read_text()
    assert f"{sentence}." in report and f"{suggestion}." in report
    (cell,) = (cell for cell in Results(tmp_path / "cut").plan_record().cells if cell.method == "lora")
    costs = Results(tmp_path / "cut").folder_named(cell.folder).record().costs
    assert costs.truncated_examples == 8
    assert costs.set_lengths["long"] == SetLengths(rows=8, cut=8, cut_answers=8, usual=49, longest=49)


def test_a_batch_whose_answers_are_all_cut_away_has_a_loss_of_zero(tiny_model: Path, tmp_path: Path) -> None:
    """Batches of one example: a prompt of 9 tokens fills the limit, one of 8 leaves room for one of the answer."""
    path = cut_sweep(tmp_path, tiny_model, ", truncate: end, logging_steps: 1")
    changes = [word for key in ("max_length=9", "batch_size=1") for word in ("--set", f"training.{key}")]
    done = bench("run", path, *changes, "--results", tmp_path)
    assert done.exit_code == 0, done.output
    (log,) = (tmp_path / "cut" / "cells").glob("lora*/training.jsonl")
    losses = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
    assert len(losses) == 16 and losses.count(0) == 8 and min(loss for loss in losses if loss) > 1


def test_a_limit_that_leaves_no_answer_is_refused() -> None:
    """`truncate: end` cuts the answers of long prompts: a cell that trains on none would equal the untuned base."""
    tokenizer = tiny_tokenizer()
    config = TrainingConfig(max_length=16, truncate="end")
    long, short = (
        encode(tokenizer, Example("p" * length, "answer"), config.max_length, True, config.truncate)
        for length in (40, 10)
    )
    with pytest.raises(CellProblem, match=r"leaves no row a token of its answer[\s\S]*the longest row has 47"):
        check_supervised([long, long], config)
    check_supervised([long, short], config)
    check_supervised([long], TrainingConfig(max_length=16, truncate="end", loss="all"))
    record = set_lengths([Example("", "", "long"), Example("", "", "long")], [long, short])["long"]
    assert (record.cut_answers, record.no_answers) == (2, 1)
    assert "2 of these the end of the answer (1 the whole answer)" in length_sentences({"long": record}, 16)[0]
