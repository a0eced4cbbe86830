"""How figures look."""

from __future__ import annotations

from bench.report.figures import style


def test_looks_repeat_nothing_and_keep_the_known_methods() -> None:
    found = style.series_looks(iter(["x", "dora", *(f"m{i}" for i in range(30)), "lora", "loreft"]))
    assert len(set(found.values())) == 34
    for method in ("lora", "dora", "loreft"):
        place = style.FIXED[method]
        assert found[method] == (style.COLOURS[place], style.MARKERS[place])
