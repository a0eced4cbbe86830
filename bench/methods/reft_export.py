"""The edits of a ReFT method as a folder that `pyreft.ReftModel.load` reads, and how it is used.

All three edits are written as pyreft's LoreftIntervention, h + R'(W h + b - R h) with R of orthonormal rows: its file
is as small as the edit (pyreft's file of a DiReFT has an H x H matrix a layer, 2 GB for LLaMA-7B), and pyreft's loader
cannot build a NoreftIntervention (it passes no `add_bias`).

    DiReFT  h + R'(W h + b)              = h + R'((W + R) h + b - R h)
    NoReFT  h + W2'(W1 h + b - W2 h)     = h + R'((T (W1 - W2) + R) h + T b - R h),   W2' = R' T  (QR decomposition)

H hidden size, r rank.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def write_for_pyreft(
    folder: Path, name: str, values: Mapping[str, torch.Tensor], layers: Sequence[int], parts: int, dtype: torch.dtype
) -> None:
    """Write a method's saved tensors (`<intervention>.<parameter>`, `parts` interventions a layer, layer after layer).

    `dtype` is that of the base's hidden states: pyreft multiplies them by W as they are. The rotation is float32, as
    in pyreft.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pyvene prints at import
        import pyreft

    from bench.models.compat.pyvene import LayerIntervention, write_interventions

    # Untied, pyreft has all layers' first positions, then all layers' last.
    order = [(layer * parts + part, layers[layer]) for part in range(parts) for layer in range(len(layers))]
    interventions = []
    for index, layer in order:
        start = f"{index}."
        parameters = {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}
        weight, bias, rotation = as_loreft(name, parameters)
        state = {"weight": weight.to(dtype), "bias": bias.to(dtype), "rotate_layer": rotation}
        interventions.append(LayerIntervention(layer, rotation.shape[1], state))
    write_interventions(folder, pyreft.LoreftIntervention, interventions)


def as_loreft(name: str, values: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """W (r, H), b (r) and the columns of R' (H, r) of the LoReFT that computes the edit of the method `name`; computed
    in float64, returned in float32."""
    import torch

    weight, bias = values["learned_source.weight"].double(), values["learned_source.bias"].double()
    if name == "noreft":
        columns, triangle = torch.linalg.qr(values["proj_layer.weight"].double().T)  # (H, r), (r, r)
        weight = triangle @ (weight - values["proj_layer.weight"].double()) + columns.T
        bias = triangle @ bias
    else:
        columns = values["rotate_layer.weight"].double()
        weight = weight + columns.T if name == "direft" else weight
    return weight.float().contiguous(), bias.float().contiguous(), columns.float().contiguous()


def positions_text(first: int, last: int) -> str:
    """pyreft's name of the positions that are edited: `f7+l7`, `f7`, `l7`."""
    return "+".join([f"f{first}"] * bool(first) + [f"l{last}"] * bool(last))


def card_lines(base: str, dtype: str, positions: str, interventions: int, tied: bool) -> list[str]:
    """The lines of a model card that say how pyreft loads and uses the folder."""
    return [
        "## Use",
        "",
        "The `.bin` files are pickles, the only form that pyreft reads; they hold tensors alone, and "
        "`torch.load(..., weights_only=True)`, which is torch's default, reads them. `pip install pyreft==0.0.7 "
        "pyvene==0.1.8`, and in this folder:",
        "",
        "```python",
        "import pyreft, torch",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("{base}", dtype=torch.{dtype})',
        f'tokenizer = AutoTokenizer.from_pretrained("{base}")',
        'reft = pyreft.ReftModel.load(".", model)',
        "reft.set_device(model.device)",
        "",
        'prompt = tokenizer("Question: what is 3?\\nAnswer:", return_tensors="pt").to(model.device)',
        "places = pyreft.get_intervention_locations(",
        f'    last_position=prompt["input_ids"].shape[1], positions="{positions}", num_interventions={interventions}, '
        f"share_weights={tied}",
        ")",
        "edited = [[[place for place in places_of_layer if place >= 0]] for places_of_layer in places]",
        "_, tokens = reft.generate(",
        '    prompt, unit_locations={"sources->base": (None, edited)}, intervene_on_prompt=True, do_sample=False,',
        "    max_new_tokens=16,",
        ")",
        "print(tokenizer.decode(tokens[0]))",
        "```",
        "",
        f"The positions (`{positions}` of the prompt) are not in the files: pyreft is given them at each call.",
        *(
            []
            if dtype == "float32"
            else [
                "",
                f"pyreft computes the edits in {dtype}, and the scores above are of edits in float32: answers that are "
                "nearly tied may differ.",
            ]
        ),
    ]
