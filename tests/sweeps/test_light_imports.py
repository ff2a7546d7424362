"""Each trial and each worker has a process: what these import before they can begin is paid for again and again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment

HEAVY = {"transformers", "scipy", "optuna", "deepspeed", "peft", "matplotlib"}


@pytest.mark.parametrize("module", ["raypref.sweeps.trial", "raypref.cluster.train_group", "raypref.sweeps.job"])
def test_what_a_process_begins_with_is_light(module: str, tmp_path: Path) -> None:
    code = f"import {module}, sys; print(*sys.modules)"
    own = environment(tmp_path) | {"RAY_AUTH_MODE": "token"}
    found = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    assert module in found.stdout.split()
    assert not HEAVY & set(found.stdout.split())
