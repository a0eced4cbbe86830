"""The page in a real browser: nothing goes wrong, nothing leaves, tables sort and filter, figures are seen.

Skipped without Chromium and its driver (Debian: chromium, chromium-driver).
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import RESULTS
from helpers.tables import change_metrics, copied
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from bench.report import write_report
from bench.store.folder import CellFolder, Results
from bench.sweep.cell import Cell

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser: webdriver.Chrome, page: Path, width: int = 1280, dark: bool = False) -> webdriver.Chrome:
    """The page, in a window of this width; what it logged and asked for is checked."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    events = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    return browser


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the committed quickstart, as the code makes it now."""
    folder = tmp_path_factory.mktemp("pages") / "quickstart"
    shutil.copytree(RESULTS / "quickstart", folder, ignore=shutil.ignore_patterns("adapter", "report"))
    return write_report(Results(folder))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_figures_are_seen_and_the_page_fits(
    browser: webdriver.Chrome, quickstart: Path, width: int, dark: bool
) -> None:
    page = opened(browser, quickstart, width, dark)
    ink, paper = (
        page.execute_script(f"return getComputedStyle(document.body).{one}") for one in ("color", "backgroundColor")
    )
    brightness = [sum(int(part) for part in one.strip("rgb()").split(",")[:3]) for one in (ink, paper)]
    assert (brightness[0] > brightness[1]) == dark
    # Wide tables and figures scroll within their own boxes; the page does not.
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    figures = page.find_elements(By.CSS_SELECTOR, "figure svg")
    assert len(figures) == len(page.find_elements(By.TAG_NAME, "figure")) >= 7
    for figure in figures:
        assert figure.is_displayed() and figure.size["width"] > 250 and figure.size["height"] > 100
    for name in page.find_elements(By.CSS_SELECTOR, "figure [role=img]"):
        assert name.get_attribute("aria-label")


def shown(page: webdriver.Chrome, place: int) -> list[str]:
    rows = page.find_elements(By.CSS_SELECTOR, "table.ranked tbody tr")
    return [row.find_elements(By.TAG_NAME, "td")[place].text for row in rows if row.is_displayed()]


def test_the_ranked_table_sorts(browser: webdriver.Chrome, quickstart: Path) -> None:
    page = opened(browser, quickstart)
    heads = page.find_elements(By.CSS_SELECTOR, "table.ranked thead th")
    places = {head.text.strip(): place for place, head in enumerate(heads)}
    heads[places["average"]].find_element(By.TAG_NAME, "button").click()
    down = [float(one) for one in shown(page, places["average"])]
    assert down == sorted(down, reverse=True) and len(down) == 10
    assert heads[places["average"]].get_attribute("aria-sort") == "descending"
    # Numbers that begin a text, then words, then what is missing.
    heads[places["against the baseline"]].find_element(By.TAG_NAME, "button").click()
    words = shown(page, places["against the baseline"])
    gaps = [float(one.split()[0]) for one in words[:4]]
    assert gaps == sorted(gaps, reverse=True) and words[4:] == ["baseline"] * 4 + ["-"] * 2
    # By the keyboard as well: the head is a button.
    heads[places["trainable"]].find_element(By.TAG_NAME, "button").send_keys("\n")
    sizes = shown(page, places["trainable"])
    known = [int(one.replace(",", "")) for one in sizes if one != "-"]
    assert known == sorted(known, reverse=True) and sizes[-2:] == ["-", "-"]
    assert heads[places["average"]].get_attribute("aria-sort") is None


def test_the_ranked_table_is_filtered(browser: webdriver.Chrome, quickstart: Path) -> None:
    page = opened(browser, quickstart)
    method, rank, task = (Select(one) for one in page.find_elements(By.CSS_SELECTOR, "form.filters select"))
    method.select_by_value("dora")
    assert set(shown(page, 0)) == {"dora"} and len(shown(page, 0)) == 4
    rank.select_by_value("8")
    assert shown(page, 1) == ["8", "8"]
    assert page.find_element(By.CSS_SELECTOR, "form.filters output").text == "2 of 10 rows"
    task.select_by_value("world_two")
    heads = [one.text for one in page.find_elements(By.CSS_SELECTOR, "table.ranked thead th") if one.is_displayed()]
    assert "world_two" in heads and "world_three" not in heads and "average" in heads
    method.select_by_value("")
    assert set(shown(page, 0)) == {"lora", "dora"}


def test_data_lie_in_the_page(browser: webdriver.Chrome, quickstart: Path) -> None:
    page = opened(browser, quickstart)
    held = {}
    for link in page.find_elements(By.CSS_SELECTOR, "a[download]"):
        data = link.get_attribute("href").partition("base64,")[2]
        held[link.get_attribute("download")] = base64.b64decode(data)
    files = {path.name: path.read_bytes() for path in (quickstart.parent / "tables").glob("*.csv")}
    assert held == files and {"cells.csv", "judged.csv"} <= set(held)


def test_pages_of_none_one_and_only_failed_cells(
    browser: webdriver.Chrome, finished: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = copied(finished, tmp_path)
    for path in folder.glob("cells/*"):
        change_metrics(folder, path.name.rpartition("-")[0], {"status": "failed", "reason": "it broke"})
    page = opened(browser, write_report(Results(folder)))
    assert "6 cells planned, 0 done, 6 failed." in page.find_element(By.TAG_NAME, "main").text
    for path in folder.glob("cells/*"):
        if not path.name.startswith("lora-r2"):
            shutil.rmtree(path)
    change_metrics(folder, "lora-r2", {"status": "done"})
    page = opened(browser, write_report(Results(folder)), 390)
    assert "6 cells planned, 1 done, 5 missing." in page.find_element(By.TAG_NAME, "main").text
    shutil.rmtree(folder / "cells")
    page = opened(browser, write_report(Results(folder)))
    assert "No trained cell is done yet." in page.find_element(By.TAG_NAME, "main").text


def test_a_page_of_500_cells(browser: webdriver.Chrome, finished: tuple[Path, Path], tmp_path: Path) -> None:
    """The trained cells of a small sweep, each under a hundred seeds."""
    folder = copied(finished, tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    cells = [entry for entry in plan["cells"] if entry["method"] == "base"]
    for entry in plan["cells"][len(cells) :]:
        source = folder / "cells" / entry["folder"]
        for seed in range(1, 101):
            cell = Cell.model_validate({**CellFolder(source).cell().model_dump(mode="json"), "seed": seed})
            target = shutil.copytree(source, folder / "cells" / cell.folder, ignore=shutil.ignore_patterns("adapter"))
            (target / "cell.json").write_text(cell.model_dump_json(indent=2))
            cells.append({**entry, "seed": seed, "folder": cell.folder, "name": cell.name})
    (folder / "plan.json").write_text(json.dumps({**plan, "cells": cells}))
    made = write_report(Results(folder))
    assert made.stat().st_size < 10e6
    page = opened(browser, made)
    assert "501 cells planned, 501 done." in page.find_element(By.TAG_NAME, "main").text
    assert len(page.find_elements(By.CSS_SELECTOR, "table.ranked tbody tr")) == 7


def test_texts_of_models_and_errors_stay_text(
    browser: webdriver.Chrome, finished: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = copied(finished, tmp_path)
    evil = "</script><script>document.title='taken'</script><img src=http://a.b/c onerror=alert(1)>\x00\u202eabc"
    change_metrics(folder, "full", {"status": "failed", "reason": evil, "traceback": [evil, evil]})
    change_metrics(folder, "lora-r2", {"warnings": [evil]})
    page = opened(browser, write_report(Results(folder)))
    assert page.title == "tiny: fine-tuning methods compared"
    text = page.find_element(By.TAG_NAME, "main").text
    assert "<img src=http://a.b/c onerror=alert(1)>\ufffd\ufffdabc" in text and "\u202e" not in page.page_source
