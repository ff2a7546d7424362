"""The runs whose numbers are held: real ones, small enough to be taken along with every change.

They go through what does not move when modules do: the config, the command line without Ray, and the files that stages
leave. Two workers need the one function of `group.py`, which knows raypref's inside.

As a program it is one of two processes that share them: `python tests/trajectory/runs.py FOLDER RANK KIND ...`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
Run = Callable[[Path, Path], None]
PROCESSES = 2
OBJECTIVES = ("sdpo", "recpo", "napo", "eapo", "simpo", "alpha-dpo")
SMALL = {
    "kind": "scratch",
    "hidden_size": 32,
    "layers": 2,
    "heads": 2,
    "key_value_heads": 1,
    "intermediate_size": 48,
    "vocabulary": 400,
}
ADAPTED = {**SMALL, "lora": {"rank": 4}}
SHIPPED = {"kind": "pretrained", "path": "raypref-tiny", "dtype": "float32", "lora": {"rank": 4}}


class Kind(NamedTuple):
    """Runs that differ in their objective alone."""

    model: dict[str, Any]
    workers: int
    objectives: tuple[str, ...] = OBJECTIVES


KINDS = {
    "full-1": Kind(SMALL, 1),
    "lora-1": Kind(ADAPTED, 1),
    "shipped-1": Kind(SHIPPED, 1, ("recpo",)),  # the one that writes titles, as it was pretrained
    "full-2": Kind(SMALL, 2),
    "lora-2": Kind(ADAPTED, 2, ("sdpo", "napo")),  # a loss by example, and one of the whole batch
}
SETTINGS: dict[str, Any] = {
    "name": "run",
    "data": {
        "source": {"kind": "generated", "users": 40, "items": 60, "mean_length": 12},
        "k_core": 2,
        "max_train_examples_per_user": 3,
        "max_history": 3,
        "candidates": {"train_future": 3, "train_random": 3, "eval_random": 5},
    },
    "prompt": {"templates": 1},
    "expert": {"epochs": 2},
    "sft": {
        "learning_rate": 3e-3,
        "global_batch": 4,
        "max_steps": 10,
        "validations": 2,
        "validation_examples": 8,
        "keep": "loss",
    },
    "align": {
        "learning_rate": 3e-4,
        "global_batch": 4,
        "max_steps": 20,
        "validations": 2,
        "validation_examples": 8,
        "keep": "last",
    },
    "evaluation": {"max_examples": 6, "beams": 2, "batch": 4},
    "resources": {"engine": "torch", "threads": 1, "micro_batch": 2},
}
SAME_EVERYWHERE = {
    # The same kernels on every x86 processor, and sums in the same order however many cores there are.
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def take(folder: Path, tree: Path, kinds: Sequence[str] = tuple(KINDS)) -> dict[str, Any]:
    """Run the raypref of the source tree `tree`; what its stages left, by kind of run.

    Raises:
        RuntimeError: a run failed; with the end of what it said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **SAME_EVERYWHERE, "PYTHONPATH": str(tree)}
    logs, processes = [], []
    for rank in range(PROCESSES):
        logs.append(folder / f"{rank}.log")
        with logs[-1].open("w") as log:
            command = [sys.executable, __file__, str(folder), str(rank), *kinds]
            processes.append(subprocess.Popen(command, cwd=tree, env=environment, stdout=log, stderr=log))
    try:
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):  # the others may wait for it
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if any(process.returncode for process in processes):
        said = "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in logs)
        raise RuntimeError(f"the runs of {tree} failed:\n{said}")
    return {kind: json.loads((folder / f"{kind}.json").read_text()) for kind in kinds}


def run_share(kinds: Sequence[str], folder: Path, rank: int) -> None:
    """Run what falls to one of the processes: its part of what they do together, and every other of the rest."""
    together = [kind for kind in kinds if KINDS[kind].workers == PROCESSES]
    alone = [kind for kind in kinds if kind not in together]
    if together:
        with group(folder, rank) as run:
            for kind in together:
                run_kind(kind, folder, rank, run)
    for kind in alone[rank::PROCESSES]:
        run_kind(kind, folder, 0, run_alone)


def run_kind(kind: str, folder: Path, rank: int, run: Run) -> None:
    """Run all objectives of a kind, as one of its workers; the first leaves what the stages left as `<kind>.json`."""
    model, workers, objectives = KINDS[kind]
    root = folder / f"results of {kind}"
    root.mkdir(exist_ok=True)
    files: dict[str, Any] = {}
    for objective in objectives:
        content = {**SETTINGS, "model": model, "align": {**SETTINGS["align"], "objective": {"name": objective}}}
        content["resources"] = {**SETTINGS["resources"], "workers": workers}
        config = root / f"{objective}-{rank}.yaml"
        config.write_text(yaml.safe_dump(content))
        before = set(root.glob("*/*/_SUCCESS"))
        run(config, root)
        new = sorted(set(root.glob("*/*/_SUCCESS")) - before, key=lambda path: path.stat().st_mtime_ns)
        for stage in (path.parent for path in new):
            files |= {f"{objective}: {name}": content for name, content in read(stage).items()}
    if rank == 0:
        (folder / f"{kind}.json").write_text(json.dumps(files))


def run_alone(config: Path, root: Path) -> None:
    """`raypref run --no-ray` in this process."""
    from raypref.cli import main

    sys.argv = ["raypref", "run", "--no-ray", "--preset", "scratch", "--config", str(config), "--root", str(root)]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            main()
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{' '.join(sys.argv)} ended with {end.code}:\n{said.getvalue()}") from end


@contextlib.contextmanager
def group(folder: Path, rank: int) -> Iterator[Run]:
    """Runs by all processes, through the `group.py` of the tree that is run, else the one beside this file."""
    import torch.distributed as dist

    store = dist.FileStore(str(folder / "rendezvous"), PROCESSES)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    own = Path.cwd() / "tests" / "trajectory" / "group.py"
    run = runpy.run_path(str(own if own.is_file() else HERE / "group.py"))["run"]
    yield lambda config, root: run(config, root, rank, PROCESSES)
    dist.destroy_process_group()


def read(stage: Path) -> dict[str, dict[str, Any]]:
    """What a stage left: `<stage>/<file>`, without the hash of its address, to its columns."""
    name = f"{stage.parent.name}/{stage.name.rpartition('-')[0]}"
    files = sorted(path for path in stage.rglob("*") if path.suffix in READERS)
    return {f"{name}/{file.relative_to(stage)}": READERS[file.suffix](file) for file in files}


def _lines(path: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}


def _table(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    # As text where JSON has no such value: dates, bytes.
    return json.loads(json.dumps(table.to_pydict(), default=str))


def _weights(path: Path) -> dict[str, Any]:
    """A digest of each tensor."""
    import hashlib

    from safetensors.numpy import load_file

    tensors = load_file(path)
    return {
        name: [hashlib.sha256(str((t.dtype, t.shape)).encode() + t.tobytes()).hexdigest()[:16]]
        for name, t in sorted(tensors.items())
    }


READERS = {".jsonl": _lines, ".parquet": _table, ".safetensors": _weights}


if __name__ == "__main__":
    _, at, number, *asked = sys.argv
    run_share(asked, Path(at), int(number))
    sys.stdout.flush()
    os._exit(0)  # threads of the back ends that nobody joins may make the interpreter's own way out abort
