"""The collector: complete on whole sweeps, tolerant of what is broken, fast on many trials."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from raypref.errors import UserError
from raypref.evaluation.metrics import means
from raypref.results.collect import SFT, collect, load, write
from tests.support.planted_sweeps import LAMBDA, evaluation, rows, sweep

SPACE = {LAMBDA: [0, 0.5, 1.0]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sweep(tmp_path, SPACE, {LAMBDA: 0.5}, lambda setting, seed: 0.3, seeds=2, users=40)


def record(folder: Path, number: int) -> Path:
    return folder / "trials" / f"{number:012x}.json"


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_whole_sweep(folder):
    found = collect(folder)
    assert len(found.trials) == 7
    assert (found.trials["status"] == "done").all()
    assert found.trials["trial"].iloc[0] == SFT
    assert found.trials[LAMBDA].tolist()[1:] == [0, 0, 0.5, 0.5, 1, 1]
    assert found.trials["seed"].tolist()[1:] == [0, 1, 0, 1, 0, 1]
    assert len(found.metrics) == 7 * 2 * 11
    assert found.users.num_rows == 7 * 2 * 40
    assert "candidates" not in found.users.column_names


def test_metrics_are_the_rows_own(folder):
    found = collect(folder)
    trial = found.trials.iloc[3]
    table = pq.read_table(folder.parent.parent / trial["evaluate"] / "rows.parquet")
    split = np.array(table["split"].to_pylist())
    for name in ("test", "validation"):
        expected = means(table.filter(split == name))
        mine = found.metrics[(found.metrics["trial"] == trial["trial"]) & (found.metrics["split"] == name)]
        assert dict(zip(mine["metric"], mine["value"])) == pytest.approx(expected)
        assert set(mine["users"]) == {40}
    users = found.users.to_pandas()
    again = users[users["trial"] == trial["trial"]].groupby("split")["exact_ndcg@5"].mean()
    mine = found.metrics[(found.metrics["trial"] == trial["trial"]) & (found.metrics["metric"] == "exact_ndcg@5")]
    assert again.to_dict() == pytest.approx(dict(zip(mine["split"], mine["value"])))


def test_written_and_loaded_is_the_same(folder, tmp_path):
    change(record(folder, 1), status="failed", error="it broke")
    found = collect(folder)
    paths = write(found, tmp_path / "out")
    assert [path.name for path in paths] == ["results.parquet", "users.parquet"]
    assert not list((tmp_path / "out").glob(".tmp*"))
    again = load(tmp_path / "out")
    pd.testing.assert_frame_equal(found.trials, again.trials)
    pd.testing.assert_frame_equal(found.metrics, again.metrics)
    assert again.sweep == found.sweep
    assert again.users.equals(found.users)
    table = pq.read_table(paths[0]).to_pandas()
    assert table[table["status"] == "failed"]["metric"].isna().all()


def test_what_cannot_be_used_is_listed_with_the_reason(folder):
    root = folder.parent.parent
    change(record(folder, 0), status="failed", error="CUDA out of memory")
    change(record(folder, 1), status="running")
    record(folder, 2).write_text('{"trial": "000000000002", "par')
    (root / "evaluate" / "tiny-000000000003" / "_SUCCESS").unlink()
    (root / "evaluate" / "tiny-000000000004" / "rows.parquet").write_bytes(b"PAR1 and no more")
    change(record(folder, 5), params={}, seed=None)
    (folder / "trials" / ".tmp-x.json").write_text("{")
    (folder / "trials" / "list.json").write_text("[1]")
    (folder / "trials" / "empty.json").write_text("{}")
    found = collect(folder).trials.set_index("trial")
    state = found["status"].to_dict()
    assert state == {
        SFT: "done",
        "000000000000": "failed",
        "000000000001": "running",
        "000000000002": "unreadable",
        "000000000003": "incomplete",
        "000000000004": "incomplete",
        "000000000005": "incomplete",
        "list": "unreadable",
        "empty": "incomplete",
    }
    assert found.loc["000000000000", "error"] == "CUDA out of memory"
    assert "not finished" in found.loc["000000000003", "error"]
    assert "rows.parquet can't be read" in found.loc["000000000004", "error"]
    assert "lacks params, seed" in found.loc["000000000005", "error"]
    assert collect(folder).done.empty


def test_rows_of_another_schema(folder):
    path = folder.parent.parent / "evaluate" / "tiny-000000000000" / "rows.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["rank"]), path)
    found = collect(folder).trials.set_index("trial").loc["000000000000"]
    assert found["status"] == "incomplete"
    assert "not those of an evaluation" in found["error"]


def test_missing_sft_and_missing_numbers(folder):
    change(record(folder, 0), seconds=None, peak_memory_gb="much")
    change(folder / "sweep.json", sft="evaluate/tiny-sft-gone")
    found = collect(folder)
    assert found.trials["status"].iloc[0] == "incomplete"
    assert np.isnan(found.trials["seconds"].iloc[1])
    assert np.isnan(found.trials["peak_memory_gb"].iloc[1])
    assert SFT not in set(found.metrics["trial"])


def test_the_later_of_two_records_of_one_setting_and_seed_counts(folder):
    content = json.loads(record(folder, 0).read_text())
    newer = content | {"trial": "newer", "ended": "2026-02-01T00:00:00+00:00"}
    (folder / "trials" / "newer.json").write_text(json.dumps(newer))
    found = collect(folder).trials.set_index("trial")["status"]
    assert found["000000000000"] == "superseded"
    assert found["newer"] == "done"


def test_without_generation(tmp_path):
    folder = sweep(tmp_path, SPACE, {}, lambda setting, seed: 0.3, seeds=1, users=10, generate=False)
    found = collect(folder)
    assert not found.has("generated_hr@1", "test")
    assert found.has("exact_hr@1", "test")


def test_values_that_are_words(tmp_path):
    space = {"align.objective.margin": ["ratio", "log_ratio"], "align.objective.share_negatives": [True, False]}
    folder = sweep(tmp_path, space, {}, lambda setting, seed: 0.3, seeds=1, users=10)
    found = collect(folder)
    assert found.done["align.objective.share_negatives"].tolist() == ["false", "true", "false", "true"]
    write(found, folder)
    pd.testing.assert_frame_equal(load(folder).trials, found.trials)


def test_bad_folders(tmp_path):
    with pytest.raises(UserError, match="no sweep lies in this folder"):
        collect(tmp_path)
    with pytest.raises(UserError, match="no collected results"):
        load(tmp_path)
    (tmp_path / "sweep.json").write_text('{"name": ')
    with pytest.raises(UserError, match="can't be read"):
        collect(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="what it varies"):
        collect(tmp_path)


def test_sweep_whose_trials_have_not_begun(folder):
    for path in (folder / "trials").glob("*.json"):
        path.unlink()
    found = collect(folder)
    assert found.trials["trial"].tolist() == [SFT]
    assert found.done.empty


@pytest.mark.measures
def test_a_thousand_trials_are_read_and_written_in_under_20_seconds(tmp_path):
    """Tables alone; what a user waits for is timed whole in test_a_thousand_trials.py."""
    folder = sweep(tmp_path, {LAMBDA: [0]}, {LAMBDA: 0}, lambda setting, seed: 0.3, seeds=1, users=10)
    evaluation(tmp_path, "evaluate/many", rows(np.random.default_rng(0), 0.3, 500))
    content = json.loads(record(folder, 0).read_text())
    for number in range(1000):
        address = f"evaluate/tiny-{number:04d}"
        (tmp_path / address).mkdir()
        for name in ("rows.parquet", "_SUCCESS"):
            os.link(tmp_path / "evaluate" / "many" / name, tmp_path / address / name)
        setting = {"trial": f"{number:012x}", "evaluate": address, "params": {LAMBDA: number / 100}}
        record(folder, number).write_text(json.dumps(content | setting))
    started = time.process_time()
    found = collect(folder)
    write(found, folder)
    assert time.process_time() - started < 20
    assert len(found.done) == 1000
    assert found.users.num_rows == 1000 * 1000 + 20
