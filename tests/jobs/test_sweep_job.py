"""The λ sweep through real Ray, small: shared stages once, trials in Tune and Train, results; then all is done."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raypref.config.sources import GeneratedSource
from raypref.data.sources.generated import generate
from raypref.evaluation.metrics import means
from raypref.storage.store import MANIFEST
from tests.support.forked import Forked
from tests.support.nodes import PATIENCE
from tests.support.processes import CHECKOUT, environment
from tests.support.timed_lines import SILENCE_S, Timed, longest_silence, timed

pytestmark = pytest.mark.ray
SMALL = """
    --dataset csv --data.source.path interactions.csv --data.source.domain movie --data.max-train-examples-per-user 4
    --sft.max-steps 4 --sft.global-batch 16 --sft.validations 1 --sft.validation-examples 16
    --align.max-steps 3 --align.global-batch 16 --align.validation-examples 16
    --evaluation.max-examples 20 --resources.micro-batch 8 --seeds 1 --values 0 2
""".split()


def sweep(home: Path) -> Timed:
    """The job as a user runs it, with a HOME of its own for Ray's token."""
    command = [sys.executable, str(CHECKOUT / "jobs" / "sweep_lambda.py"), "--root", str(home / "root")]
    return timed([*command, *SMALL], home)


def sweep_again(home: Path, *options: str) -> str:
    """What the same job says once it is done."""
    command = ["jobs/sweep_lambda.py", "--root", str(home / "root"), *SMALL, *options]
    job = Forked(command, environment(home), home, home / "again.log")
    said = job.said(PATIENCE)
    assert job.poll() == 0, said[-4000:]
    return said


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Timed]:
    home = tmp_path_factory.mktemp("home")
    log = generate(GeneratedSource(users=60, items=80, mean_length=12))
    titles = log.items["title"].to_numpy(zero_copy_only=False)
    table = log.interactions.select(["user", "item", "rating", "timestamp"]).to_pandas()
    table.assign(title=titles[table["item"]]).to_csv(home / "interactions.csv", index=False)
    return home, sweep(home)


def test_ends_with_a_table_a_curve_and_an_answer(first: tuple[Path, Timed]) -> None:
    home, done = first
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (folder,) = (home / "root" / "sweeps").iterdir()
    for name in (
        "curve-lambda.png",
        "curve-lambda.svg",
        "curve-lambda.csv",
        "table.md",
        "report.html",
        "users.parquet",
    ):
        assert (folder / name).stat().st_size > 0
    assert "λ=" in json.loads((folder / "answer.json").read_text())["answer"]
    assert "report.html" in done.stdout


def test_it_is_never_silent(first: tuple[Path, Timed]) -> None:
    _, done = first
    assert longest_silence(done) < SILENCE_S
    assert "expected to take" in done.stdout


def test_shared_stages_are_computed_once(first: tuple[Path, Timed]) -> None:
    home, _ = first
    root = home / "root"
    counts = {kind: len(list((root / kind).glob(f"*/{MANIFEST}"))) for kind in ("prepare", "sft", "reference", "align")}
    assert counts == {"prepare": 1, "sft": 1, "reference": 1, "align": 2}
    assert not list((root / ".scratch").glob("*"))


def test_every_reported_number_follows_from_the_rows(first: tuple[Path, Timed]) -> None:
    home, _ = first
    (folder,) = (home / "root" / "sweeps").iterdir()
    results = pq.read_table(folder / "results.parquet").to_pandas()
    for path in (folder / "trials").glob("*.json"):
        record = json.loads(path.read_text())
        rows = pq.read_table(home / "root" / record["evaluate"] / "rows.parquet")
        test = means(rows.filter(rows["split"].combine_chunks().to_numpy(zero_copy_only=False) == "test"))
        of_trial = results[(results["trial"] == record["trial"]) & (results["split"] == "test")]
        reported = dict(zip(of_trial["metric"], of_trial["value"]))
        assert reported["exact_hr@1"] == pytest.approx(test["exact_hr@1"])
        assert reported["valid_ratio"] == pytest.approx(test["valid_ratio"])


def test_a_trial_says_what_it_spent_outside_training(first: tuple[Path, Timed]) -> None:
    home, _ = first
    records = [json.loads(path.read_text()) for path in home.glob("root/sweeps/*/trials/*.json")]
    assert len(records) == 2
    for record in records:
        parts = record["train_seconds"] + record["evaluate_seconds"] + record["overhead_seconds"]
        assert parts == pytest.approx(record["seconds"], abs=0.02)
        assert 0 < record["start_seconds"] + record["end_seconds"] <= record["overhead_seconds"] + 0.02


def test_the_same_command_again_trains_nothing(first: tuple[Path, Timed]) -> None:
    home, _ = first
    manifests = {p: p.stat().st_mtime_ns for p in (home / "root").rglob(MANIFEST)}
    started = time.monotonic()
    assert "all 2 done before" in sweep_again(home)
    assert time.monotonic() - started < 60
    assert {p: p.stat().st_mtime_ns for p in (home / "root").rglob(MANIFEST)} == manifests


def test_a_wider_space_runs_only_what_is_new(first: tuple[Path, Timed]) -> None:
    home, _ = first
    said = sweep_again(home, "--values", "0", "1", "2", "--dry-run")
    assert "to do: 0 shared stage(s), 1 of 3 trials" in said
    assert "missing: nothing" in said
