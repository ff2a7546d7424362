"""The training stream through real Ray Data and Ray Train: the same for any number of workers, and after a resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raypref.data.columns import write_shard
from tests.support.forked import Forked
from tests.support.nodes import PATIENCE
from tests.support.processes import CHECKOUT, environment
from tests.support.stream_recorder import ROWS, SIZE, STEPS, fingerprint

SHARD_ROWS = 7


@pytest.mark.ray
@pytest.mark.timeout(2 * PATIENCE)
def test_workers_share_one_stream_and_a_resumed_run_goes_on_in_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    history = [rng.integers(0, 9, n).tolist() for n in rng.integers(1, 6, ROWS)]
    table = pa.table({"example": np.arange(ROWS), "history": pa.array(history, pa.list_(pa.int32()))})
    for i, start in enumerate(range(0, ROWS, SHARD_ROWS)):
        write_shard(table.slice(start, SHARD_ROWS), tmp_path, "train", i)
    recorder = ["-m", "tests.support.stream_recorder", str(tmp_path)]
    done = Forked(recorder, environment(tmp_path), CHECKOUT, tmp_path / "said.log")
    said = done.said(PATIENCE)
    assert done.poll() == 0, said[-4000:]
    seen = json.loads((tmp_path / "seen.json").read_text())

    def steps(workers: int, first: int) -> list[tuple[int, list[str]]]:
        return [(epoch, [row for part in rows for row in part]) for epoch, rows in seen[str(workers)][str(first)]]

    alone = steps(1, 0)
    assert len(alone) == STEPS
    assert all(len(set(rows)) == SIZE for _, rows in alone)
    assert {epoch for epoch, _ in alone} == {0, 1}
    assert {row for _, rows in alone for row in rows} <= set(fingerprint(table))  # what was stored, bit for bit
    for workers in (1, 4):
        assert {len(rows) for _, rows in seen[str(workers)]["0"]} == {workers}
        assert steps(workers, 0) == alone
        assert steps(workers, 8) == alone[8:]
