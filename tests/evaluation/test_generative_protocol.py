"""The generative protocols: their prompts and parsers against restatements of upstream's, their scores, their plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.questions import HUB_ROWS, data_of
from helpers.sweeps import bench, make_tiny_model, sweep_file
from helpers.tokenizers import KINDS, Kind, make_tokenizer
from helpers.training import cell_of, trained
from lm_eval.api.model import LM
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench import methods
from bench.analysis.result_tables import read_results
from bench.data.duplicates import clusters
from bench.data.encoding import encode_pair, encode_prompt
from bench.data.questions import Question
from bench.data.sweep_data import SweepData
from bench.data.tasks import commonsense_tasks
from bench.data.tasks.rows import from_hub
from bench.errors import UserError
from bench.evaluation import generative_protocol, protocols, scoring
from bench.evaluation.plan_evaluations import evaluation_identities
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.progress import ignore_progress
from bench.store.folder import Results
from bench.store.record_json import content_of
from bench.sweep.evaluation_identity import EvaluationIdentity
from bench.sweep.sections import DataConfig, EvaluationConfig, TrainingConfig
from bench.training.trainer import train

EIGHT = list(commonsense_tasks())
FORMAT = {"llm-adapters-v1": "llm_adapters", "generative-v2": "llm_adapters", "loreft-v1": "loreft"}


class Speaker(LM):
    """Says what it is told to, whatever it is asked; keeps what it was asked."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self.texts, self.asked = texts, []

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.asked = [request.args for request in requests]
        return self.texts

    def loglikelihood(self, requests: list[Any]) -> Any:
        raise AssertionError("nothing is to be scored by its log-likelihood")

    loglikelihood_rolling = loglikelihood


def data_with(format: str, questions: dict[str, tuple[Question, ...]]) -> SweepData:
    tasks = commonsense_tasks()
    config = DataConfig(format=format)
    return SweepData(config, {name: tasks[name] for name in questions}, {}, {}, questions, {}, ())


def identity_of(data: SweepData, protocol: str, task: str | None = None) -> EvaluationIdentity:
    found = evaluation_identities(data, EvaluationConfig(protocol=protocol), "float32", mergeable=True)
    return next(one for one in found if task in (None, one.task))


def read(protocol: str, task: str, texts: list[str]) -> tuple[pd.DataFrame, Speaker]:
    """What a protocol makes of texts, each an answer to the task's one question; and what was asked."""
    question = from_hub(task, HUB_ROWS[task][0])
    data = data_with(FORMAT[protocol], {task: (question,) * len(texts)})
    speaker = Speaker(texts)
    return protocols.evaluate_task(speaker, data, identity_of(data, protocol)), speaker


@pytest.mark.parametrize("task", EIGHT)
def test_llm_adapters_prompt_is_the_published_one(task: str) -> None:
    """Character by character: evaluation's white space, which is not training's; · is a space."""
    instruction = HUB_ROWS[task][1]
    published = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.·\n"
        "\n"
        "················### Instruction:\n"
        f"················{instruction}\n"
        "\n"
        "················### Response:\n"
        "················"
    ).replace("·", " ")
    _, speaker = read("llm-adapters-v1", task, ["answer1"])
    (asked,) = speaker.asked
    assert asked == (published, {"until": [], "max_gen_toks": 32, "do_sample": False, "num_beams": 4})


@pytest.mark.parametrize("protocol", ["generative-v2", "loreft-v1"])
def test_the_prompt_is_what_training_marks_as_prompt(protocol: str, tmp_path: Path) -> None:
    for bos in (False, True):
        tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(tmp_path / str(bos), bos=bos))
        for task in EIGHT:
            _, speaker = read(protocol, task, ["answer1"])
            question = from_hub(task, HUB_ROWS[task][0])
            data = data_with(FORMAT[protocol], {task: (question,)})
            ((_, rendered),) = data.rendered(task)
            head, _ = encode_pair(tokenizer, rendered.contexts[0], rendered.continuations[0])
            assert tokenizer.encode(speaker.asked[0][0]) == head


@pytest.mark.parametrize("protocol", ["generative-v2", "loreft-v1"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_prompt_is_what_training_marks_as_prompt_where_tokens_span_the_join(protocol: str, kind: Kind) -> None:
    """Llama 3's tokenizer joins the colon and the line break: asked with the colon alone, a model would meet a token
    that it was never trained on."""
    tokenizer = make_tokenizer(kind, begins=True)
    for task in EIGHT:
        data = data_with(FORMAT[protocol], {task: (from_hub(task, HUB_ROWS[task][0]),)})
        ((_, rendered),) = items = data.rendered(task)
        made = generative_protocol.generative_lm_eval_task(
            items, data.tasks[task], identity_of(data, protocol), tokenizer
        )
        (document,) = made.test_docs()
        head, _ = encode_pair(tokenizer, rendered.contexts[0], rendered.continuations[0])
        assert encode_prompt(tokenizer, document["prompt"]) == head
        spans = head != encode_prompt(tokenizer, rendered.contexts[0].rstrip())
        assert spans or kind != "llama3" or protocol == "loreft-v1"


def test_loreft_format_is_pyrefts() -> None:
    """examples/loreft/dataset.py: base_input = "%s\\n" % instruction + trigger_tokens + answer."""
    for task in EIGHT:
        row, instruction, answer = HUB_ROWS[task]
        question = from_hub(task, row)
        ((_, rendered),) = data_with("loreft", {task: (question,)}).rendered(task)
        whole = rendered.contexts[question.label] + rendered.continuations[question.label]
        assert whole == "%s\n" % instruction + "the correct answer is " + answer  # noqa: UP031
        assert rendered.continuations[question.label].startswith("the correct answer is ")


PUBLISHED = {
    "boolq_closed": r"true|false",
    "piqa": r"solution1|solution2",
    "hellaswag": r"ending1|ending2|ending3|ending4",
    "winogrande": r"option1|option2",
    **dict.fromkeys(("siqa", "arc_easy", "arc_challenge", "openbookqa"), r"answer1|answer2|answer3|answer4|answer5"),
}


def extract_answer(task: str, response: str) -> str:
    """LLM-Adapters' commonsense_evaluate.py, restated: the text after the first `### Response:`, the first match."""
    output = f"### Instruction: ... ### Response:\n    {response}".split("### Response:")[1].strip()
    found = re.findall(PUBLISHED[task], output)
    return found[0] if found else ""


def spoken(task: str) -> dict[str, str]:
    """Hand-made outputs by what is special about them."""
    right = HUB_ROWS[task][2]
    names = PUBLISHED[task].split("|")
    wrong = next(name for name in names if name != right)
    return {
        "right": f"the correct answer is {right}",
        "wrong": f"the correct answer is {wrong}",
        "two": f"not {wrong} but {right}",
        "two, the other way": f"{right} rather than {wrong}",
        "upper case": f"The correct answer is {right.upper()}",
        "capital": f"The correct answer is {right.capitalize()}",
        "none": "the correct answer is",
        "empty": "",
        "another task's": "the correct answer is answer1 solution2 ending3 option1 false",
        "beyond the choices": f"the correct answer is {names[-1]}",
        "ten": f"the correct answer is {right}0",
        "in a word": f"un{right}ly",
        "lines": f"\n\n   the correct\nanswer is\n{right}\n",
        "a second response": f"the correct answer is {right}\n\n### Response:\n{wrong}",
        "only in a second response": f"I do not know.\n\n### Response: {right}",
        "a second response at once": f"### Response: {right}",
        "not quite a second response": f"##Response: ## Response: {right}",
        "an instruction": f"### Instruction: {wrong}",
    }


@pytest.mark.parametrize("protocol", ["llm-adapters-v1", "generative-v2"])
@pytest.mark.parametrize("task", EIGHT)
def test_answers_are_read_as_llm_adapters_reads_them(task: str, protocol: str) -> None:
    texts = spoken(task)
    items, _ = read(protocol, task, list(texts.values()))
    right = HUB_ROWS[task][2]
    question = from_hub(task, HUB_ROWS[task][0])
    for (name, text), row in zip(texts.items(), items.itertuples(), strict=True):
        expected = extract_answer(task, text)
        assert (row.parsed, row.acc) == (expected, expected == right), name
        assert row.text == text and row.gold == question.label and row.choices == len(question.choices)
        assert (row.prediction == row.gold) == (row.acc == 1)
        assert (row.prediction == -1) == (expected not in HUB_ROWS[task][1].rpartition("format: ")[2].split("/"))
    read_as = dict(zip(texts, items["parsed"], strict=True))
    assert read_as["right"] == read_as["ten"] == read_as["lines"] == read_as["a second response"] == right
    assert read_as["upper case"] == read_as["none"] == read_as["only in a second response"] == ""
    if PUBLISHED[task].endswith("answer5"):
        beyond = items.iloc[list(texts).index("beyond the choices")]
        assert (beyond.parsed, beyond.prediction, beyond.acc) == ("answer5", -1, 0)


def test_answers_of_other_tasks_are_read_by_their_nouns_and_choices() -> None:
    """The built-in world's, and an own set of twelve choices, in which `answer12` is not `answer1`."""
    data = data_of({"train": "world", "format": "llm_adapters"}, limit=4)
    assert {name: _alternatives(data, name) for name in data.questions} == {
        "world_true_false": {"true", "false"},
        "world_two": {"solution1", "solution2"},
        "world_three": {"answer1", "answer2", "answer3"},
        "world_four": {"answer1", "answer2", "answer3", "answer4"},
        "world_ending": {"ending1", "ending2", "ending3", "ending4"},
        "world_blank": {"option1", "option2"},
    }
    many = Question("arc_easy", "Which?", tuple("abcdefghijkl"), 11)
    pattern = re.compile(generative_protocol.llm_adapters_pattern(commonsense_tasks()["arc_easy"], [many]))
    assert [pattern.findall(f"it is answer{n}") for n in (1, 2, 11, 12)] == [
        ["answer1"], ["answer2"], ["answer11"], ["answer12"],
    ]  # fmt: skip


def _alternatives(data: SweepData, task: str) -> set[str]:
    pattern = generative_protocol.llm_adapters_pattern(data.tasks[task], data.questions[task])
    return set(pattern.rpartition("(")[2].rstrip(")").split("|"))


def extract_output(prediction: str, trigger: str) -> str:
    """pyreft's examples/loreft/compute_metrics.py, restated."""
    start = prediction.find(trigger)
    return "" if start < 0 else prediction[start + len(trigger) :].lstrip()


@pytest.mark.parametrize("task", EIGHT)
def test_answers_are_read_as_pyreft_reads_them(task: str) -> None:
    right = HUB_ROWS[task][2]
    says = "the correct answer is "
    texts = [
        *spoken(task).values(),
        f"\n{says}{right}",
        f"\n{says}  {right} \n",
        f"{says}{right}.",
        f"{says}{right}\n{says}{right}",
        f"the correct answer is\n{right}",
        f"so {says}{right} because",
        says,
        f"The correct answer is {right}",
    ]
    items, speaker = read("loreft-v1", task, texts)
    for text, row in zip(texts, items.itertuples(), strict=True):
        generated = extract_output(f"{speaker.asked[0][0]}{text}", says)
        assert row.acc == (generated.strip() == right), text
        assert row.parsed == generated.strip()
    assert items["acc"].sum() == 3 + (task == "boolq_closed")  # whose right answer here is its regex's last
    assert speaker.asked[0][1] == {"until": [], "max_gen_toks": 32, "do_sample": False, "num_beams": 1}


def test_scores_tell_failures_of_form_from_failures_of_knowledge() -> None:
    texts = ["answer2", "answer1", "answer5", "ANSWER2", "", "it is answer2"]
    items, _ = read("generative-v2", "arc_easy", texts)
    found = scoring.compute_scores(items, "acc")
    assert (found.n, found.acc, found.score) == (6, 2 / 6, 2 / 6)
    assert (found.parse_rate, found.acc_parsed) == (4 / 6, 2 / 4)
    assert found.chance == pytest.approx(1 / 3) and found.acc_norm is None
    nothing = scoring.compute_scores(read("generative-v2", "arc_easy", ["", "no"])[0], "acc")
    assert (nothing.acc, nothing.parse_rate, nothing.acc_parsed) == (0, 0, None)


def test_rows_of_one_question_share_a_cluster() -> None:
    same = [Question("arc_easy", text, ("a", "b"), 0) for text in ("Why so?", "  why  SO", "Why not?")]
    first, second, other = (clusters(same)[question.key] for question in same)
    assert first == second != other
    items, _ = read("generative-v2", "arc_easy", ["answer1"])
    question = from_hub("arc_easy", HUB_ROWS["arc_easy"][0])
    assert items["cluster"][0] == clusters([question])[question.key]


def test_one_evaluation_a_task_and_protocol() -> None:
    data = data_of({"train": "world", "format": "llm_adapters"}, limit=3, tasks=["world_two", "world_four"])
    several = EvaluationConfig(protocol=["llm-adapters-v1", "generative-v2", "llm-adapters-v1"])
    found = evaluation_identities(data, several, "float32", mergeable=True)
    assert [(one.label, one.task) for one in found] == [
        (protocol, task) for protocol in ("llm-adapters-v1", "generative-v2") for task in data.questions
    ]
    assert len({one.id for one in found}) == 4
    assert found[0].file == f"{found[0].task}@llm-adapters-v1-{found[0].id}.parquet"
    alone = evaluation_identities(data, EvaluationConfig(protocol="loglikelihood"), "float32", mergeable=True)
    listed = evaluation_identities(data, EvaluationConfig(protocol=["loglikelihood"]), "float32", mergeable=True)
    assert alone == listed and alone[0].label == "loglikelihood-v1"


@pytest.mark.parametrize(
    ("protocol", "format", "words"),
    [
        ("generative-v2", "question", ["generative-v2 cannot score data.format question", "llm_adapters"]),
        ("loreft-v1", "llm_adapters", ["it scores loreft", "llm-adapters-v1, generative-v2"]),
        ("[loglikelihood,llm-adapters-v1]", "question", ["llm-adapters-v1 cannot score", "loglikelihood"]),
        ("generative_v2", "llm_adapters", ["unknown protocol 'generative_v2'", "Did you mean 'generative-v2'?"]),
        ("[]", "question", ["evaluation.protocol is an empty list"]),
    ],
)
def test_the_plan_refuses_what_cannot_be_scored(
    protocol: str, format: str, words: list[str], tmp_path: Path, tiny_model: Path
) -> None:
    settings = ["--set", f"evaluation.protocol={protocol}", "--set", f"data.format={format}"]
    done = bench("plan", sweep_file(tmp_path, tiny_model), *settings)
    assert done.exit_code == 2
    assert all(word in " ".join(done.output.split()) for word in words), done.output


@pytest.mark.parametrize("format", ["question", "llm_adapters", "loreft"])
def test_loglikelihood_scores_every_format(format: str) -> None:
    protocols.check_protocols(EvaluationConfig(), format)
    with pytest.raises(UserError):
        protocols.check_protocols(EvaluationConfig(protocol=["loglikelihood", "no-such"]), format)


# --- With models


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama, trained for some seconds on both formats of the world, that mostly answers in form. Its tokenizer
    has words, so that an answer fits 32 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    examples = [
        one
        for format in ("llm_adapters", "loreft")
        for one in data_of({"train": ["world_two", "world_true_false"], "format": format}).subset(400, 0)
    ]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet, special = pre_tokenizers.ByteLevel.alphabet(), ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, initial_alphabet=alphabet)
    core.train_from_iterator((one.prompt + one.answer for one in examples), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), **sizes, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("talker")
    cell = cell_of("full", model, lr=1e-2)
    model = methods.get("full").attach(model, cell)
    settings = TrainingConfig(epochs=2, batch_size=8)
    train(model, tokenizer, methods.get("full"), cell, settings, examples, folder, lambda _: None, ignore_progress)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def loaded(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def world(protocol: str, limit: int = 12) -> SweepData:
    return data_of({"train": "world", "format": FORMAT[protocol]}, limit=limit, tasks=["world_two", "world_true_false"])


@pytest.mark.parametrize("protocol", ["generative-v2", "loreft-v1"])
def test_lm_eval_alone_comes_to_the_same_answers(protocol: str, talker: Path) -> None:
    """Its own model class runs the same task, a prompt at a time and in batches (float32)."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = loaded(talker)
    data = world(protocol)
    for identity in evaluation_identities(data, EvaluationConfig(protocol=protocol), "float32", mergeable=True):
        ours = protocols.evaluate_task(LanguageModel(model, tokenizer, 8), data, identity)
        assert scoring.compute_scores(ours, "acc").parse_rate > 0.5  # else equal answers would prove nothing
        for size in (1, 5):
            stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=size)
            items = data.rendered(identity.task)
            task = generative_protocol.generative_lm_eval_task(items, data.tasks[identity.task], identity)
            found = lm_eval.evaluate(stock, {identity.task: task}, log_samples=True, bootstrap_iters=0)
            samples = sorted(found["samples"][identity.task], key=lambda one: one["doc_id"])
            assert [one["filtered_resps"][0] for one in samples] == list(ours["parsed"])
            assert [one["resps"][0][0] for one in samples] == list(ours["text"])
            assert found["results"][identity.task]["exact_match,parsed"] == ours["acc"].mean()


def test_llm_adapters_v1_is_transformers_beam_search(talker: Path) -> None:
    """Four beams at batch 1 on the whole prompt, white space at its end included, whatever the rows of a batch."""
    model, tokenizer = loaded(talker)
    data = world("llm-adapters-v1", limit=6)
    identity = identity_of(data, "llm-adapters-v1", "world_two")
    items = protocols.evaluate_task(LanguageModel(model, tokenizer, 8), data, identity)
    task = generative_protocol.generative_lm_eval_task(data.rendered("world_two"), data.tasks["world_two"], identity)
    for document, text in zip(task.test_docs(), items["text"], strict=True):
        ids = tokenizer(document["prompt"], return_tensors="pt")["input_ids"]
        made = model.generate(ids, max_new_tokens=32, num_beams=4, do_sample=False, pad_token_id=2)
        assert text == tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    assert (items["parsed"] != "").any()


@pytest.mark.parametrize(
    "method", ["prefix", *(pytest.param(name, marks=pytest.mark.slow) for name in ("loreft", "prompt", "loreft+dora"))]
)
def test_unmerged_methods_answer_batched_as_one_by_one(method: str, tmp_path: Path, talker: Path) -> None:
    """Through the whole protocol, every column of the rows (float32)."""
    options = {} if "+" in method else {"lr": 1e-3}
    model, _ = trained(tmp_path, talker, method, {"epochs": 1, "batch_size": 4}, **options)
    _, tokenizer = loaded(talker)
    data = world("loreft-v1", limit=10)
    lm = LanguageModel(model.eval(), tokenizer, 8)
    texts = set()
    for identity in evaluation_identities(data, EvaluationConfig(protocol="loreft-v1"), "float32", mergeable=False):
        lm.limit.max_rows = 8
        together = protocols.evaluate_task(lm, data, identity)
        lm.limit.max_rows = 1
        pd.testing.assert_frame_equal(together, protocols.evaluate_task(lm, data, identity))
        texts |= set(together["text"])
    assert len(texts) > 1


@pytest.mark.slow
def test_a_sweep_scores_by_several_protocols(talker: Path, tmp_path: Path) -> None:
    """From the file to the report: rows of both kinds, averages of the first protocol, and nothing is done twice."""
    path = tmp_path / "both.yaml"
    path.write_text(f"""
name: both
base_model: {{id: {talker}, dtype: float32}}
data: {{format: llm_adapters}}
methods: [{{method: lora, rank: 2, lr: 1e-3}}, {{method: prompt, lr: 1e-2}}]
samples: 16
evaluation: {{limit: 6, tasks: [world_two, world_true_false], protocol: [generative-v2, loglikelihood]}}
""")
    done = bench("run", path, "--results", tmp_path)
    assert done.exit_code == 0, done.output
    results = Results(tmp_path / "both")
    assert results.plan_record().protocols == ["generative-v2", "loglikelihood"]
    read_back = read_results(results)
    assert read_back.problems == ()
    cells = read_back.cells
    for folder in results.folders():
        evaluations = list(content_of(folder.record())["evaluations"].values())
        assert [one["protocol"] for one in evaluations] == ["generative-v2"] * 2 + ["loglikelihood"] * 2
        for one in evaluations:
            items = folder.items(one["file"])
            assert len(items) == 6 and ("text" in items) == (one["protocol"] == "generative-v2")
            assert content_of(scoring.compute_scores(items, "acc")).items() <= one.items()
        ours = [one["score"] for one in evaluations if one["protocol"] == "generative-v2"]
        (row,) = cells[cells["folder"] == folder.path.name].itertuples()
        assert row.status == "done" and row.average == pytest.approx(100 * sum(ours) / 2)
    before = {one: one.stat().st_mtime_ns for one in tmp_path.rglob("*.parquet")}
    assert bench("run", path, "--results", tmp_path).exit_code == 0
    assert len(before) == 12 and before == {one: one.stat().st_mtime_ns for one in tmp_path.rglob("*.parquet")}
