"""Commands answer before anything heavy is imported: counted by modules, and by CPU seconds with generous bounds.

Their usage names them as they are typed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import CHECKOUT, environment

HEAVY = ("torch", "transformers", "peft", "ray", "optuna", "scipy.stats", "matplotlib", "deepspeed")
REPORT = """
import json, runpy, sys, time
program, sys.argv = sys.argv[1], sys.argv[1:]
code = 0
try:
    if program == "raypref":
        sys.argv[0] = "/a/folder/cli.py"  # what a command is called must not hang on how it was started
        from raypref.cli import main
        main()
    else:
        runpy.run_path(program, run_name="__main__")
except SystemExit as ended:
    code = ended.code or 0
heavy = [name for name in HEAVY if name in sys.modules]
print("\\n" + json.dumps({"code": code, "cpu": time.process_time(), "heavy": heavy}))
"""
HELP, LIST, MISTAKE, PLAN = 3.0, 2.0, 4.0, 8.0  # CPU seconds: twice what is wanted on an idle machine

CASES = {
    "raypref --help": (0, LIST),
    "raypref --version": (0, LIST),
    **{f"raypref {name} --help": (0, HELP) for name in ("run", "adapt", "recommend", "rescore", "export", "submit")},
    **{f"raypref {name} --help": (0, HELP) for name in ("watch-spot", "dashboard", "data", "data show")},
    "raypref collect --help": (0, LIST),
    "raypref plot --help": (0, LIST),
    "raypref objectives": (0, LIST),
    "raypref data list": (0, LIST),
    "raypref model list": (0, LIST),
    "jobs/sweep_lambda.py --help": (0, HELP),
    "jobs/benchmark.py --help": (0, HELP),
    "jobs/replicate.py --help": (0, HELP),
    "raypref run --dry-run --preset tiny": (0, PLAN),
    "jobs/sweep_lambda.py --dry-run": (0, PLAN),
    "raypref runn": (2, MISTAKE),
    "raypref run --presett tiny": (2, MISTAKE),
    "raypref run --preset tinny": (2, MISTAKE),
    "raypref run --objective recpoo": (2, MISTAKE),
    "raypref run --dataset csvv": (2, MISTAKE),
    "raypref run --config nowhere.yaml": (2, MISTAKE),
    "raypref run --dataset csv --data.source.path nowhere.csv": (2, MISTAKE),
    "raypref run --model.path ./nowhere": (2, MISTAKE),
    "raypref run --model.path nowhere.gguf": (2, MISTAKE),
    "raypref model fetch smollm": (2, MISTAKE),
    "raypref recommend --user u0000003": (2, MISTAKE),  # of a run that has no model yet
    "raypref export nowhere --to somewhere": (2, MISTAKE),
}


@pytest.mark.parametrize("command", CASES)
def test_it_imports_nothing_heavy(command: str, tmp_path: Path) -> None:
    program, *arguments = command.split()
    if program != "raypref":
        program = str(CHECKOUT / program)
    code = REPORT.replace("HEAVY", repr(HEAVY))
    own = environment(tmp_path) | {"RAYPREF_ROOT": str(tmp_path / "results")}
    asked = subprocess.run(
        [sys.executable, "-c", code, program, *arguments], cwd=tmp_path, env=own, capture_output=True, text=True
    )
    found = json.loads(asked.stdout.splitlines()[-1])
    expected, seconds = CASES[command]
    assert found["code"] == expected, asked.stdout + asked.stderr
    assert found["heavy"] == []
    assert found["cpu"] < seconds
    if program == "raypref" and arguments[-1] == "--help" and len(arguments) > 1:
        assert asked.stdout.startswith(f"usage: raypref {' '.join(arguments[:-1])} [")
