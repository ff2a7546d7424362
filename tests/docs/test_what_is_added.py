"""CONTRIBUTING.md says what a new metric, objective, source, stage and system touch: these diffs, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.processes import CHECKOUT, environment

TOUCHED = {
    "new_metric": ["raypref/evaluation/metrics.py"],
    "new_objective": ["raypref/config/objectives.py", "raypref/objectives/losses.py"],
    "new_source": [
        "raypref/config/sources.py",
        "raypref/data/sources/__init__.py",
        "raypref/data/sources/taste_profile.py",
    ],
    "new_stage": ["raypref/stages/chain.py", "raypref/stages/fame.py"],
    "new_system": ["raypref/config/systems.py", "raypref/stages/chain.py"],
}
CHECK = """
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raypref.config import RunConfig
from raypref.config.objectives import OBJECTIVE_CONFIGS
from raypref.config.sources import SOURCE_CONFIGS
from raypref.evaluation.metrics import EXACT
from raypref.objectives import OBJECTIVES, losses
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.storage.store import Store
from raypref.testing import check_source

rows = pa.table({"rank": [1, 2, 3, 4], "candidates": [[0] * 4] * 4})
assert EXACT["exact_upper_half"](rows).tolist() == [1, 1, 0, 0]

assert OBJECTIVES["hinge"] == (losses.hinge, OBJECTIVE_CONFIGS["hinge"])

Path("plays.txt").write_text("a\\tx\\t3\\na\\ty\\t1\\nb\\tx\\t2\\n")
log = check_source(SOURCE_CONFIGS["taste-profile"](path=Path("plays.txt")))
assert sorted(log.interactions["count"].to_pylist()) == [1, 2, 3]

data = {"source": {"kind": "generated", "users": 60, "items": 60}}
baseline = {"baseline": {"recommender": "popularity"}, "data": data, "system": "baseline"}
run = chain(RunConfig.model_validate(baseline))
assert chain(RunConfig.model_validate({"data": data, "system": "popular"})).evaluate.address == run.evaluate.address

store = Store("root")
(fame,) = [stage for stage in run.shared if stage.kind == "fame"]
for stage in (run.prepare, fame):
    InProcess(store)(run, stage)
counts = pq.read_table(store.path(fame.address) / "fame.parquet")["count"].to_pylist()
assert counts == sorted(counts, reverse=True)
assert sum(counts) == pq.read_metadata(store.path(run.prepare.address) / "interactions.parquet").num_rows
assert store.manifest(fame.address)["facts"]["never_met"] == counts.count(0)
"""


def test_the_diffs_add_them(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "raypref", tmp_path / "raypref", ignore=shutil.ignore_patterns("__pycache__", "base"))
    for name, touched in TOUCHED.items():
        diff = CHECKOUT / "docs" / "examples" / f"{name}.diff"
        lines = diff.read_text().splitlines()
        assert [line.removeprefix("+++ b/") for line in lines if line.startswith("+++ b/")] == touched
        subprocess.run(["patch", "-p1", "-s", "-i", str(diff)], cwd=tmp_path, check=True)
    own = environment(tmp_path) | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", CHECK], cwd=tmp_path, env=own, check=True)
