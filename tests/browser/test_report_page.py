"""The report in a real browser: no error, no outside request, sorting, filtering, accessibility, phone, print."""

from __future__ import annotations

import json
import re

import pytest

from raypref.results.collect import collect
from raypref.results.report import write_report
from tests.support.chromium import axe_script, browsing, missing
from tests.support.planted_sweeps import LAMBDA, sweep

pytestmark = [pytest.mark.docs, pytest.mark.skipif(bool(missing()), reason=missing() or "-")]

SECONDS = (40.0, 31.04, 9.96, 31.01, 30.98, 31.02)  # of the trials in their order; four of them are shown as 31.0


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of a sweep with a failed trial, and with trials that took about as long."""
    root = tmp_path_factory.mktemp("browser")
    folder = sweep(
        root, {LAMBDA: [0, 1, 2]}, {LAMBDA: 2}, lambda p, seed: 0.2 + p[LAMBDA] / 8, seeds=2, users=60, logs=True
    )
    paths = sorted((folder / "trials").glob("*.json"))
    for path, seconds in zip(paths, SECONDS, strict=True):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
    paths[0].write_text(json.dumps(json.loads(paths[0].read_text()) | {"status": "failed", "error": "boom"}))
    write_report(collect(folder), folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def page(report, browser):
    return opened(browser, report)


def opened(browser, report):
    """The report in a page that notes what it says and asks for."""
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


def assert_silent(page, report):
    """Nothing on the console, nothing asked of the network, up to now."""
    page.evaluate("() => new Promise(requestAnimationFrame)")  # what a click set off has been done
    assert page.said == []
    assert {url for url in page.asked if not url.startswith("data:")} == {report.as_uri()}


def test_a_page_that_was_just_opened_is_silent(page, report):
    assert_silent(page, report)


def test_what_a_page_says_and_asks_is_noticed(browser, report):
    """Else silence would mean nothing."""
    opened_page = opened(browser, report)
    opened_page.evaluate("console.error('oops'); setTimeout(() => { throw new Error('late') })")
    with pytest.raises(AssertionError, match="oops"):
        assert_silent(opened_page, report)
    opened_page.wait_for_timeout(50)
    assert any("late" in said for said in opened_page.said)


def test_the_answer_is_on_the_first_screen(page):
    box = page.locator("#answer").bounding_box()
    assert box["y"] + box["height"] < 900
    assert "λ=" in page.locator("#answer").inner_text()


def test_sorting(page, report):
    head = page.locator("#trials-table th button", has_text="λ").first
    head.click()
    values = [float(value) for value in column(page, 1) if value]
    assert values == sorted(values)
    head.click()
    values = [float(value) for value in column(page, 1) if value]
    assert values == sorted(values, reverse=True)
    assert page.locator("#trials-table th[aria-sort='descending']").count() == 1
    assert_silent(page, report)


def test_numbers_are_sorted_by_their_full_value(page, report):
    names = page.locator("#trials-table th").all_inner_texts()
    page.locator("#trials-table th button").nth(names.index("s")).click()
    assert column(page, names.index("s")) == ["10.0", "31.0", "31.0", "31.0", "31.0", "40.0", ""]
    ranked = sorted(range(6), key=lambda trial: SECONDS[trial])
    labels = [f"recpo lambda={trial // 2} seed={trial % 2}" for trial in ranked]
    assert column(page, 0) == [*labels, "SFT"]
    assert_silent(page, report)


def test_filtering_hides_rows_and_their_curves(page, report):
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
    assert_silent(page, report)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 375])
def test_axe_finds_no_serious_fault(browser, report, scheme, width):
    source = axe_script()
    if source is None:
        pytest.skip("axe-core is not installed (pip install -e '.[browser]')")
    opened_page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True)
    opened_page.goto(report.as_uri())
    opened_page.evaluate("() => document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert opened_page.locator("details[open]").count() == opened_page.locator("details").count() > 3
    for box in opened_page.locator("input.pick").all()[:2]:
        box.check()
    assert opened_page.locator("#compare table").count() >= 4
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


def test_values_show_by_pointer_and_by_arrow_keys(browser, report):
    found = opened(browser, report)
    figure = found.locator("figure:has(svg.training)").first
    figure.focus()
    found.keyboard.press("ArrowRight")
    first = figure.locator(".hover").inner_text()
    found.keyboard.press("ArrowRight")
    assert "step 0, loss" in first
    assert figure.locator(".hover").inner_text() != first
    curve = found.locator("figure:has(.point)").first
    curve.locator(".point").first.hover(force=True)
    assert re.search(r"\d", curve.locator(".hover").inner_text())
    assert_silent(found, report)


def test_a_series_is_turned_off_and_on(browser, report):
    found = opened(browser, report)
    button = found.locator("button.series").first
    before = found.locator("polyline.off").count()
    button.focus()
    found.keyboard.press("Enter")
    assert found.locator("polyline.off").count() > before == 0
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert found.locator("polyline.off").count() == 0
    assert_silent(found, report)


def test_two_trials_stand_side_by_side(browser, report):
    found = opened(browser, report)
    found.locator("input.pick").nth(0).check()
    assert found.locator("#compare table").count() == 0
    found.locator("input.pick").nth(1).focus()
    found.keyboard.press("Space")
    headings = found.locator("#compare h3").all_inner_texts()
    assert headings[0] == "Scores"
    assert any("paired with" in heading for heading in headings)
    counts = found.locator("#compare table").nth(1).locator("td").all_inner_texts()[3:]
    assert sum(map(int, counts)) == 60  # wins, losses and ties are all the users
    assert found.locator("polyline.picked").count() > 0
    assert found.locator("polyline.dimmed").count() > 0
    found.locator("input.pick").nth(1).uncheck()
    assert found.locator("#compare table").count() == 0
    assert found.locator("polyline.dimmed").count() == 0
    assert_silent(found, report)
