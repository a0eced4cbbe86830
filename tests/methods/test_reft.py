"""LoReFT, DiReFT and NoReFT against pyreft's own wrapper; positions, padding, saving, scoring, counts.

fp32, 1e-5 unless a test says otherwise.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.families import tiny_family
from helpers.paths import ROOT
from helpers.reft import LENGTHS, METHODS, NAMES, attached, batch_of, cell_of, greedy, real, rows_of
from helpers.training import trained
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from bench import methods
from bench.errors import CellProblem, UserError
from bench.models.hooks import causal_lm
from bench.models.load import load_skeleton


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_padding_and_batching_change_nothing(tied: bool, tiny_model: Path) -> None:
    model = attached(tiny_model, "loreft", rank=4, first=3, last=5, tied=tied)
    rows, prompts = rows_of(), [prompt for prompt, _ in LENGTHS]
    questions = [row[:prompt] for row, prompt in zip(rows, prompts, strict=True)]
    with torch.no_grad():
        alone = [model(**batch_of([row], [prompt])[0]).logits[0] for row, prompt in zip(rows, prompts, strict=True)]
        for side in ("left", "right"):
            batch, begins = batch_of(rows, prompts, side)
            assert torch.allclose(real(model(**batch).logits, rows, begins), torch.cat(alone), atol=1e-5)
        together = greedy(model, batch_of(questions, prompts, "left")[0])
        apart = [greedy(model, batch_of([row], [len(row)])[0]) for row in questions]
        assert torch.equal(together, torch.cat(apart))
        assert torch.equal(together, greedy(model, batch_of(questions, prompts, "left")[0], use_cache=False))
        plain = AutoModelForCausalLM.from_pretrained(tiny_model)
        assert not torch.equal(together, greedy(plain, batch_of(questions, prompts, "left")[0]))


def train_steps(model: Any, steps: int, weight_decay: float) -> list[tuple[float, list[float]]]:
    """(loss, largest gradient of each parameter) a step, on one batch."""
    rows, prompts = rows_of(), [prompt for prompt, _ in LENGTHS]
    batch, _ = batch_of(rows, prompts)
    answer = batch["attention_mask"].bool() & ~batch["prompt_mask"]
    before = answer.roll(-1, 1)  # the token that predicts it; a row's first token is no answer
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper = torch.optim.AdamW(trained, lr=1e-2, weight_decay=weight_decay)
    log = []
    for _ in range(steps):
        loss = cross_entropy(model(**batch).logits[before], batch["input_ids"][answer])
        loss.backward()
        log.append((loss.item(), [parameter.grad.abs().max().item() for parameter in trained]))
        stepper.step()
        stepper.zero_grad()
    return log


@pytest.mark.parametrize("name", NAMES)
def test_gradients_do_not_vanish(name: str, tiny_model: Path) -> None:
    log = train_steps(attached(tiny_model, name), 10, weight_decay=0)
    assert all(min(largest) > 1e-5 for _, largest in log)
    assert log[-1][0] < log[0][0] - 0.05


@pytest.mark.parametrize("name", ["loreft", "direft"])
def test_weight_decay_would_silence_a_rotation(name: str, tiny_model: Path) -> None:
    """Why the facts forbid it: after one step of decay the edits are gone, and so are the gradients."""
    assert METHODS[name].facts.no_weight_decay
    model = attached(tiny_model, name)
    log = train_steps(model, 3, weight_decay=0.01)
    assert max(log[0][1]) > 0 and max(log[1][1]) == max(log[2][1]) == 0
    batch, _ = batch_of(rows_of(), [prompt for prompt, _ in LENGTHS])
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    edited = model(**batch).logits
    batch.pop("prompt_mask")
    assert torch.equal(edited, plain(**batch).logits)


def test_weight_decay_does_not_silence_noreft(tiny_model: Path) -> None:
    """It is refused all the same, with a reason of its own."""
    assert "whole family" in METHODS["noreft"].facts.no_weight_decay
    log = train_steps(attached(tiny_model, "noreft"), 5, weight_decay=0.01)
    assert all(min(largest) > 1e-5 for _, largest in log)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Any]:
    """Of each method: its model after some steps, its cell and the folder in which it is saved."""
    outputs = {}
    for name in NAMES:
        model = attached(tiny_model, name, rank=4, tied=name != "direft")
        train_steps(model, 3, weight_decay=0)
        folder = tmp_path_factory.mktemp(name)
        METHODS[name].save(model, folder)
        outputs[name] = (model, cell_of(name, model, rank=4, tied=name != "direft"), folder)
    return outputs


RELOAD = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from bench.methods.reft import REFT_METHODS
from bench.sweep.cell import Cell
tiny, work = sys.argv[1:]
batch, logits = load_file(Path(work) / "batch.safetensors"), {}
for method in REFT_METHODS:
    cell = Cell.model_validate_json((Path(work) / f"{method.name}.json").read_text())
    folder = Path((Path(work) / f"{method.name}.txt").read_text())
    model = method.load(AutoModelForCausalLM.from_pretrained(tiny), folder, cell).eval()
    with torch.no_grad():
        logits[method.name] = model(**batch).logits
save_file(logits, Path(work) / "logits.safetensors")
"""


@pytest.mark.slow
def test_reloaded_in_a_new_process_it_answers_bit_for_bit(
    saved: dict[str, Any], tmp_path: Path, tiny_model: Path
) -> None:
    from safetensors.torch import load_file, save_file

    batch, _ = batch_of(rows_of(), [prompt for prompt, _ in LENGTHS])
    save_file(batch, tmp_path / "batch.safetensors")
    for name, (_, cell, folder) in saved.items():
        assert [path.name for path in folder.iterdir()] == ["reft.safetensors"]
        (tmp_path / f"{name}.json").write_text(cell.model_dump_json())
        (tmp_path / f"{name}.txt").write_text(str(folder))
    here = ROOT
    subprocess.run([sys.executable, "-c", RELOAD, tiny_model, tmp_path], check=True, cwd=here)
    logits = load_file(tmp_path / "logits.safetensors")
    for name, (model, _, _) in saved.items():
        with torch.no_grad():
            assert torch.equal(model(**batch).logits, logits[name]), name


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_as_small_as_the_method(name: str, saved: dict[str, Any], tiny_model: Path) -> None:
    """It holds as many numbers as are trained; what it loads can be trained on; another rank's is refused."""
    from safetensors.torch import load_file

    model, cell, folder = saved[name]
    numbers = sum(parameter.numel() for parameter in load_file(folder / "reft.safetensors").values())
    assert numbers == sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    loaded = METHODS[name].load(AutoModelForCausalLM.from_pretrained(tiny_model), folder, cell)
    for intervention in loaded.reft:
        if rotation := getattr(intervention, "rotate_layer", None):
            frame = rotation.parametrizations.weight[0].base
            assert torch.allclose(frame.T @ frame, torch.eye(32), atol=1e-5)
    log = train_steps(loaded, 5, weight_decay=0)
    assert all(max(largest) > 1e-5 for _, largest in log) and log[-1][0] < log[0][0] - 0.02
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model)
    with pytest.raises(ValueError, match="does not hold"):
        METHODS[name].load(fresh, folder, cell_of(name, fresh, rank=5))


@pytest.mark.parametrize("name", NAMES)
def test_training_leaves_the_base_alone_and_learns(name: str, tmp_path: Path, tiny_model: Path) -> None:
    model, log = trained(tmp_path, tiny_model, name, {"epochs": 3, "batch_size": 4}, lr=5e-2)
    assert log[-1]["loss"] < log[0]["loss"] - 0.05
    before = dict(AutoModelForCausalLM.from_pretrained(tiny_model).named_parameters())
    after = {key: parameter for key, parameter in model.named_parameters() if not key.startswith("reft.")}
    assert before.keys() == after.keys()
    assert all(torch.equal(parameter, after[key]) and not after[key].requires_grad for key, parameter in before.items())
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in model.reft.parameters())


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_shared_prefix_scores_as_one_by_one(tied: bool, tiny_model: Path) -> None:
    from lm_eval.api.instance import Instance

    from bench.evaluation.prefix_sharing_lm import LanguageModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = attached(tiny_model, "loreft", rank=4, tied=tied)
    requests = [
        Instance("loglikelihood", {}, (context, answer), 0, metadata=("task", number // 2, 1))
        for number, context in enumerate(
            ("a", "Question: what?\nAnswer:", "Question: what is it?\nA:", "Q: is it?\nA:")
        )
        for answer in (" yes", " no", " a somewhat longer answer")
    ]
    # Two contexts a question: a method that counts places within the prompt shares whole contexts only.
    assert methods.METHODS["loreft"].facts.shared_prefix == "context"
    scores = {}
    for share in ("context", "none"):
        lm = LanguageModel(model, tokenizer, 2, share)
        assert lm.share == share
        scores[share] = [value for value, _ in lm.loglikelihood(requests)]
    assert scores["context"] == pytest.approx(scores["none"], abs=1e-4)
    plain = LanguageModel(AutoModelForCausalLM.from_pretrained(tiny_model), tokenizer, 2)
    assert scores["context"] != pytest.approx([score for score, _ in plain.loglikelihood(requests)], abs=1e-2)


@pytest.mark.parametrize("base, percent", [("huggyllama/llama-7b", 0.0311), ("huggyllama/llama-13b", 0.0252)])
@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts_are_the_papers(name: str, base: str, percent: float) -> None:
    """../shared/published/README.md: rank 8, all layers, tied, as per cent of the base alone; no weights are made."""
    model = load_skeleton(base)
    total = sum(parameter.numel() for parameter in model.parameters())
    model = METHODS[name].attach(model, cell_of(name, model))
    assert all(parameter.is_meta for parameter in [*model.parameters(), *model.reft.buffers()])
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert 100 * trainable / total == pytest.approx(percent, abs=5e-5)
    hidden, layers = model.config.hidden_size, model.config.num_hidden_layers
    assert trainable == layers * (2 * 8 * hidden + 8)  # R, W, b of rank 8


@pytest.mark.parametrize("rank", [1, 31, 32])
@pytest.mark.parametrize("name", NAMES)
def test_counts_without_weights_are_those_with_weights(name: str, rank: int, tiny_model: Path) -> None:
    counts = []
    for model in (load_skeleton(str(tiny_model)), AutoModelForCausalLM.from_pretrained(tiny_model)):
        METHODS[name].attach(model, cell_of(name, model, rank=rank, tied=False, layers=[1]))
        counts.append({key: parameter.shape for key, parameter in model.reft.named_parameters()})
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_base_under_autocast(name: str, tiny_model: Path) -> None:
    """Edits stay in float32, whatever the model around them is cast to; bfloat16 answers within its rounding."""
    model = attached(tiny_model, name, rank=4)
    weights = [parameter.clone() for parameter in model.reft.state_dict().values()]
    batch, begins = batch_of(rows_of(), [prompt for prompt, _ in LENGTHS])
    exact = real(model(**batch).logits, rows_of(), begins)
    model = model.to(torch.bfloat16)
    assert {parameter.dtype for parameter in model.reft.parameters()} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(weights, model.reft.state_dict().values(), strict=True))
    computed = []
    for intervention in model.reft:
        intervention.learned_source.register_forward_hook(lambda module, args, output: computed.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = real(model(**batch).logits, rows_of(), begins)
        assert logits.dtype == torch.bfloat16
        assert (logits.float() - exact).abs().max() < 0.05
        cross_entropy(logits.float(), torch.cat(rows_of()).roll(-1)).backward()
    assert computed == [torch.float32] * 2
    assert all(
        parameter.grad.dtype == torch.float32 and parameter.grad.abs().max() > 1e-5
        for parameter in model.reft.parameters()
    )


def test_stacked_on_lora_both_apply(tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model

    def lora() -> Any:
        torch.manual_seed(3)
        config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        return get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config).eval()

    alone, both = lora(), lora()
    cell = cell_of("loreft", both, rank=4)
    trained_by_lora = {key for key, parameter in both.named_parameters() if parameter.requires_grad}
    torch.manual_seed(0)
    assert METHODS["loreft"].attach(both, cell) is both
    requires = {key for key, parameter in both.named_parameters() if parameter.requires_grad}
    assert trained_by_lora < requires
    assert {key.rpartition(".reft.")[1] for key in requires - trained_by_lora} == {".reft."}

    rows, prompts = rows_of(), [prompt for prompt, _ in LENGTHS]
    batch, begins = batch_of(rows, prompts)
    ask, _ = batch_of([row[:prompt] for row, prompt in zip(rows, prompts, strict=True)], prompts, "left")
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    edits = attached(tiny_model, "loreft", rank=4)
    with torch.no_grad():
        logits = {
            "both": both(**batch).logits,
            "lora": alone(**inputs).logits,
            "edits": edits(**batch).logits,
        }
        merged = causal_lm(both)  # the inner model's own door
        assert torch.equal(merged(**batch).logits, logits["both"])
        texts = {key: greedy(model, ask) for key, model in {"both": both, "edits": edits}.items()}
        alone_ask = {key: ask[key] for key in ("input_ids", "attention_mask")}
        texts["lora"] = alone.generate(**alone_ask, max_new_tokens=8, min_new_tokens=8, do_sample=False)[:, -8:]
    for outputs in (logits, texts):
        assert not torch.allclose(outputs["both"].float(), outputs["lora"].float(), atol=1e-2)
        assert not torch.allclose(outputs["both"].float(), outputs["edits"].float(), atol=1e-2)
    cross_entropy(real(both(**batch).logits, rows, begins), torch.cat(rows).roll(-1)).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in both.parameters() if parameter.requires_grad)


def test_a_pass_needs_a_prompt_mask_of_its_own(tiny_model: Path) -> None:
    model = attached(tiny_model, "loreft")
    batch, _ = batch_of(rows_of(), [prompt for prompt, _ in LENGTHS])
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="prompt_mask"):
        model(**inputs)
    model(**batch)
    with pytest.raises(ValueError, match="prompt_mask"):  # not the last pass's
        model(**inputs)
    with pytest.raises(ValueError, match="prompt_mask"):
        model.generate(**inputs, max_new_tokens=2)
    with pytest.raises(ValueError, match="does not fit"):
        model(**inputs, prompt_mask=batch["prompt_mask"][:, :-1])


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")  # transformers 5.23
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_nothing(reentrant: bool, tiny_model: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = attached(tiny_model, "loreft", rank=4).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        batch, begins = batch_of(rows_of(), [prompt for prompt, _ in LENGTHS])
        logits = real(model(**batch, use_cache=False).logits, rows_of(), begins)
        cross_entropy(logits, torch.cat(rows_of()).roll(-1)).backward()
        gradients.append([parameter.grad for parameter in model.reft.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"first": 0, "last": 0}, "nothing would be edited"),
        ({"rank": 33}, "larger than the base's hidden size 32"),
        ({"rank": 0}, "rank"),
        ({"layers": [0, 2]}, r"\[2\], but the base has 2 layers"),
        ({"layers": [-1]}, r"greater than or equal to 0 \(got -1\)"),
        ({"layers": []}, "none given"),
        ({"act_fn": "rulu"}, "Did you mean 'relu'"),
        ({"alpha": 1}, "alpha"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str, tiny_model: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        METHODS["direft"].resolve(settings, load_skeleton(str(tiny_model)))
    assert "direft" in str(error.value)


def test_options_reach_the_interventions(tiny_model: Path) -> None:
    model = attached(tiny_model, "loreft", rank=3, layers=[1], act_fn="relu", dropout=0.2, tied=False)
    assert cell_of("loreft", model).options["layers"] == [0, 1]
    assert len(model.reft) == 2
    assert model.reft[0].learned_source.out_features == 3
    assert type(model.reft[0].act_fn).__name__ == "ReLU" and model.reft[0].dropout.p == 0.2
    assert len(attached(tiny_model, "loreft", tied=False, first=0).reft) == 2  # one a layer: there are no first tokens


def test_gpt2_is_edited_and_a_model_without_known_layers_is_refused() -> None:
    config = GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    torch.manual_seed(0)
    plain = GPT2LMHeadModel(config).eval()
    model = METHODS["loreft"].attach(copy.deepcopy(plain), cell_of("loreft", plain))
    rows = rows_of()[:2]
    batch, begins = batch_of(rows, [20, 5])
    edited = real(model(**batch).logits, rows, begins)
    batch.pop("prompt_mask")
    assert not torch.allclose(edited, real(plain(**batch).logits, rows, begins), atol=1e-2)
    plain.transformer.h = torch.nn.Sequential(*plain.transformer.h)
    with pytest.raises(UserError, match="GPT2LMHeadModel"):
        METHODS["loreft"].resolve({}, plain)


@pytest.mark.parametrize("family", ["mpt", "llama4_text", "rwkv", "openai-gpt"])
def test_blocks_under_any_name_are_edited(family: str) -> None:
    skeleton = tiny_family(family)
    cell = cell_of("loreft", skeleton, rank=2)
    model = methods.get("loreft").attach(tiny_family(family), cell).train()
    tokens = torch.arange(3, 23)[None]
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[:, :10] = True
    edited = model(input_ids=tokens, prompt_mask=mask).logits
    assert not torch.allclose(edited, skeleton(input_ids=tokens).logits, atol=1e-4)
    edited.logsumexp(-1).mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_model_without_plain_hidden_states_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="no list of modules is as long"):
        methods.get("loreft").resolve({}, tiny_family("hrm_text"))
    model = tiny_family("hy_v4")  # its blocks pass several streams
    cell = cell_of("loreft", model, rank=2)
    edited = methods.get("loreft").attach(model, cell)
    tokens = torch.arange(3, 23)[None]
    with pytest.raises(CellProblem, match="HYV4DecoderLayer returns"):
        edited(input_ids=tokens, prompt_mask=torch.ones_like(tokens))
