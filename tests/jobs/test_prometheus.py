"""Prometheus scrapes a running sweep and tells trials apart by their tags, by the Grafana dashboard's own queries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from raypref.cluster.head import free_port
from raypref.commands.dashboard import write_files
from raypref.sweeps.grafana import SWEEP, grafana_dashboard
from raypref.sweeps.metric_names import METRICS, query
from tests.support.processes import CHECKOUT, environment

PROMETHEUS = shutil.which("prometheus")
PATIENCE = 400

# With a Ray head of its own, so that the test knows which folder its nodes to scrape are listed in.
SWEEP_ALONE = """
import os, sys, time
os.environ["RAY_AUTH_MODE"] = "token"
from raypref.cluster import connect as runtime
from pathlib import Path
import ray
init = ray.init
ray.init = lambda **options: init(**options, _temp_dir=sys.argv[1])
from raypref.sweeps.job import run
code = run(Path(sys.argv[2]), sys.argv[4:])
while not Path(sys.argv[3]).exists():
    time.sleep(0.5)
sys.exit(code)
"""


@pytest.mark.ray
@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (apt-get install prometheus)")
def test_two_trials_hr_at_1_by_tag(tmp_path):
    ray_folder, stop = Path("/tmp") / f"rp{os.getpid()}", tmp_path / "stop"  # a socket's path must be short
    options = ["--preset", "smoke", "--root", str(tmp_path / "root"), "--seeds", "1", "--values", "0", "2"]
    said = (tmp_path / "sweep.log").open("w")
    sweep = subprocess.Popen(
        [sys.executable, "-c", SWEEP_ALONE, str(ray_folder), str(CHECKOUT / "sweeps" / "sweep_lambda.yaml"), str(stop)]
        + options,
        env=environment(tmp_path), cwd=tmp_path, stdout=said, stderr=subprocess.STDOUT,
    )  # fmt: skip
    config, _ = write_files(ray_folder, tmp_path / "out", seconds=1)
    port = free_port()
    data = f"--storage.tsdb.path={tmp_path / 'data'}"
    server = subprocess.Popen(
        [str(PROMETHEUS), f"--config.file={config}", data, f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        shown = asked(port, panel("raypref_hr_at_1").replace(SWEEP, "sweep_lambda"), 2, sweep)
        found = asked(port, query("raypref_hr_at_1", "sweep_lambda", by="trial, lambda"), 2, sweep)
        loss = asked(port, f"max_over_time(({query('raypref_loss', 'sweep_lambda')})[10m:1s])", 2, sweep)
    finally:
        stop.touch()
        server.terminate()
        server.wait(20)
        try:
            sweep.wait(60)
        except subprocess.TimeoutExpired:
            sweep.kill()
        shutil.rmtree(ray_folder, ignore_errors=True)
    assert sweep.returncode == 0, (tmp_path / "sweep.log").read_text()[-3000:]
    records = [json.loads(path.read_text()) for path in (tmp_path / "root" / "sweeps").glob("*/trials/*.json")]
    expected = {r["label"].replace("λ", "lambda"): r["metrics"]["test"]["generated_hr@1"] for r in records}
    assert {series["metric"]["trial"]: float(series["value"][1]) for series in found} == pytest.approx(expected)
    assert {series["metric"]["trial"]: float(series["value"][1]) for series in shown} == pytest.approx(expected)
    assert {series["metric"]["lambda"] for series in found} == {"0", "2"}
    assert {series["metric"]["trial"] for series in loss} == set(expected)
    assert all(float(series["value"][1]) > 0 for series in loss)


def panel(metric):
    """What the Grafana dashboard asks to draw a metric; `$sweep` is its variable."""
    panels = grafana_dashboard()["panels"]
    return next(t["expr"] for p in panels for t in p["targets"] if f"(ray_{metric}{{" in t["expr"])


def asked(port, text, series, sweep):
    """The answer to a PromQL query, once it has so many series."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and sweep.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            found = []
        if len(found) >= series:
            return found
        time.sleep(1)
    raise AssertionError(f"no answer with {series} series to {text}; the sweep's exit code is {sweep.poll()}")


def test_the_grafana_dashboard_asks_what_prometheus_is_asked():
    expressions = [target["expr"] for panel in grafana_dashboard()["panels"] for target in panel["targets"]]
    assert expressions == [query(metric, SWEEP) for metric in METRICS]
    asks = 'max by (trial) (ray_raypref_hr_at_1{sweep=~"sweep_lambda"})'
    assert panel("raypref_hr_at_1").replace(SWEEP, "sweep_lambda") == query("raypref_hr_at_1", "sweep_lambda") == asks


def test_the_files_that_raypref_dashboard_writes(tmp_path):
    config, grafana = write_files(tmp_path / "ray", tmp_path / "out", 2)
    assert f"{tmp_path}/ray/prom_metrics_service_discovery.json" in config.read_text()
    assert json.loads(grafana.read_text())["uid"] == "raypref-trials"
    promtool = shutil.which("promtool")
    if promtool:
        checked = subprocess.run(
            [promtool, "check", "config", str(config)], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
