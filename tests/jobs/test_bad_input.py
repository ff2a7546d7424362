"""Every mistake a user is likely to make: one screen that says what, where and how to mend it, before Ray starts."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from raypref.commands.submit import Submit, described, submit
from raypref.config.loading import load, override
from raypref.errors import UserError
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.storage.store import Store
from raypref.sweeps.job import run
from tests.support.processes import CHECKOUT

SWEEP = CHECKOUT / "sweeps" / "sweep_lambda.yaml"


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that can be known beforehand must be found before a cluster is asked for."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("raypref.cluster.connect.connect", refuse)


def said(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> str:
    """What the job prints on stderr; it must have refused, on one screen."""
    code = run(SWEEP, ["--root", str(tmp_path / "root"), *arguments])
    text = capsys.readouterr().err
    assert code == 2
    assert len(text.splitlines()) <= 24
    assert "hint:" in text
    assert "Traceback" not in text
    return text


def test_typo_in_a_key_of_the_config_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("align: {negativs: 3}\n")
    text = said(capsys, tmp_path, "--config", str(tmp_path / "my.yaml"))
    assert "unknown key 'negativs': did you mean 'negatives'?" in text
    assert str(tmp_path / "my.yaml") in text.replace("\n", "")


def test_typo_in_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(SWEEP, ["--align.negativs", "3"])
    assert ended.value.code == 2
    assert "--align.negatives" in capsys.readouterr().err


def test_source_folder_without_its_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "u.item").write_text("1|Toy Story (1995)\n")
    text = said(capsys, tmp_path, "--dataset", "ml-100k", "--data.source.path", str(tmp_path / "ml"), "--dry-run")
    assert "u.data" in text


def test_rating_file_with_broken_lines(tmp_path: Path) -> None:
    """Known when the file is read, in the first stage: before any training."""
    (tmp_path / "u.item").write_text("1|Toy Story (1995)\n")
    (tmp_path / "u.data").write_text("1\t1\t5\t880000000\n1\t1\tnine\t880000001\n2\t1\t4\n")
    config, _ = load("tiny")
    config = override(config, {"data.source.kind": "ml-100k"}, "test")
    config = override(config, {"data.source.path": str(tmp_path)}, "test")
    store = Store(tmp_path / "root")
    planned = chain(config)
    with pytest.raises(UserError) as refused:
        InProcess(store)(planned, planned.prepare)
    assert "2 of 3 lines are broken" in refused.value.what
    assert "nine" in refused.value.what
    assert "too many to be left out" in refused.value.hint
    assert not store.path(planned.prepare.address).exists()


def test_missing_source_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = said(capsys, tmp_path, "--dataset", "ml-100k", "--data.source.path", str(tmp_path / "nowhere"), "--dry-run")
    assert "nowhere" in text
    assert "RAYPREF_DATA" in text


def test_negative_lambda(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = said(capsys, tmp_path, "--values", "0", "-1")
    assert "lambda" in text
    assert "greater than or equal to 0 (given: -1" in text


def test_more_negatives_than_candidates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = said(capsys, tmp_path, "--align.negatives", "20")
    assert "take at most 19" in text


def test_model_folder_without_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "raypref" / "base", tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    text = said(capsys, tmp_path, "--model.path", str(tmp_path / "model"))
    assert "no weights" in text


def test_unknown_preset_objective_and_source(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "did you mean 'tiny'" in said(capsys, tmp_path, "--preset", "tinny")
    assert "did you mean 'recpo'" in said(capsys, tmp_path, "--objective", "repco")
    assert "did you mean 'ml-100k'" in said(capsys, tmp_path, "--dataset", "ml100k")


def test_sweep_over_a_key_that_the_objective_lacks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "'lambda' has no effect: margin is 'none'" in said(capsys, tmp_path, "--objective", "simpo")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--mirror", "tensorboard"], "no mirror of the trials"),
        (["--storage", "sqlite:///study.db"], "no Optuna study"),
        (["--storage", "sqlite:///study.db", "--mirror", "mlflow"], "no mirror of the trials and no Optuna study"),
    ],
)
def test_what_only_ray_does_is_refused_without_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], what: str
) -> None:
    text = said(capsys, tmp_path, "--no-ray", *options)
    named = [option for option in options if option.startswith("--")]
    assert f"without Ray there is {what}" in text
    assert all(text.count(name) == 2 for name in named)  # where it was given, and what can be left out
    assert "leave out --no-ray, or " in text
    assert not (tmp_path / "root").exists()


def test_no_disk_space(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    text = said(capsys, tmp_path)
    assert "0.00 GB are free" in text
    assert "--root" in text


def test_root_that_is_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    assert "can't be written" in said(capsys, tmp_path)


def test_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is in use"):
            submit(Submit((CHECKOUT / "jobs" / "sweep_lambda.py",), dashboard_port=port), [])


def test_job_that_is_not_there() -> None:
    with pytest.raises(UserError, match="there is no job"):
        submit(Submit((Path("jobs/sweep_lamda.py"),)), [])


def test_a_job_s_page_names_its_data_set_and_method(tmp_path: Path) -> None:
    jobs = CHECKOUT / "jobs"
    usual = {"preset": "tiny", "dataset": "generated"}
    assert described(jobs / "sweep_negatives.py", []) == usual | {"method": "sdpo"}
    assert described(jobs / "sweep_lambda.py", ["--method=napo"]) == usual | {"method": "napo"}
    assert described(jobs / "sweep_method.py", ["--dataset", "ml-100k"]) == usual | {"dataset": "ml-100k"}
    assert described(tmp_path / "jobs" / "mine.py", ["--preset", "mine", "x"]) == {"preset": "mine"}
    with pytest.raises(UserError, match="no-such"):
        described(jobs / "sweep_lambda.py", ["--preset", "no-such"])


def test_a_file_may_change_one_key_of_a_section(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("data: {source: {users: 10}}\n")
    config, origins = load("tiny", tmp_path / "my.yaml")
    assert config.data.source.users == 10
    assert origins["data.source.users"] == str(tmp_path / "my.yaml")
    assert config.model.path == "raypref-tiny"


def test_a_dry_run_says_what_this_machine_lacks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1_000_000))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    options = ["--preset", "llama3-8b-lora", "--dataset", "generated", "--root", str(tmp_path / "new"), "--dry-run"]
    assert run(SWEEP, options) == 0
    said = capsys.readouterr().out
    assert "missing: GPUs: 4 for each training group, 1 here" in said
    assert "missing: model meta-llama/Meta-Llama-3-8B-Instruct: not on this machine" in said
    assert "missing: disk: about 2.5 GB, 0.0 GB are free" in said
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert run(SWEEP, options) == 0
    assert "GPUs" not in capsys.readouterr().out
