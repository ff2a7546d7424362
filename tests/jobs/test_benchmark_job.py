"""jobs/benchmark.py from a raw log to its tables: users who go round in circles, which order alone foretells."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from raypref.errors import UserError
from raypref.storage.store import MANIFEST
from raypref.sweeps.benchmark import run
from tests.support.processes import CHECKOUT, environment

SWEEP = CHECKOUT / "sweeps" / "benchmark.yaml"
METHODS = ["caser", "gru4rec", "popularity", "random", "sasrec"]
FITTED = ["caser", "gru4rec", "sasrec"]
OPTIONS = """
    --preset classical --data.source.path ml-100k --seeds 2 --baseline.dimension 16 --baseline.batch 32
    --baseline.epochs 8 --baseline.learning-rate 2e-2 --baseline.l2 1e-6 1e-7
""".split()
USERS, ITEMS, LENGTH = 90, 40, 16


def write_circles(folder: Path) -> None:
    """MovieLens 100K's files: who saw item i sees item i + 1 next."""
    folder.mkdir()
    rng = random.Random(0)
    lines = []
    for user in range(1, USERS + 1):
        first = rng.randrange(ITEMS)
        items = [(first + step) % ITEMS + 1 for step in range(LENGTH)]
        lines += [f"{user}\t{item}\t{rng.randint(1, 5)}\t{880_000_000 + step}" for step, item in enumerate(items)]
    (folder / "u.data").write_text("\n".join(lines) + "\n")
    flags = "|".join("0" * 19)
    movies = [f"{item}|Film {item} (1995)|01-Jan-1995||http://x/{item}|{flags}" for item in range(1, ITEMS + 1)]
    (folder / "u.item").write_text("\n".join(movies) + "\n", encoding="latin-1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_circles(folder / "ml-100k")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(SWEEP, [*OPTIONS, "--root", str(folder / "root"), "--no-ray"]) == 0
    return folder


def written(home: Path) -> Path:
    return written_under(home / "root")


def written_under(root: Path) -> Path:
    (folder,) = (root / "benchmarks").iterdir()
    return folder


def check_tables(folder: Path) -> None:
    """The table holds every method, stars what differs from popularity, and has the papers' numbers beside ours."""
    with (folder / "benchmark.md").open() as file:
        lines = [line for line in file if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines)
    rows = rows[: len(METHODS)]  # the tests' table follows
    assert [row[0].rstrip("\\*") for row in rows] == METHODS
    starred = {row[0].rstrip("\\*") for row in rows if row[0].endswith("*")}
    tests = pd.read_csv(folder / "tests.csv").set_index("method")
    assert starred == set(tests.index[tests["p_holm"] < 0.05])
    assert set(FITTED) <= starred
    assert "popularity" not in starred
    seeds = {row[0].rstrip("\\*"): row[header.index("seeds")] for row in rows}
    assert seeds == {method: "1" if method == "popularity" else "2" for method in METHODS}
    column = next(i for i, name in enumerate(header) if name.startswith("S-DPO"))
    papers = {row[0].rstrip("\\*"): row[column] for row in rows}
    assert papers == {"popularity": "-", "random": "-", "gru4rec": "0.3750", "caser": "0.3861", "sasrec": "0.3444"}
    scores = pd.read_csv(folder / "scores.csv")
    hits = scores[scores["metric"] == "exact_hr@1"].set_index("method")
    assert (hits.loc[FITTED, "mean"] > 0.5).all()
    assert hits.loc["popularity", "mean"] < 0.3
    place = header.index("exact HR@1")
    for row in rows:
        name, shown = row[0].rstrip("\\*"), re.sub(r"[*\\]", "", row[place]).split()[0]
        assert float(shown) == pytest.approx(hits.loc[name, "mean"], abs=5e-5)
        assert row[place].startswith("**") == bool(hits.loc[name, "best"])


def test_the_table(home: Path) -> None:
    check_tables(written(home))
    page, source = (written(home) / f"benchmark.{kind}" for kind in ("html", "tex"))
    for method in METHODS:
        assert method in page.read_text()
        assert method in source.read_text()


def test_its_numbers_follow_from_the_rows(home: Path) -> None:
    scores = pd.read_csv(written(home) / "scores.csv").set_index(["method", "metric"])["mean"]
    rows = [pq.read_table(path).to_pandas() for path in (home / "root" / "evaluate").glob("*/rows.parquet")]
    found = sorted(float((table[table["split"] == "test"]["rank"] == 1).mean()) for table in rows)
    assert len(found) == 2 * len(METHODS) - 1
    by_method = {method: scores[method, "exact_hr@1"] for method in METHODS}
    assert sum(found) == pytest.approx(2 * sum(by_method.values()) - by_method["popularity"])


def test_each_penalty_is_tried_once_and_nothing_is_done_twice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = home / "root"
    counts = {k: len(list((root / k).glob(f"*/{MANIFEST}"))) for k in ("prepare", "try", "tune", "fit", "evaluate")}
    assert counts == {"prepare": 1, "try": 6, "tune": 3, "fit": 9, "evaluate": 9}
    before = {path: path.stat().st_mtime_ns for path in root.glob(f"*/*/{MANIFEST}")}
    monkeypatch.chdir(home)
    assert run(SWEEP, [*OPTIONS, "--root", str(root), "--no-ray"]) == 0
    assert {path: path.stat().st_mtime_ns for path in root.glob(f"*/*/{MANIFEST}")} == before


def test_about_another_data_set_only_titles_can_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such a table has no reference among the floors."""
    away = "--preset smoke --resources.engine torch --seeds 1 --transfer-dataset generated --transfer.source.seed 7"
    options = [*away.split(), "--root", str(tmp_path), "--no-ray", "--dry-run"]
    assert run(SWEEP, options) == 0
    trials = re.findall(r"^  (\S+) seed=0", capsys.readouterr().out, re.MULTILINE)
    assert trials == ["sft", "zero-shot", "tallrec", "dpo", "simpo", "sdpo", "recpo"]  # the reference comes first
    assert run(SWEEP, [*options, "--methods", "zero-shot", "recpo"]) == 0
    assert re.findall(r"^  (\S+) seed=0", capsys.readouterr().out, re.MULTILINE) == ["zero-shot", "recpo"]
    with pytest.raises(UserError, match="knows no items but its own"):
        run(SWEEP, [*options, "--methods", "sasrec", "sft"])


@pytest.mark.slow
def test_the_same_through_ray(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [*OPTIONS, "--seeds", "1", "--methods", "popularity", "gru4rec", "sasrec", "--resources.threads", "1"]
    monkeypatch.chdir(home)
    assert run(SWEEP, [*few, "--root", str(tmp_path / "here" / "root"), "--no-ray"]) == 0
    script = [sys.executable, str(CHECKOUT / "jobs" / "benchmark.py"), "--root", str(tmp_path / "root"), *few]
    done = subprocess.run(
        script, env=environment(tmp_path), cwd=home, capture_output=True, text=True, timeout=550, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    counts = {k: len(list((tmp_path / "root" / k).glob(f"*/{MANIFEST}"))) for k in ("try", "tune", "fit", "evaluate")}
    assert counts == {"try": 4, "tune": 2, "fit": 3, "evaluate": 3}
    for name in ("scores", "tests"):
        here, there = (pd.read_csv(written(h) / f"{name}.csv") for h in (tmp_path / "here", tmp_path))
        pd.testing.assert_frame_equal(here, there)
