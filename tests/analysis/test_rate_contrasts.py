"""What learning rates change, from the trials of a crossed design."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from bench.analysis.rate_contrasts import differences_at_rates, lost_when_off, rate_cells, robustness_contrasts
from bench.analysis.result_tables import ResultTables
from bench.store.records import PlanRecord

RATES = (3e-4, 1e-3, 3e-3)
CHOSEN = {"lora": {0: 1e-3, 1: 1e-3, 2: 3e-3}, "dora": {0: 1e-3, 1: 1e-3, 2: 1e-3}}
FALL = {"lora": 4.0, "dora": 1.0}
"""Points that a step away from 1e-3 costs."""


def score(method: str, rank: int, rate: float, seed: int) -> float:
    rng = np.random.default_rng([seed, rank, RATES.index(rate), method == "dora"])
    return 40 + (0.5 if method == "dora" else 0.0) - FALL[method] * (rate != 1e-3) + 0.1 * rng.standard_normal()


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    rows = [
        {
            "folder": f"{method}-r{rank}-{rate:g}-s{seed}",
            "series": method,
            "method": method,
            "base": "b",
            "rank": rank,
            "samples": 100,
            "seed": seed,
            "lr": rate,
            "training": {"epochs": 1},
            "status": "done",
            "average": score(method, rank, rate, seed),
        }
        for method in ("lora", "dora")
        for rank in (4, 8)
        for rate in RATES
        for seed in (0, 1, 2)
    ]
    final = [row["folder"] for row in rows if row["lr"] == CHOSEN[str(row["method"])][cast("int", row["seed"])]]
    plan = SimpleNamespace(cells=[SimpleNamespace(folder=folder) for folder in final])
    tables = SimpleNamespace(cells=pd.DataFrame(rows))
    return rate_cells(cast("ResultTables", tables), cast("PlanRecord", plan))


def change_when_off(method: str, seed: int) -> float:
    """By hand: the mean over ranks of the neighbours' mean less the chosen one's score."""
    changes = []
    for rank in (4, 8):
        place = RATES.index(CHOSEN[method][seed])
        beside = [RATES[near] for near in (place - 1, place + 1) if 0 <= near < len(RATES)]
        chosen = score(method, rank, RATES[place], seed)
        changes.append(np.mean([score(method, rank, rate, seed) for rate in beside]) - chosen)
    return float(np.mean(changes))


def test_what_is_lost_when_the_rate_is_off_is_that_of_the_neighbours(cells: pd.DataFrame) -> None:
    expected = {method: -np.mean([change_when_off(method, seed) for seed in (0, 1, 2)]) for method in FALL}
    assert lost_when_off(cells) == pytest.approx(expected)
    assert expected["dora"] == pytest.approx(1.0, abs=0.2)  # seed 2 of lora was chosen off its best


def test_a_method_that_loses_less_is_the_more_robust(cells: pd.DataFrame) -> None:
    (contrast,) = robustness_contrasts(cells, "lora", {}, post_hoc=False)
    expected = [change_when_off("dora", seed) - change_when_off("lora", seed) for seed in (0, 1, 2)]
    assert (contrast.of, contrast.against) == ("dora", "lora")
    assert contrast.estimate.values == pytest.approx(tuple(expected))
    assert expected[0] == pytest.approx(3.0, abs=0.4)


def test_methods_are_compared_at_each_rate_that_both_have(cells: pd.DataFrame) -> None:
    found: dict[float, Any] = {of.rate: of.estimate for of in differences_at_rates(cells, "lora", {})}
    assert sorted(found) == sorted(RATES)
    for rate, estimate in found.items():
        by_seed = [
            np.mean([score("dora", rank, rate, seed) - score("lora", rank, rate, seed) for rank in (4, 8)])
            for seed in (0, 1, 2)
        ]
        assert estimate.values == pytest.approx(tuple(by_seed))
    assert found[1e-3].mean == pytest.approx(0.5, abs=0.2) and found[3e-3].mean == pytest.approx(3.5, abs=0.2)
    other = cells[(cells["series"] == "lora") | (cells["lr"] != 3e-3)]
    assert {of.rate for of in differences_at_rates(other, "lora", {})} == {3e-4, 1e-3}


def test_a_seed_that_lacks_its_chosen_cell_says_nothing(cells: pd.DataFrame) -> None:
    lacking = cells[cells["folder"] != "dora-r8-0.001-s1"]
    assert robustness_contrasts(lacking, "lora", {}, post_hoc=False) == []  # two seeds are left
