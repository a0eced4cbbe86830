"""The names of series."""

from __future__ import annotations

from helpers.tables import planned_cell

from bench.analysis.series import series_names


def test_series_split_where_a_setting_varies() -> None:
    def series(options: list[dict]) -> list[str]:
        return series_names([planned_cell("lora", settings) for settings in options])

    assert series([{"rank": 4, "alpha": 8, "lr": 1e-4}, {"rank": 8, "alpha": 16, "lr": 1e-4}]) == ["lora", "lora"]
    assert series([{"rank": 4, "alpha": 8, "lr": 1e-4}, {"rank": 4, "alpha": 8, "lr": 1e-3}]) == [
        "lora lr=0.0001",
        "lora lr=0.001",
    ]
    assert series([{"rank": 4, "alpha": 8}, {"rank": 4, "alpha": 4}]) == ["lora alpha=8", "lora alpha=4"]


def test_a_rank_in_peft_s_own_words_starts_no_new_series() -> None:
    def series(options: list[dict], method: str = "adalora") -> list[str]:
        return series_names([planned_cell(method, settings) for settings in options])

    def peft(rank: int, **changed: object) -> dict:
        own = {"target_r": rank, "init_r": -(-3 * rank // 2), "lora_alpha": 2 * rank, "lora_dropout": 0.0}
        return {"lr": 0.001, "rank": rank, "peft": {**own, **changed}}

    assert series([peft(1), peft(3), peft(32)]) == ["adalora"] * 3
    assert series([peft(8), peft(16, lora_dropout=0.1)]) == ["adalora lora_dropout=0.0", "adalora lora_dropout=0.1"]
    assert series([peft(8), peft(8, init_r=9)]) == ["adalora init_r=12", "adalora init_r=9"]
    # A rate chosen for each rank is a choice, and so a line of its own.
    assert series([{"rank": 4, "lr": 0.002}, {"rank": 8, "lr": 0.004}]) == ["adalora lr=0.002", "adalora lr=0.004"]

    def pair(rank: int, lr: float = 0.1, edit: int = 4) -> dict:
        return {"rank": rank, "lr": lr, "loreft": {"rank": edit, "lr": 0.2}, "lora": {"rank": rank, "lr": lr}}

    assert series([pair(4), pair(8)], "loreft+lora") == ["loreft+lora"] * 2
    assert series([pair(4), pair(4, lr=0.3)], "loreft+lora") == ["loreft+lora lora.lr=0.1", "loreft+lora lora.lr=0.3"]
    assert series([pair(4), pair(4, edit=8)], "loreft+lora") == [
        "loreft+lora loreft.rank=4",
        "loreft+lora loreft.rank=8",
    ]


def test_what_a_base_s_size_decides_is_no_setting() -> None:
    cells = [planned_cell("loreft", {"rank": 4, "layers": list(range(n))}, base) for n, base in ((2, "s"), (3, "l"))]
    assert series_names(cells) == ["loreft on s", "loreft on l"]


def test_a_tuned_learning_rate_starts_no_new_series() -> None:
    def series(tuned: bool) -> list[str]:
        return series_names([planned_cell("lora", {"rank": 4, "lr": lr}, tuned=tuned) for lr in (1e-3, 2e-3)])

    assert series(tuned=True) == ["lora", "lora"] and series(tuned=False) == ["lora lr=0.001", "lora lr=0.002"]


def test_types_of_peft_are_named_and_split_by_their_own_settings() -> None:
    shared = {"bias": "none", "lora_alpha": 8}
    lora = [{"peft": {"peft_type": "LORA", "r": 4, "use_rslora": on, **shared}} for on in (False, True)]
    ia3 = {"peft": {"peft_type": "IA3", "feedforward_modules": ["down_proj"]}}
    names = series_names([planned_cell("peft", options) for options in (*lora, ia3)])
    assert names == ["peft LORA use_rslora=False", "peft LORA use_rslora=True", "peft IA3"]
    assert series_names([planned_cell("peft", lora[0])]) == ["peft"]  # a single one needs no more
