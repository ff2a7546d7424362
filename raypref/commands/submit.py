"""`raypref submit`: jobs on the cluster of RAY_ADDRESS, or on a Ray head of this machine for as long as they run."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from raypref.cluster.own_head import QUIET_S, RAY, head_environment, local_head
from raypref.commands.job_folder import LEFT_HERE, job_folder
from raypref.config.loading import load, read_yaml
from raypref.errors import UserError
from raypref.provenance import provenance

logger = logging.getLogger(__name__)

STATUS = (
    "import sys; from ray.job_submission import JobSubmissionClient as Client; "
    "info = Client(sys.argv[1]).get_job_info(sys.argv[2]); print(info.status.value, info.driver_exit_code)"
)
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
# Of Ray's own log lines those that are no warning; and the job's own command once more.
NOTICE = re.compile(r"\S+ \S+\t(INFO|SUCC) \w+\.py:\d+ -- |Running entrypoint for job |\s*$")
STATUS_ATTEMPTS, STATUS_PAUSE = 3, 5.0  # a head without an answer for so long is gone
# No secrets: the dashboard shows a job's variables.
MIRRORS = ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL")
PLACES = ("RAYPREF_ROOT", "RAYPREF_DATA")
PASSED_ON = (*PLACES, "HF_HOME", "HF_TOKEN_PATH", *MIRRORS)


@dataclass
class Submit:
    """Submit a job, or several with the same options one after the other, and follow the log; starts a Ray head on
    127.0.0.1 first if RAY_ADDRESS names no cluster."""

    scripts: tyro.conf.Positional[tuple[Path, ...]]
    """The job, e.g. jobs/sweep_lambda.py."""
    dashboard_port: int | None = None
    """Port of the dashboard of the head that is started; none: 8265, or another if that is in use."""


def submit(options: Submit, arguments: list[str]) -> int:
    """The job's exit code; of several the first that is not 0, after which none is submitted. The head that was started
    is stopped, by process, whatever happens."""
    for script in options.scripts:
        if not script.is_file():
            raise UserError(f"there is no job {script}", where=str(Path.cwd()), hint="run this in raypref's checkout")
    if not options.scripts:
        raise UserError("no job is named", where="raypref submit", hint="raypref submit jobs/sweep_lambda.py")
    address = os.environ.get("RAY_ADDRESS")
    own_head = local_head(options.dashboard_port, verbose="--verbose" in arguments)
    with (
        job_folder(options.scripts, arguments, here=not address) as (folder, told),
        contextlib.nullcontext(address) if address else own_head as address,
    ):
        for script in options.scripts:
            if code := follow(str(address), script, told, folder):
                return code
    return 0


def follow(address: str, script: Path, arguments: list[str], folder: Path = Path()) -> int:
    """Submit a job and print its log to the end; its exit code, 1 for a job that was stopped or is lost.

    Ray's own command ends when the log's stream does, and on a busy machine that breaks off while the job goes on; its
    exit code is then 0, as that of a stopped job is, and 1 for all that fails. So the job itself is asked.
    """
    job = f"{script.stem}-{secrets.token_hex(4)}"
    command = submission(address, script, arguments, ["--submission-id", job], folder)
    verbose = "--verbose" in arguments
    logger.info("job %s is submitted to %s", job, address)
    try:
        code = shown(command, verbose)
        while (said := _status(address, job))[0] in ("PENDING", "RUNNING"):
            logger.info("the log broke off, job %s goes on; once more from its beginning:", job)
            code = shown([*RAY, "job", "logs", "--address", address, "--follow", job], verbose)
    except KeyboardInterrupt:
        if os.environ.get("RAY_ADDRESS"):
            logger.info("the job goes on without us; to stop it: ray job stop --address %s %s", address, job)
        raise
    status, own = said
    return 0 if status == "SUCCEEDED" else own or code or 1


def shown(command: list[str], verbose: bool) -> int:
    """Run a command of Ray's and print what a job says, Ray's own notices only where asked; its exit code.

    Says every `QUIET_S` seconds that nothing has come, until the first line has: then the job speaks for itself.
    """
    process = subprocess.Popen(
        command, env=head_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    spoke, since = threading.Event(), time.monotonic()

    def wait() -> None:
        while not spoke.wait(QUIET_S):
            logger.info("Ray is taking up the job, %.0f s", time.monotonic() - since)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    try:
        for line in process.stdout:
            if verbose or not NOTICE.match(ESCAPES.sub("", line)):
                spoke.set()
                print(line, end="", flush=True)
        return process.wait()
    finally:
        spoke.set()
        process.terminate()  # of no effect on one that has ended


def _status(address: str, job: str) -> tuple[str | None, int | None]:
    """What Ray says of a job, and the exit code of its script; None if it knows no such job, or gives no answer."""
    for _ in range(STATUS_ATTEMPTS):
        asked = [sys.executable, "-c", STATUS, address, job]
        answer = subprocess.run(asked, env=head_environment(), check=False, capture_output=True, text=True)
        if answer.returncode == 0:
            status, code = answer.stdout.split()[-2:]
            return status, int(code) if code.isdecimal() else None
        time.sleep(STATUS_PAUSE)
    return None, None


def submission(
    address: str, script: Path, arguments: list[str], more: list[str] | None = None, folder: Path = Path()
) -> list[str]:
    """The `ray job submit` of a job, with what the dashboard's job page is to say of it.

    Args:
        more: further options of `ray job submit`.
        folder: what the job gets a copy of, and runs in.
    """
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | places()
    if state := provenance()["git"]:
        variables["RAYPREF_GIT"] = str(state)
    metadata = {"sweep": script.stem, "git": str(state), **described(script, arguments, folder)}
    return [
        *(*RAY, "job", "submit", "--address", address),
        *(
            "--working-dir",
            str(folder),
            "--runtime-env-json",
            json.dumps({"env_vars": variables, "excludes": LEFT_HERE}),
        ),
        *("--metadata-json", json.dumps(metadata), *(more or [])),
        *("--", "python", str(script), *arguments),
    ]


def places() -> dict[str, str]:
    """Where results and data lie, seen from the job's folder; on a cluster only what is said in full."""
    said = {name: os.environ[name] for name in PLACES if os.environ.get(name)}
    if os.environ.get("RAY_ADDRESS"):
        return said
    if Path("data").is_dir():  # where data are looked for if nothing is said
        said.setdefault("RAYPREF_DATA", "data")
    return {name: value if "://" in value else str(Path(value).expanduser().absolute()) for name, value in said.items()}


def described(script: Path, arguments: list[str], folder: Path = Path()) -> dict[str, str]:
    """Preset, data set and method of a sweep's job, said on its command line or not; of another job what is said.

    Args:
        folder: what the arguments' relative paths start from.

    Raises:
        UserError: there is no such preset, or the config file can't be read.
    """
    said = _said(arguments, ("preset", "dataset", "method", "objective", "config"))
    sweep = script.parent.parent / "sweeps" / f"{script.stem}.yaml"
    if sweep.is_file():
        asked = read_yaml(sweep)
        config, _ = load(said.setdefault("preset", "tiny"), folder / said["config"] if "config" in said else None)
        said.setdefault("dataset", config.data.source.kind)
        if not {"method", "align.objective.name"} & set(asked["space"]):  # else it has several
            usual = asked.get("objective") or config.align.objective.name
            said.setdefault("method", str(said.get("objective", usual)))
    return {name: said[name] for name in ("preset", "dataset", "method") if name in said}


def _said(arguments: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """What a job's own command line says of some options, as `--name value` or `--name=value`."""
    following = dict(itertools.pairwise(arguments)) | dict(a.split("=", 1) for a in arguments if "=" in a)
    return {name: following[f"--{name}"] for name in names if f"--{name}" in following}
