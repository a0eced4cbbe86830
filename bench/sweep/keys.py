"""A key that is written where it has no meaning: which key is meant, or where it belongs."""

from __future__ import annotations

from collections.abc import Collection

from bench.errors import shortened, unknown

SYNONYMS = {
    "base": "base_model",
    "learning_rate": "lr",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "max_seq_length": "max_length",
    "model": "base_model",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "micro_batch",
    "r": "rank",
    "targets": "target_modules",
    "use_rslora": "rslora",
}
"""What PEFT, transformers and other programs call a setting."""
OF_METHODS = ("lr", "rank", "alpha", "dropout", "target_modules", "quantization", "init", "peft")
"""Settings of methods that are looked for in other places."""


def unknown_key(key: object, allowed: Collection[str]) -> str:
    """What is wrong with a key that is none of the allowed ones: the key that is meant, or the place where it belongs,
    else the nearest of the allowed keys."""
    meant = SYNONYMS.get(str(key), str(key))
    if meant in allowed:
        return f"unknown key {shortened(key)}\n  Did you mean {meant!r}? Allowed: {', '.join(sorted(allowed))}."
    of_section = "lr" not in allowed  # the settings of a method allow it
    for name in dict.fromkeys((str(key), meant)):
        if places := _places(name, of_section):
            return f"key {key!r} has no meaning here\n  Write it as {' or '.join(places)}."
    return str(unknown("key", key, allowed))


def _places(key: str, of_section: bool) -> list[str]:
    """The places of a sweep file that have this key."""
    from bench.sweep.schema import SECTIONS  # its classes call `unknown_key`

    places = [f"methods: [{{method: lora, {key}: ...}}]"] if of_section and key in OF_METHODS else []
    return places + [
        f"{section}: {{{key}: ...}}" if section else f"{key}: ... at the top level"
        for section, model in SECTIONS.items()
        if key in model.model_fields and not section.startswith("data.sets")
    ]
