"""Trials on Ray that fail: by themselves, once or always, or by a mistake of the user's; which process ran each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raypref.storage.store import MANIFEST
from tests.support.processes import environment

FAILS_ONCE, NO_NUMBER, FAILS_ALWAYS = 1, 2, 3  # kinds of harm; 0 and 4 do none
LOSS = """
from pathlib import Path
from raypref.objectives import ObjectiveOutput
from raypref.objectives.rewards import log_ratios

FOLDER = Path("{folder}")

def loss(batch, params, state):
    pos, neg = log_ratios(batch)
    state["seen"] = state.get("seen", batch.tokens_pos.new_zeros(())) + 1
    harmed = params.harm if state["seen"] == 3 else 0
    if harmed in (1, 3):
        with (FOLDER / f"failures-{{params.harm:g}}").open("a") as log:
            log.write("x")
        if harmed == 3 or (FOLDER / "failures-1").stat().st_size == 1:
            raise RuntimeError("a fault of the machine's, say")
    return ObjectiveOutput((float("nan") if harmed == 2 else 1.0) * (neg.mean(dim=1) - pos), {{}})
"""
SWEEP = """
name: harms
question: What does a trial that can't go on do to the others?
objective: custom
space: {align.objective.params.harm: [0, 4, 1, 2, 3]}
seeds: 1
"""
OPTIONS = """
    --preset smoke --evaluation.no-generate --align.max-steps 4 --align.objective.params harm 0
    --resources.concurrent-trials 1 --resources.checkpoint-every 1
""".split()


@pytest.mark.ray
def test_a_fault_is_tried_again_a_mistake_is_not_and_a_good_end_leaves_the_process(tmp_path: Path) -> None:
    (tmp_path / "loss.py").write_text(LOSS.format(folder=tmp_path))
    (tmp_path / "harms.yaml").write_text(SWEEP)
    job = f"from raypref.sweeps.job import main; from pathlib import Path; main(Path({str(tmp_path / 'harms.yaml')!r}))"
    own = ["--align.objective.file", str(tmp_path / "loss.py"), "--root", str(tmp_path / "root")]
    done = subprocess.run(
        [sys.executable, "-c", job, *OPTIONS, *own],
        env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout[-3000:] + done.stderr[-3000:]  # some trials failed
    records = {record["params"]["align.objective.params.harm"]: record for record in read(tmp_path, "sweeps/*/trials")}
    states = {harm: record["status"] for harm, record in records.items()}
    assert states == {0: "done", FAILS_ONCE: "done", NO_NUMBER: "failed", FAILS_ALWAYS: "failed", 4: "done"}
    assert "lower the learning rate" in records[NO_NUMBER]["error"]
    assert "a fault of the machine's, say" in records[FAILS_ALWAYS]["error"]
    assert (tmp_path / "failures-1").read_text() == (tmp_path / "failures-3").read_text() == "xx"  # max_failures is 1
    manifest = json.loads((tmp_path / "root" / records[FAILS_ONCE]["align"] / MANIFEST).read_text())
    assert manifest["facts"]["resumed_at"] == [1]

    # What Tune itself knows of the trials: the setting, and by which process each result was reported.
    folder = tmp_path / "root" / ".ray-tune"
    points = [json.loads(path.read_text()) for path in folder.glob("*/*/params.json")]
    assert sorted((point["harm"], point["seed"]) for point in points) == [(harm, 0) for harm in range(5)]
    processes: dict[int, set[int]] = {}
    for path in folder.glob("*/*/result.json"):
        for line in path.read_text().splitlines():
            result = json.loads(line)
            processes.setdefault(result["config"]["harm"], set()).add(result["pid"])
    assert processes[0] == processes[4]
    assert len(processes[0]) == 1


def read(folder: Path, below: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (folder / "root").glob(f"{below}/*.json")]
