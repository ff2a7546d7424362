"""What a machine is like: its cores, addresses of clusters, long folders, proxies, a home that can't be written."""

from __future__ import annotations

import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from raypref.cluster import own_head
from raypref.cluster.head import check_address, short_folder
from raypref.commands import submit
from raypref.commands.job_folder import job_folder, located
from raypref.cores import usable_cores
from raypref.errors import UserError


def test_cores_are_those_that_may_be_used(tmp_path: Path) -> None:
    one = sorted(os.sched_getaffinity(0))[0]
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}}); from raypref.cores import usable_cores; print(usable_cores())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    allowed = len(os.sched_getaffinity(0))
    for text, cores in (
        ("50000 100000", 1),
        ("max 100000", allowed),
        ("99900000 100000", allowed),
        ("broken", allowed),
    ):
        (tmp_path / "cpu.max").write_text(text)
        assert usable_cores(tmp_path) == cores
    (tmp_path / "v1" / "cpu").mkdir(parents=True)
    for quota, cores in (("-1", allowed), ("100000", 1)):
        (tmp_path / "v1" / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        (tmp_path / "v1" / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
        assert usable_cores(tmp_path / "v1") == cores
    assert usable_cores(tmp_path / "none") == allowed


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "https://head", "localhost", "127.0.0.1", "head:", ""])
def test_addresses_that_no_driver_joins_are_refused(address: str) -> None:
    with pytest.raises(UserError, match="no address that a driver joins") as refused:
        check_address(address)
    assert (
        refused.value.hint == "submit the job with `raypref submit`, unset RAY_ADDRESS, or give the head as HEAD:6379"
    )


@pytest.mark.parametrize("address", ["auto", "local", "head:6379", "127.0.0.1:6379", "[::1]:6379", "ray://head:10001"])
def test_addresses_that_ray_knows_pass(address: str) -> None:
    check_address(address)


def test_a_long_folder_for_temporary_files_is_not_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "x" * 60)
    assert short_folder() == "/tmp"
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    assert short_folder() is None


def test_loopback_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(OSError, match="501") as answered:  # it answers, if only that it knows no GET
        own_head.DIRECTLY.open(f"http://127.0.0.1:{server.server_port}/api/version", timeout=5)
    server.shutdown()
    answered.value.close()  # type: ignore[attr-defined]
    assert own_head.head_environment()["no_proxy"] == "example.org,127.0.0.1,localhost"


def test_without_a_home_the_token_lies_in_the_heads_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        own_head, "RAY", (sys.executable, "-c", "raise SystemExit(1)")
    )  # as Ray's command where home is not
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "")  # so that what is set below is taken back
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    environment = {key: value for key, value in own_head.head_environment().items() if "TOKEN" not in key}
    environment["HOME"] = str(tmp_path / "home")
    told = own_head.token(tmp_path, environment | {"RAY_AUTH_MODE": "token"})
    path = tmp_path / "auth_token"
    assert told == {"RAY_AUTH_TOKEN_PATH": str(path)}
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text()) == 64
    assert own_head.head_environment()["RAY_AUTH_TOKEN_PATH"] == str(path)
    assert own_head.token(tmp_path, environment | {"RAY_AUTH_MODE": "disabled"}) == {}
    path.unlink()
    (tmp_path / "home" / ".ray").mkdir(parents=True)
    (tmp_path / "home" / ".ray" / "auth_token").write_text("0" * 64)  # one that is there is used, and Ray is not asked
    assert own_head.token(tmp_path, environment | {"RAY_AUTH_MODE": "token"}) == {}
    assert not path.exists()


def test_relative_paths_are_absolute_on_this_machine_and_refused_on_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    given = ["--preset", "smoke", "--root", "results", "--model.path=mine", "--data.source.path", "mine", "--dry-run"]
    assert located(given, here=True) == [
        *("--preset", "smoke", "--root", f"{tmp_path}/results", f"--model.path={tmp_path}/mine"),
        *("--data.source.path", f"{tmp_path}/mine", "--dry-run"),
    ]
    for option in (["--root", "results"], ["--root=results"], ["--model.path", "mine"], ["--data.source.path=mine"]):
        with pytest.raises(UserError, match="is a path of this folder") as refused:
            located(option, here=False)
        assert refused.value.hint.startswith("give an absolute path that all nodes share")
        name, _, _ = option[0].partition("=")
        assert located([name, f"{tmp_path}/mine"], here=False) == [name, f"{tmp_path}/mine"]  # as the hint has it
    elsewhere = ["--root", "s3://bucket/x", "--model.path", "Qwen/Qwen2.5-7B", "--data.source.path=/shared/x.csv"]
    assert located(elsewhere, here=False) == elsewhere


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a job is submitted from: code beside data and models, without git."""
    monkeypatch.chdir(tmp_path)
    for name in ("jobs/mine.py", "sweeps/mine.yaml", "helpers/own.py", "raypref/base/model.safetensors", "x.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("data/x.csv", "data/read.py", "models/m/config.json", "adapted/a/w.safetensors", "results/r.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("ratings.parquet", "notes/ratings.json", ".venv/lib/x.py", "raypref/__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def sent(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("git", [False, True])
def test_code_alone_is_sent_and_said(folder: Path, git: bool, caplog: pytest.LogCaptureFixture) -> None:
    if git:
        (folder / ".gitignore").write_text("helpers/\n")
        subprocess.run(["git", "init", "-q"], check=True, cwd=folder)
    with caplog.at_level("INFO", logger="raypref"), job_folder((), [], here=True) as (made, _):
        expected = ["helpers/own.py", "jobs/mine.py", "raypref/base/model.safetensors", "sweeps/mine.yaml"]
        assert sent(made) == expected[git:]  # git ignores the first
    assert not made.exists()
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"the job gets {4 - git} files, 0.0 MB, of this folder: Python, YAML and raypref itself")


def test_paths_in_a_config_and_in_a_sweep_hold_where_the_job_runs(folder: Path) -> None:
    config = {"data": {"source": {"kind": "csv", "path": "x.csv", "title": "x.csv"}}, "model": {"path": "gone"}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    (folder / "sweeps/mine.yaml").write_text(yaml.safe_dump({"space": {"model.path": ["raypref-tiny", "./models/m"]}}))
    scripts = (Path("jobs/mine.py"),)
    with job_folder(scripts, ["--config", "mine.yaml"], here=True) as (made, told):
        assert told == ["--config", "mine.yaml"]
        written = yaml.safe_load((made / "mine.yaml").read_text())
        assert written["data"]["source"] == {"kind": "csv", "path": str(folder / "x.csv"), "title": "x.csv"}
        assert written["model"] == {"path": "gone"}  # not here: a name of the hub
        space = yaml.safe_load((made / "sweeps/mine.yaml").read_text())["space"]
        assert space == {"model.path": ["raypref-tiny", str(folder / "models/m")]}
    assert yaml.safe_load((folder / "mine.yaml").read_text()) == config
    (folder / "models/mine.yaml").write_text(yaml.safe_dump(config))  # where nothing is sent from
    with job_folder((), ["--seeds", "1", "--config=models/mine.yaml"], here=True) as (made, told):
        assert told == ["--seeds", "1", "--config=submitted.yaml"]
        assert yaml.safe_load((made / "submitted.yaml").read_text()) == written
    with (
        pytest.raises(UserError, match=r"x\.csv is a path of this folder") as refused,
        job_folder((), ["--config", "mine.yaml"], here=False),
    ):
        pass
    assert refused.value.where == "mine.yaml: data.source.path"
    (folder / "mine.yaml").write_text(yaml.safe_dump({"data": {"source": {"path": str(folder / "x.csv")}}}))
    with job_folder((), ["--config", "mine.yaml"], here=False) as (_, told):  # as the hint has it
        assert told == ["--config", "mine.yaml"]


def test_results_and_data_lie_where_they_did(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAYPREF_ROOT", "RAYPREF_DATA", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert submit.places() == {"RAYPREF_DATA": f"{folder}/data"}
    monkeypatch.setenv("RAYPREF_ROOT", "mine")
    monkeypatch.setenv("RAYPREF_DATA", "s3://bucket/data")
    assert submit.places() == {"RAYPREF_ROOT": f"{folder}/mine", "RAYPREF_DATA": "s3://bucket/data"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Exception("The current node timed out during startup. This could happen because ..."), "timed out during"),
        (RuntimeError("\nFailed to start GCS.\n  line of a log"), "Failed to start GCS."),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_ray_that_does_not_start_in_time_is_no_traceback(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raypref.cluster import connect

    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(connect.ray, "init", init)
    monkeypatch.setattr(connect.ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=f"Ray did not start: .*{said}") as refused:
        connect.connect(verbose=True)
    assert "run it again when the machine has less to do" in refused.value.hint
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    with pytest.raises(UserError, match=f"the Ray cluster can't be joined: .*{said}") as refused:
        connect.connect(verbose=True)
    assert "unset RAY_ADDRESS" in refused.value.hint


def test_a_job_is_submitted_once_what_starts_it_listens() -> None:
    """Else Ray refuses it with a traceback: `No available agent to submit job`."""
    running, ended = (SimpleNamespace(poll=lambda code=code: code) for code in (None, 1))
    with socket.socket() as agent:
        agent.bind(("127.0.0.1", 0))
        port = agent.getsockname()[1]
        own_head._wait_for_agent(port, ended)  # of a head that is gone nobody waits for more
        began = time.monotonic()
        threading.Timer(1.0, agent.listen).start()
        own_head._wait_for_agent(port, running)
        assert time.monotonic() - began >= 1.0


def test_each_way_out_of_an_address_that_no_driver_joins_is_one() -> None:
    with pytest.raises(UserError) as refused:
        check_address("http://127.0.0.1:8265")
    ways = refused.value.hint
    assert "`raypref submit`" in ways  # which takes such addresses: docs/cluster.md, tests/jobs
    (head,) = re.findall(r"HEAD:\d+", ways)
    check_address(head.replace("HEAD", "127.0.0.1"))


def test_without_a_home_the_token_lies_in_a_private_file(monkeypatch, tmp_path) -> None:
    from raypref.cluster.head import token_without_home

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    token_without_home()
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    monkeypatch.setenv("HOME", "/dev/null/x")
    token_without_home()
    file = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert file.stat().st_mode & 0o77 == 0
    assert len(file.read_text()) == 64
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
