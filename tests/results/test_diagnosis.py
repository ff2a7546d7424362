"""Whether a swept key could act, told from logs: those of the old default sweep, of one that acts, of none."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raypref.results.answer import answer
from raypref.results.collect import Collection, collect, load, write
from raypref.results.conclusion import draw
from raypref.results.diagnosis import diagnosis, diagnosis_table
from raypref.results.report import report_html, report_markdown
from raypref.results.training_curves import write_training
from tests.support.planted_sweeps import LAMBDA, sweep

LOGS = Path(__file__).parent / "logs"
BETA = "align.objective.beta"
OLD = {  # the default sweep of 60 steps at 5e-5: loss, margin asked and reached
    0: (1.15, 0.0, 0.41), 0.5: (3.0, 2.5, 0.56), 1: (5.4, 5.0, 0.5), 2: (10.4, 9.4, 0.5), 3: (15.3, 14.0, 0.45),
}  # fmt: skip
ACTS = {0: (0.9, 0.0, 1.8), 2: (4.9, 9.4, 4.5)}  # 250 steps at 5e-4


def logged(root: Path, numbers: dict, key: str = LAMBDA, **more) -> Collection:
    """A sweep whose logs rise to these numbers."""
    folder = sweep(root, {key: list(numbers)}, {key: next(iter(numbers))}, lambda p, s: 0.2, seeds=2, users=20)
    for path in (folder / "trials").glob("*.json"):
        record = json.loads(path.read_text())
        loss, asked, reached = numbers[record["params"][key]]
        log = root / record["align"]
        log.mkdir(parents=True)
        rows = []
        for step in range(60):
            way = min(1.0, step / 40)
            row = {"step": step, "loss": loss, "gamma": asked, "reward_margin": reached * way, "effective_negatives": 2}
            rows.append(row | {name: value * way for name, value in more.items()})
        (log / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return collect(folder)


def kept(root: Path, name: str) -> Collection:
    """A sweep with the logs of a real one, thinned: its first seed's."""
    content = json.loads((LOGS / f"{name}.json").read_text())
    settings = {float(value): columns for value, columns in content["settings"].items()}
    folder = sweep(root, {LAMBDA: list(settings)}, {LAMBDA: 2.0}, lambda p, s: 0.25, seeds=1, users=20)
    account = json.loads((folder / "sweep.json").read_text())
    account["config"]["align"] |= content["align"]
    (folder / "sweep.json").write_text(json.dumps(account))
    for path in (folder / "trials").glob("*.json"):
        record = json.loads(path.read_text())
        columns = settings[record["params"][LAMBDA]]
        (root / record["align"]).mkdir(parents=True)
        rows = (dict(zip(columns, row)) for row in zip(*columns.values()))
        (root / record["align"] / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return collect(folder)


def test_the_old_default_sweep_could_not_act(tmp_path):
    """60 steps at 5e-5, as the default was: what `sweep_lambda.py --values 0 2 3` logged with these, seed 0."""
    found = kept(tmp_path, "sixty_steps")
    said = diagnosis(found)[0]
    assert re.match(
        r"λ could not act: at λ=3 the loss asks that the preferred title lead the others by 1[34]\.\d nats of "
        r"reward \(.*\), and training came to 0\.\d\. .*mean slope (0\.9\d|1\.00) of 1",
        said,
    )
    assert said.endswith(
        "It was trained 60 steps at 5e-05: train longer and faster, say --align.max-steps 120 "
        "--align.learning-rate 0.0005, and look again."
    )
    assert "But λ could not act in this training: see the diagnosis." in answer(found)
    assert said in report_html(found).replace("&#39;", "'")
    assert "λ could not act" in report_markdown(found)


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (5e-4, "train longer and faster, say --align.max-steps 120 --align.learning-rate 0.001,"),
        (2e-3, "train longer, say --align.max-steps 120 --align.learning-rate 0.002,"),
    ],
)
def test_no_advice_is_to_learn_faster_than_1e_3(rate, said, tmp_path):
    found = kept(tmp_path, "sixty_steps")
    found.sweep["config"]["align"]["learning_rate"] = rate
    assert said in diagnosis(found)[0]


def test_the_default_sweep_could_act(tmp_path):
    """150 steps at 5e-4: what `python jobs/sweep_lambda.py` logged, seed 0."""
    found = kept(tmp_path, "default")
    assert re.match(
        r"λ could act: at λ=5 .* lead the others by 23\.\d nats of reward .*, and training came to 1\d\.\d\.",
        diagnosis(found)[0],
    )
    assert "could not act" not in " ".join([answer(found), *diagnosis(found)])


def test_logs_of_before_the_slope(tmp_path):
    found = logged(tmp_path, OLD)
    assert diagnosis(found)[0].startswith("λ could not act: at λ=3")
    assert "Train longer (--align.max-steps), or raise --align.learning-rate" in diagnosis(found)[0]
    row = diagnosis_table(found).set_index("setting").loc["λ=2"]
    assert row["slope"] == pytest.approx(1 - math.exp(-10.4))
    assert row["reached"] == pytest.approx(0.5)


def test_one_that_can_act_is_not_accused(tmp_path):
    (said,) = diagnosis(logged(tmp_path, ACTS))
    assert said.startswith("λ could act: at λ=2 the loss asks")
    assert "by 9.4 nats of reward" in said
    assert said.endswith("training came to 4.5.")


def test_a_model_that_did_not_move(tmp_path):
    still = {0.1: (0.69, 0, 0.01), 1: (0.69, 0, 0.02)}
    (said,) = diagnosis(logged(tmp_path / "a", still, BETA, drift=0.001))
    assert said.startswith("β could not act: alignment hardly moved the model")
    assert diagnosis(logged(tmp_path / "b", {0.1: (0.5, 0, 1.0), 1: (0.4, 0, 2.0)}, BETA)) == []


def test_falling_preferred_titles_are_told(tmp_path):
    said = diagnosis(logged(tmp_path, ACTS, logp_pos=-1.5))
    assert "became less likely in training (by 1.3 nats at λ=0" in said[-1]
    assert not any("less likely" in line for line in diagnosis(logged(tmp_path / "up", ACTS, logp_pos=1.5)))


def test_what_was_collected_is_diagnosed_without_its_logs(tmp_path):
    found = logged(tmp_path / "root", OLD)
    out = tmp_path / "out"
    out.mkdir()
    write(found, out)
    write_training(found, out)
    assert diagnosis(load(out)) == diagnosis(found)


def test_only_what_is_shown_is_drawn(tmp_path):
    found = logged(tmp_path / "root", ACTS, drift=0.1)
    drawn = [path.name for path in draw(found, tmp_path, ("svg",))]
    assert "training.svg" in drawn
    assert "gamma" not in (tmp_path / "training.csv").read_text()


def test_nothing_logged_nothing_said(tmp_path):
    folder = sweep(tmp_path, {LAMBDA: [0, 1]}, {LAMBDA: 0}, lambda p, s: 0.2, seeds=1, users=10)
    assert diagnosis(collect(folder)) == []


def test_the_report_says_what_could_be_seen(tmp_path):
    folder = sweep(tmp_path, {LAMBDA: [0, 1, 2]}, {LAMBDA: 0}, lambda p, s: 0.3, seeds=3, users=200)
    text = report_html(collect(folder))
    assert re.search(
        r"What could be seen: with 200 users and 3 seeds this sweep finds a true difference of HR@1 to λ=0 four times "
        r"in five if it is 0\.\d+ or more",
        text,
    )
    assert re.search(r"To find one of 0\.01 would take (\d+ seeds or )?[\d,]+ users\.", text)


def test_places_are_told(tmp_path):
    folder = sweep(tmp_path, {LAMBDA: [0, 1]}, {LAMBDA: 0}, lambda p, s: 0.3, seeds=1, users=60)
    for path in (tmp_path / "evaluate").glob("*/rows.parquet"):
        rows = pq.read_table(path)
        logps = np.array(rows["logps"].to_pylist())
        places = np.argsort(np.tile(np.roll(np.arange(20), 10), (len(logps), 1, 1)), axis=2)
        first = np.array([[[9.0 if place == 0 else 0.0 for place in order] for order in of] for of in places])
        own = np.zeros_like(logps)
        own[:, 0] = 9  # always what stands first
        rows = rows.set_column(rows.column_names.index("logps"), "logps", [own.tolist()])
        target = np.zeros(len(rows), np.int32)  # first in one order, eleventh in the other
        rows = rows.set_column(rows.column_names.index("target"), "target", [target])
        rows = rows.append_column("order_places", [places.tolist()]).append_column("order_logps", [first.tolist()])
        pq.write_table(rows, path)
    text = report_html(collect(folder))
    assert "Position, preference or memory" in text
    assert "Place matters in 3 of 3 models" in text
