"""Accuracy and judged scores against samples: what is drawn."""

from __future__ import annotations

from helpers.judged_cells import NOTHING, judged_cells

from bench.report.figures import samples


def test_heat_maps_need_two_ranks_and_two_counts() -> None:
    names = [one.name for one in samples.draw(judged_cells(), [], NOTHING)]
    assert names == ["samples_vs_accuracy"]
    several = samples.draw(judged_cells({"lora": (4, 8), "dora": (4, 8)}), [], NOTHING)
    assert [one.name for one in several] == ["samples_vs_accuracy", "rank_by_samples"]
    one_count = judged_cells()
    assert samples.draw(one_count[one_count["samples"].isin((0, 100))], [], NOTHING) == []
