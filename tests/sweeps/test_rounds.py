"""`--decide`: seeds only where the verdict is open, nothing repeated, and the same command comes to the same end."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from raypref.config.loading import load, override
from raypref.errors import UserError
from raypref.results.answer import answer
from raypref.results.collect import collect
from raypref.results.summaries import comparisons, settings
from raypref.results.tables import headline_metric, sweep_cells
from raypref.storage.store import Store, write_json
from raypref.sweeps import account as accounts
from raypref.sweeps import sweep as sweeps
from raypref.sweeps.options import SweepOptions
from raypref.sweeps.rounds import chosen_by_validation
from raypref.sweeps.space import SweepConfig
from raypref.sweeps.trial_records import new_record, record_path
from tests.support.planted_sweeps import LAMBDA, evaluation, rows

USERS = 3000
SWEEP = SweepConfig(name="planted", question="?", space={LAMBDA: (0.0, 1.0, 2.0)}, default={LAMBDA: 0.0})


def hits(setting: float, seed: int) -> np.ndarray:
    """λ=2 is better by 0.05; λ=1 differs from λ=0 in a few users, to and fro."""
    first = np.random.default_rng(seed).random(USERS) < 0.3
    rng = np.random.default_rng([int(setting), seed])
    if setting == 2:
        return first | (rng.random(USERS) < 0.07)
    return first ^ (rng.random(USERS) < 0.02 * setting * np.where(first, 1, 0.3 / 0.7))


class Trials:
    """Stands for training: leaves planted rows, and notes what was asked of it."""

    def __init__(self) -> None:
        self.ran: list[tuple[float, int]] = []

    def __call__(self, sweep, base, planned, store, folder, options, console) -> None:
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        write_json(folder / "sweep.json", accounts.account_of(sweep, base, planned[0].chain) | {"sft": None})
        for trial in planned:
            address = str(trial.chain.evaluate.address)
            if (store.root / address).exists():
                continue
            value = float(trial.params[LAMBDA])
            self.ran.append((value, trial.seed))
            table = rows(np.random.default_rng(0), 0.0, USERS, generate=False)
            rank = np.where(np.tile(hits(value, trial.seed), 2), 1, 2).astype(np.int32)
            evaluation(store.root, address, table.set_column(table.column_names.index("rank"), "rank", [rank]))
            write_json(record_path(folder, trial.id), new_record(trial) | {"status": "done", "seconds": 1.0})


def decide(root: Path, monkeypatch: pytest.MonkeyPatch, **options) -> tuple[Path, Trials, str]:
    trials, out = Trials(), io.StringIO()
    monkeypatch.setattr(sweeps, "_carry_out", trials)
    config, origins = load("smoke", None)
    given = SweepOptions(root=str(root), decide=0.01, ray=False, **options)
    folder = sweeps.run_sweep(SWEEP, config, given, origins, Console(file=out, width=200))
    assert folder is not None
    return folder, trials, out.getvalue()


def test_seeds_go_where_they_decide(tmp_path, monkeypatch):
    folder, trials, said = decide(tmp_path, monkeypatch)
    account = json.loads((folder / "sweep.json").read_text())["decided"]
    found = {row["setting"]: row for row in account["comparisons"]}
    assert found["λ=2"]["verdict"] == "better"
    assert found["λ=1"]["verdict"] == "equivalent"
    assert trials.ran.count((2.0, 0)) == 1
    assert len([t for t in trials.ran if t[0] == 2.0]) == found["λ=2"]["seeds"] < 3
    assert sorted(t for t in trials.ran if t[0] == 0.0) == [(0.0, s) for s in range(found["λ=1"]["seeds"])]
    assert "1 better" in said
    assert "ended after" in said
    again, repeated, _ = decide(tmp_path, monkeypatch)
    assert (again, repeated.ran) == (folder, [])
    assert json.loads((folder / "sweep.json").read_text())["decided"] == account


def test_validation_counts_where_it_chose_no_weights(tmp_path, monkeypatch):
    """Both questions to each user, and the table says so; where validation chose among weights, test alone."""
    monkeypatch.setattr("raypref.sweeps.rounds.chosen_by_validation", lambda config: True)
    alone, *_ = decide(tmp_path / "alone", monkeypatch)
    monkeypatch.setattr("raypref.sweeps.rounds.chosen_by_validation", lambda config: False)
    both, *_ = decide(tmp_path / "both", monkeypatch)
    found = [json.loads((folder / "sweep.json").read_text())["decided"]["splits"] for folder in (alone, both)]
    assert found == [["test"], ["validation", "test"]]
    notes = [sweep_cells(collect(folder, folder.parents[1])).notes for folder in (alone, both)]
    assert ["validation and test together" in " ".join(of) for of in notes] == [False, True]


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({"align.keep": "last", "align.validations": 4}, False),
        ({"align.keep": "loss", "align.validations": 4}, True),
        ({"align.keep": "loss", "align.validations": 1}, False),
    ],
)
def test_when_validation_chose_the_weights(changes, chosen):
    assert chosen_by_validation(override(load("smoke", None)[0], changes, "test")) is chosen


def test_the_report_says_what_the_rounds_decided(tmp_path, monkeypatch):
    folder, *_ = decide(tmp_path, monkeypatch)
    account = json.loads((folder / "sweep.json").read_text())
    account["decided"]["comparisons"][0]["verdict"] = "undecided"  # as if the rounds had ended there
    (folder / "sweep.json").write_text(json.dumps(account))
    collection = collect(folder, tmp_path)
    default = next(setting for setting in settings(collection) if setting.default)
    table = comparisons(collection, headline_metric(collection), "test", default).set_index("setting")
    assert table.loc[account["decided"]["comparisons"][0]["setting"], "verdict"] == "undecided"
    assert "λ=2 is better (+0.0" in answer(collection)


@pytest.mark.parametrize(
    ("changes", "options", "hint"),
    [
        ({}, {"decide": 0.0}, "--decide 0.01"),
        ({}, {"seeds": 3}, "--max-seeds"),
        ({"search": "random"}, {}, "--search grid"),
        ({}, {"equivalent": -1.0}, "--equivalent 0.01"),
    ],
)
def test_what_can_not_be_decided_is_refused(tmp_path, changes, options, hint):
    given = SweepOptions(**({"root": str(tmp_path), "decide": 0.01} | options))
    with pytest.raises(UserError, match=hint):
        sweeps.check_decidable(SWEEP.model_copy(update=changes), given)
    assert Store(str(tmp_path)).root == tmp_path
