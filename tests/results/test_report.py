"""The report: one file that asks for nothing, says what went wrong, and stays small."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from raypref.results.collect import Collection, collect, load, write
from raypref.results.conclusion import draw
from raypref.results.figures import drawings
from raypref.results.report import _commands, report_html, report_markdown, write_report
from raypref.results.training_curves import (
    MOST_POINTS,
    training_alt,
    training_figure,
    training_svg,
    training_table,
    write_training,
)
from tests.support.planted_sweeps import LAMBDA, scored, sweep, trained

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(HTMLParser):
    """Notes elements and their attributes, and that every tag is closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Collection:
    """A sweep with a failed, a running and an unreadable trial."""
    root = tmp_path_factory.mktemp("report")
    folder = sweep(root, {LAMBDA: [0, 1, 2]}, {LAMBDA: 2}, lambda p, seed: 0.3, seeds=2, users=40, logs=True)
    paths = sorted((folder / "trials").glob("*.json"))
    error = 'Traceback:\n  line 1\nRuntimeError: <script>alert("x")</script> & more'
    for path in paths[:2]:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "failed", "error": error}))
    paths[2].write_text("{")
    return collect(folder)


@pytest.fixture(scope="module")
def page(broken) -> Page:
    return Page(report_html(broken))


def test_page_is_well_formed_and_asks_for_nothing(broken, page):
    text = report_html(broken)
    assert not page.open
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", text)
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    policy = next(a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy["content"]


def test_page_is_accessible_as_far_as_a_parser_sees(page):
    assert page.all("html")[0]["lang"] == "en"
    assert any(a.get("name") == "viewport" for a in page.all("meta"))
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-label"])
    for _, attributes in page.elements:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids
    assert len(page.all("h1")) == 1


def test_page_says_what_was_asked_found_and_failed(broken, page):
    text = report_html(broken)
    words = " ".join(page.words)
    assert "How does HR@1 move with the <planted> setting?" in words
    assert "gives HR@1" in words
    assert "3 done, 2 failed, 1 unreadable" in words
    assert "RuntimeError" in words
    assert '<script>alert("x")' not in text  # an error is text, never markup
    assert "python jobs/planted.py --seeds 3" in words
    assert "abc+changes" in words
    assert "2.55.0" in words
    rows = [attributes for attributes in page.all("tr") if "data-trial" in attributes]
    assert len(rows) == len(broken.trials) == 7
    assert {row["data-state"] for row in rows} == {"done", "failed", "unreadable"}
    assert len(page.all("polyline")) >= 2 * 3


def test_an_extended_sweep_tells_every_command(broken):
    assert "# " not in _commands(broken)
    told = [{"command": f"python jobs/planted.py --seeds {n}", "time": "2026-01-01", "git": "abc"} for n in (2, 3)]
    again = Collection(broken.sweep | {"commands": told}, broken.trials, broken.metrics, broken.users)
    expected = "# 2026-01-01, git abc\npython jobs/planted.py --seeds 2\n# 2026-01-01, git abc\n"
    assert _commands(again) == f"{expected}python jobs/planted.py --seeds 3"
    assert expected in report_markdown(again)
    assert "<dt>seeds</dt><dd>0, 1</dd>" in report_html(again)


def test_same_errors_stand_together(broken):
    assert report_html(broken).count("<summary>failed: ") == 1


def test_written_files(broken, tmp_path):
    paths = write_report(broken, tmp_path)
    assert [path.name for path in paths] == ["report.html", "report.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]
    text = paths[1].read_text(encoding="utf-8")
    assert text.startswith("# How does HR@1")
    assert "](curve-lambda.png)" in text
    assert "RuntimeError" in text
    assert "python jobs/planted.py" in text


@pytest.mark.parametrize("fine_tuned", [True, False])  # False: as while the SFT model is in the making
def test_without_any_result(tmp_path, fine_tuned):
    folder = sweep(tmp_path, {LAMBDA: [0, 1]}, {LAMBDA: 1}, lambda p, seed: 0.3, seeds=1, users=10)
    for path in (folder / "trials").glob("*.json"):
        path.unlink()
    if not fine_tuned:
        shutil.rmtree(tmp_path / "evaluate")
    found = collect(folder)
    assert drawings(found) == []
    page = Page(report_html(found))
    assert not page.open
    assert "No answer yet" in " ".join(page.words)


def test_training_table_is_the_log_thinned(broken, tmp_path):
    table = training_table(broken)
    log = broken.root / broken.done["align"].iloc[0] / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    mine = table[(table["trial"] == broken.done["trial"].iloc[0]) & (table["metric"] == "loss")]
    assert mine["value"].tolist() == pytest.approx([line["loss"] for line in lines])
    assert set(table["metric"]) == {"loss", "reward_margin"}


def test_long_and_broken_logs(broken, tmp_path):
    align = broken.done["align"].iloc[0]
    trained(tmp_path, align, np.random.default_rng(0), steps=5000)
    log = tmp_path / align / "metrics.jsonl"
    log.write_text('{"step": 0, "loss": NaN}\n' + log.read_text() + '{"step": 5000, "lo')
    found = Collection(broken.sweep, broken.trials, broken.metrics, broken.users, tmp_path)
    table = training_table(found)
    assert len(table) == 2 * MOST_POINTS
    assert table[table["metric"] == "reward_margin"]["value"].is_monotonic_increasing
    assert training_svg(table, "loss").count("<polyline") == 1
    assert training_svg(table, "no such metric") == ""


def test_training_curves_are_drawn_again_without_the_logs(broken, tmp_path):
    write(broken, tmp_path)
    write_training(broken, tmp_path)
    again = load(tmp_path)
    assert again.root is None
    pd.testing.assert_frame_equal(training_table(again), training_table(broken))
    assert [path.name for path in draw(again, tmp_path, ("svg",)) if "training" in path.name] == [
        "training.svg", "training.csv",
    ]  # fmt: skip
    figure = training_figure(training_table(again))
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "reward margin"]
    assert len(figure.axes[0].collections[0].get_segments()) == training_table(broken)["trial"].nunique() == 5
    assert "loss of 5 trials" in training_alt(training_table(again))


@pytest.mark.measures
def test_a_thousand_trials_stay_under_5_mb(tmp_path):
    rng = np.random.default_rng(0)
    hits = {(value / 10, seed): (rng.random(60) < 0.3).astype(float) for value in range(200) for seed in range(5)}
    found = scored(hits, 0)
    trials = found.trials.assign(align=[f"align/{i}" for i in range(1000)])
    for address in trials["align"]:
        trained(tmp_path, address, rng, steps=40)
    found = Collection(found.sweep, trials, found.metrics, found.users, tmp_path)
    text = report_html(found)
    assert text.count("<tr data-trial") == 1000
    assert text.count("<polyline") == 2000
    assert len(text.encode()) < 5_000_000
