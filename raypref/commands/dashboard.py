"""`raypref dashboard`: Prometheus and Grafana beside Ray's dashboard: their files, and what to start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from raypref.errors import UserError
from raypref.storage.store import write_json

TEMPORARY = "/tmp/ray"  # Ray's own choice, unless its --temp-dir says otherwise
SCRAPE = """# Scrapes every node of a Ray cluster; written by `raypref dashboard`.
global: {{scrape_interval: {seconds}s, evaluation_interval: {seconds}s}}
scrape_configs:
  - job_name: ray
    file_sd_configs:
      - files: ["{discovery}"]
        refresh_interval: 5s
"""


def dashboard(temp_dir: Path = Path(TEMPORARY), out: Path = Path("raypref-dashboard"), seconds: int = 2) -> int:
    """Write Prometheus' scrape file and the Grafana dashboard of the trials, and say what to start.

    Args:
        temp_dir: Ray's --temp-dir; its file of nodes to scrape lies there.
        out: Folder to write into.
        seconds: How often to scrape; trials of the tiny preset last some ten seconds.
    """
    prometheus, grafana = write_files(temp_dir, out, seconds)
    session = temp_dir / "session_latest" / "metrics" / "grafana"
    data = out.absolute() / "prometheus-data"
    print("Ray's dashboard shows the sweep on its Jobs page (log, metadata) and Actors page (a board for each trial).")
    print("Live curves, all trials overlaid, need Prometheus and Grafana. Start:\n")
    print(f"  {_found('prometheus')} --config.file={prometheus} --storage.tsdb.path={data}")
    if session.is_dir():
        from raypref.sweeps.grafana import place

        placed = place(session / "dashboards")
        print(f"  {_found('grafana-server')} --homepath /usr/share/grafana --config {session}/grafana.ini")
        print(f"\nThe trials' dashboard lies with Ray's own: {placed}")
    else:
        print(f"\nNo Ray session lies in {temp_dir} yet: start Ray, then run this again, and the trials' dashboard")
        print("will be placed with Ray's own.")
    print(f"For a Grafana elsewhere, import {grafana}.")
    print("Ray's dashboard finds the two by RAY_PROMETHEUS_HOST and RAY_GRAFANA_HOST (default: 127.0.0.1:9090, :3000).")
    return 0


def write_files(temp_dir: Path, out: Path, seconds: int) -> tuple[Path, Path]:
    """The scrape file and the Grafana dashboard in `out`.

    Raises:
        UserError: `out` can't be written, or scraping would not be regular.
    """
    if seconds < 1:
        raise UserError("the scrape interval must be a second or more", where="--seconds", hint="leave it out: 2")
    from raypref.sweeps.grafana import UID, grafana_dashboard

    out = out.absolute()
    discovery = temp_dir.absolute() / "prom_metrics_service_discovery.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        prometheus = out / "prometheus.yml"
        prometheus.write_text(SCRAPE.format(seconds=seconds, discovery=discovery))
        grafana = out / f"{UID}.json"
        write_json(grafana, grafana_dashboard())
    except OSError as error:
        raise UserError(f"the files can't be written: {error}", where=str(out), hint="choose another --out") from error
    return prometheus, grafana


def _found(program: str) -> str:
    """The program's path, or its name where it is not installed."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") or program
