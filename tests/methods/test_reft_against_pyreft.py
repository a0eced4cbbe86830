"""LoReFT, DiReFT and NoReFT against pyreft's own wrapper; fp32, 1e-5."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.reft import LENGTHS, NAMES, attached, batch_of, greedy, real, rows_of
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from bench.methods.reft import prompt_ends


class Pyreft:
    """A copy of a model's interventions in pyreft's own wrapper around a fresh base.

    As pyreft's own data sets do, a row has a padding token before it: places that a short prompt has not are put
    there (its -1, moved by one).
    """

    def __init__(self, tiny: Path, ours: Any, p: int = 7, s: int = 7, tied: bool = True) -> None:
        import pyreft

        self.p, self.s, self.tied = p, s, tied
        parts = 1 if tied else 2
        edits = copy.deepcopy(list(ours.reft))
        # Untied, pyreft has all layers' first positions, then all layers' last (examples/loreft/train.py).
        self.order = [layer * parts + part for part in range(parts) for layer in range(2)]
        representations = [
            {
                "layer": index // parts,
                "component": "block_output",
                "low_rank_dimension": 4,
                "intervention": edits[index],
            }
            for index in self.order
        ]
        base = AutoModelForCausalLM.from_pretrained(tiny)
        self.edits = edits
        self.model = pyreft.get_reft_model(base, pyreft.ReftConfig(representations=representations))

    def places(self, prompts: list[int], begins: list[int]) -> dict[str, Any]:
        from pyreft import get_intervention_locations

        locations = []
        for n, begin in zip(prompts, begins, strict=True):
            # Where a prompt is too short for either end, pyreft puts both ends' places together in each part: all
            # are padding then.
            places = get_intervention_locations(
                last_position=n,
                first_n=self.p,
                last_n=self.s,
                num_interventions=len(self.order),
                share_weights=self.tied,
                pad_mode="first",
            )
            wide = self.p + self.s if self.tied else max(self.p, self.s)
            locations.append([[begin + k if k >= 0 else 0 for k in item][:wide] for item in places])
        return {"sources->base": (None, [list(item) for item in zip(*locations, strict=True)])}

    def logits(self, batch: dict[str, torch.Tensor], prompts: list[int], begins: list[int]) -> torch.Tensor:
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        return self.model(inputs, unit_locations=self.places(prompts, begins))[1].logits

    def greedy(self, batch: dict[str, torch.Tensor], prompts: list[int], begins: list[int]) -> torch.Tensor:
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
        places = self.places(prompts, begins)
        return self.model.generate(inputs, unit_locations=places, intervene_on_prompt=True, **options)[1][:, -8:]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_gradients_steps_and_generation_are_pyrefts(name: str, tied: bool, tiny_model: Path) -> None:
    """Same weights and positions: same logits, gradients, weights after five steps, and text."""
    ours = attached(tiny_model, name, rank=4, tied=tied)
    theirs = Pyreft(tiny_model, ours, tied=tied)
    rows, prompts = rows_of(), [prompt for prompt, _ in LENGTHS]
    (our_batch, begins), (their_batch, moved) = batch_of(rows, prompts), batch_of(rows, prompts, extra=1)
    targets = torch.cat(rows).roll(-1)

    def logits() -> tuple[torch.Tensor, torch.Tensor]:
        pyrefts = theirs.logits(their_batch, prompts, moved)
        return real(ours(**our_batch).logits, rows, begins), real(pyrefts, rows, moved)

    pairs = [
        (a, b)
        for item, twin in zip(ours.reft, theirs.edits, strict=True)
        for a, b in zip(item.parameters(), twin.parameters(), strict=True)
    ]
    steppers = [torch.optim.AdamW(side, lr=1e-3, weight_decay=0) for side in zip(*pairs, strict=True)]
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    unedited = plain(input_ids=our_batch["input_ids"], attention_mask=our_batch["attention_mask"]).logits
    for step in range(5):
        both = logits()
        assert torch.allclose(*both, atol=1e-5)
        if step == 0:
            assert not torch.allclose(both[0], real(unedited, rows, begins), atol=1e-2)
        for item in both:
            cross_entropy(item, targets).backward()
        for a, b in pairs:
            assert a.grad.abs().max() > 1e-5
            assert torch.allclose(a.grad, b.grad, atol=1e-5)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad()
    for a, b in pairs:
        assert torch.allclose(a, b, atol=1e-5)
    assert torch.allclose(*logits(), atol=1e-5)

    with torch.no_grad():
        questions = [row[:prompt] for row, prompt in zip(rows, prompts, strict=True)]
        (our_batch, _), (their_batch, moved) = (
            batch_of(questions, prompts, "left"),
            batch_of(questions, prompts, "left", extra=1),
        )
        assert torch.equal(greedy(ours, our_batch), theirs.greedy(their_batch, prompts, moved))


@pytest.mark.parametrize("p, s", [(7, 7), (1, 1), (3, 5), (0, 4), (4, 0), (11, 2), (40, 40)])
def test_positions_are_pyrefts(p: int, s: int) -> None:
    """Every prompt length from 0 to 30, alone and in one batch, on either side."""
    from pyreft import get_intervention_locations

    lengths = list(range(31))
    expected = []
    for n in lengths:
        locations = get_intervention_locations(
            last_position=n, first_n=p, last_n=s, num_interventions=2, share_weights=True
        )[0]
        expected.append(sorted(place for place in locations if place >= 0))
    for side in ("left", "right"):
        mask = torch.zeros(len(lengths), 34, dtype=torch.bool)
        begins = [34 - n if side == "left" else 0 for n in lengths]
        for row, n, begin in zip(mask, lengths, begins, strict=True):
            row[begin : begin + n] = True
        first, last = prompt_ends(mask, p, s)
        assert not (first & last).any()
        for i, (n, begin) in enumerate(zip(lengths, begins, strict=True)):
            columns = (first | last)[i].nonzero()[:, 0] - begin
            assert columns.tolist() == expected[i]
            assert (first[i].nonzero()[:, 0] - begin).tolist() == expected[i][: min(p, n // 2)]
            alone = prompt_ends(mask[i : i + 1], p, s)
            assert torch.equal(alone[0][0], first[i]) and torch.equal(alone[1][0], last[i])
