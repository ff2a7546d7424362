"""What a machine is like: its cores, addresses of clusters, long folders, proxies, a home that can't be written."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from raypref.cluster import own_head
from raypref.cluster.head import check_address, short_folder
from raypref.commands import submit
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
    assert submit.located(given, here=True) == [
        *("--preset", "smoke", "--root", f"{tmp_path}/results", f"--model.path={tmp_path}/mine"),
        *("--data.source.path", f"{tmp_path}/mine", "--dry-run"),
    ]
    for option in (["--root", "results"], ["--root=results"], ["--model.path", "mine"], ["--data.source.path=mine"]):
        with pytest.raises(UserError, match="is a path of this folder"):
            submit.located(option, here=False)
    elsewhere = ["--root", "s3://bucket/x", "--model.path", "Qwen/Qwen2.5-7B", "--data.source.path=/shared/x.csv"]
    assert submit.located(elsewhere, here=False) == elsewhere


def test_data_and_models_are_not_sent(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.touch()
    command = submit.submission("http://127.0.0.1:1", script, [])
    excluded = json.loads(command[command.index("--runtime-env-json") + 1])["excludes"]
    assert {"/data/", "/models/", "/results/"} <= set(excluded)


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
