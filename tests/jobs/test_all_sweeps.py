"""Every sweep has a job, a plan and a help; what its options refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from raypref.sweeps.job import run
from raypref.sweeps.space import SweepConfig, load_sweep
from tests.support.processes import CHECKOUT

SWEEPS = sorted((CHECKOUT / "sweeps").glob("sweep_*.yaml"))
TRIALS = {"lambda": 12, "alpha": 15, "rho": 15, "u_beta": 15, "beta": 15, "negatives": 36, "joint": 32, "method": 32}


def said(capsys: pytest.CaptureFixture[str], sweep: Path, tmp_path: Path, *options: str) -> tuple[int, str]:
    code = run(sweep, ["--preset", "smoke", "--root", str(tmp_path), *options])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_job_for_every_sweep_and_a_sweep_for_every_job():
    assert {path.stem for path in SWEEPS} == {path.stem for path in (CHECKOUT / "jobs").glob("sweep_*.py")}
    assert {path.stem.removeprefix("sweep_") for path in SWEEPS} == set(TRIALS)
    assert all(load_sweep(path, SweepConfig).name == path.stem for path in SWEEPS)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_dry_run(sweep, tmp_path, capsys):
    code, text = said(capsys, sweep, tmp_path, "--dry-run")
    trials = TRIALS[sweep.stem.removeprefix("sweep_")]
    assert code == 0
    assert f"{trials} of {trials} trials" in text
    assert not (tmp_path / "sweeps").exists()


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_help_has_examples(sweep, capsys):
    with pytest.raises(SystemExit) as ended:
        run(sweep, ["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"jobs/{sweep.stem}.py --dry-run" in text
    assert "--add-trials" in text


def test_a_method_has_its_own_space(tmp_path, capsys):
    _, text = said(capsys, CHECKOUT / "sweeps" / "sweep_alpha.yaml", tmp_path, "--dry-run", "--method", "napo")
    assert "napo α=0.3 seed=0" in text
    assert text.index("napo α=0.3 seed=0") < text.index("napo α=0 seed=0")  # its default first


def test_every_method_is_called_by_its_name_alone(tmp_path, capsys):
    _, text = said(capsys, CHECKOUT / "sweeps" / "sweep_method.yaml", tmp_path, "--dry-run", "--seeds", "1")
    assert "  ea-sdpo seed=0 " in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--add-trials", "3"), "a grid has as many trials as its values"),
        (("--trials", "3"), "a grid has as many trials as its values"),
        (("--pruner", "asha"), "a pruner cuts a grid's trials short"),
        (("--search", "tpe", "--pruner", "asha"), "two validations of each trial"),
        (("--search", "tpe", "--trials", "0"), "greater than or equal to 1"),
    ],
)
def test_options_that_make_no_sense(tmp_path, capsys, options, expected):
    code, text = said(capsys, CHECKOUT / "sweeps" / "sweep_lambda.yaml", tmp_path, *options)
    assert code == 2
    assert expected in " ".join(text.split())


def test_limit(tmp_path, capsys):
    _, text = said(capsys, CHECKOUT / "sweeps" / "sweep_lambda.yaml", tmp_path, "--dry-run", "--limit", "2")
    assert "6 of 6 trials" in text


def test_methods_are_chosen_by_name(tmp_path, capsys):
    sweep = CHECKOUT / "sweeps" / "sweep_method.yaml"
    _, text = said(capsys, sweep, tmp_path, "--dry-run", "--seeds", "1", "--values", "recpo", "dpo")
    assert "2 of 2 trials" in text
    assert "  dpo seed=0 " in text
    code, text = said(capsys, sweep, tmp_path, "--dry-run", "--values", "recpo", "no-such-method")
    assert code == 2
    assert "no-such-method" in text
    code, text = said(capsys, CHECKOUT / "sweeps" / "sweep_lambda.yaml", tmp_path, "--dry-run", "--values", "much")
    assert code == 2
    assert "unable to parse string as a number (given: 'much')" in text
