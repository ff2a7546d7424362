"""The λ sweep with its results in S3, as moto's server plays it: failing requests, slow answers, an outage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.support.forked import Forked
from tests.support.nodes import ONE, PATIENCE, SWEEP, TWO, rows, wait
from tests.support.processes import environment
from tests.support.s3 import ROOT, Troubled, served_s3

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * PATIENCE)]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Troubled]:
    with served_s3(monkeypatch) as application:
        yield application


def sweep(home: Path, *options: str) -> Forked:
    home.mkdir(exist_ok=True)
    command = ["jobs/sweep_lambda.py", "--root", ROOT, *SWEEP, *options]
    return Forked(command, environment(home), home, home / "sweep.log")


def said(job: Forked) -> str:
    text = job.said(2 * PATIENCE)
    assert job.poll() == 0, text[-4000:]
    return text


def assert_same(home: Path, whole: Path) -> None:
    """The rows that lie in the store, as `raypref collect` reads them, are those on the disk of the same trials."""
    (mirror,) = (home / ".cache/raypref").iterdir()
    found, undisturbed = rows(mirror), rows(whole)
    assert all(found[address].equals(undisturbed[address]) for address in found)
    (folder,) = (mirror / "sweeps").iterdir()
    collect = ["-m", "raypref.cli", "collect", f"{ROOT}/sweeps/{folder.name}", "--out", str(home / "out")]
    said(Forked(collect, environment(home), home, home / "collect.log"))
    (expected,) = whole.glob("sweeps/*/users.parquet")
    users, all_users = plain(home / "out" / "users.parquet"), plain(expected)
    assert users.num_rows
    assert users.equals(all_users.filter(pc.is_in(all_users["trial"], pc.unique(users["trial"]))))


def plain(path: Path) -> pa.Table:
    """A table whose categories are text, which is the same however many of them the file has."""
    table = pq.read_table(path)
    columns = dict(zip(table.column_names, table.columns))
    text = {name: column.cast(pa.string()) for name, column in columns.items() if pa.types.is_dictionary(column.type)}
    return pa.table(columns | text)


def test_failing_and_slow_requests_change_no_row(s3: Troubled, whole: Path, tmp_path: Path) -> None:
    s3.failing, s3.slow = 0.05, 0.02
    said(sweep(tmp_path / "one", *TWO))
    assert s3.failed >= 3
    s3.failing = s3.slow = 0
    assert_same(tmp_path / "one", whole)
    before = s3.asked
    elsewhere = said(sweep(tmp_path / "other", *TWO, "--no-ray"))  # another machine, with nothing in its mirror
    assert "[1/" not in elsewhere  # no trial ran
    assert s3.asked > before


def test_an_outage_of_30_seconds_is_waited_for(s3: Troubled, whole: Path, tmp_path: Path) -> None:
    job = sweep(tmp_path, *ONE, "--no-ray")
    wait("the first trial", lambda: list(tmp_path.glob(".cache/raypref/*/.scratch/align-*")) or job.poll() is not None)
    s3.away = True
    time.sleep(30)
    s3.away = False
    said(job)
    assert s3.failed
    assert_same(tmp_path, whole)
