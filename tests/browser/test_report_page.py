"""The report in a real browser: no error, no outside request, sorting, filtering, accessibility, phone, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "results"))

from pages import axe_script, browsing, missing
from planted_sweeps import LAMBDA, sweep

from raypref.results.collect import collect
from raypref.results.report import write_report

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of a sweep with a failed trial."""
    root = tmp_path_factory.mktemp("browser")
    folder = sweep(
        root, {LAMBDA: [0, 1, 2]}, {LAMBDA: 2}, lambda p, seed: 0.2 + p[LAMBDA] / 8, seeds=2, users=60, logs=True
    )
    path = sorted((folder / "trials").glob("*.json"))[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "failed", "error": "boom"}))
    write_report(collect(folder), folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def page(report, browser):
    found = browser.new_page(viewport={"width": 1200, "height": 900})
    found.said, found.asked = [], []
    found.on("console", lambda message: found.said.append(message.text))
    found.on("pageerror", lambda error: found.said.append(str(error)))
    found.on("request", lambda request: found.asked.append(request.url))
    found.goto(report.as_uri())
    return found


def column(page, number):
    return page.eval_on_selector_all(
        "#trials-table tbody tr:not([hidden])", f"rows => rows.map(row => row.cells[{number}].textContent)"
    )


def test_nothing_is_said_on_the_console_and_nothing_is_asked_of_the_network(page, report):
    assert page.said == []
    assert {url for url in page.asked if not url.startswith("data:")} == {report.as_uri()}


def test_the_answer_is_on_the_first_screen(page):
    box = page.locator("#answer").bounding_box()
    assert box["y"] + box["height"] < 900
    assert "λ=" in page.locator("#answer").inner_text()


def test_sorting(page):
    head = page.locator("#trials-table th button", has_text="λ").first
    head.click()
    values = [float(value) for value in column(page, 1) if value]
    assert values == sorted(values)
    head.click()
    values = [float(value) for value in column(page, 1) if value]
    assert values == sorted(values, reverse=True)
    assert page.locator("#trials-table th[aria-sort='descending']").count() == 1


def test_filtering_hides_rows_and_their_curves(page):
    before = page.locator("#trials-table tbody tr:not([hidden])").count()
    page.fill("#filter", "lambda=1")
    assert all("lambda=1" in name for name in column(page, 0))
    assert 0 < len(column(page, 0)) < before
    hidden = page.locator("polyline[hidden]").count()
    assert hidden > 0
    page.fill("#filter", "")
    page.select_option("#state", "failed")
    assert column(page, 0) == ["recpo lambda=0 seed=0"]
    page.select_option("#state", "")
    assert page.locator("#trials-table tbody tr:not([hidden])").count() == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 375])
def test_axe_finds_no_serious_fault(browser, report, scheme, width):
    source = axe_script()
    if source is None:
        pytest.skip("axe-core is not installed (pip install -e '.[browser]')")
    opened_page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True)
    opened_page.goto(report.as_uri())
    opened_page.evaluate(source)
    found = opened_page.evaluate("() => axe.run()")
    faults = [
        (fault["id"], fault["help"]) for fault in found["violations"] if fault["impact"] in ("serious", "critical")
    ]
    assert faults == []
    assert len(found["passes"]) > 10


def test_a_phone_scrolls_down_alone(browser, report):
    opened_page = browser.new_page(viewport={"width": 375, "height": 800}, is_mobile=True)
    opened_page.goto(report.as_uri())
    assert opened_page.evaluate("document.documentElement.scrollWidth") <= 375


def test_dark_is_dark_and_print_is_light(browser, report):
    ground = "getComputedStyle(document.body).backgroundColor"
    opened_page = browser.new_page(color_scheme="dark")
    opened_page.goto(report.as_uri())
    assert opened_page.evaluate(ground) == "rgb(13, 17, 23)"
    opened_page.emulate_media(media="print")
    assert opened_page.evaluate(ground) == "rgb(255, 255, 255)"
    assert not opened_page.locator(".controls").first.is_visible()
    assert len(opened_page.pdf()) > 10_000
