"""Small trainings for the tests of the loop and the engines: tables of random tokens, a tiny Llama, spawned workers."""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from raypref.config.base import Frozen
from raypref.config.model import LoraConfig, ScratchModel
from raypref.config.training import AlignConfig, ResourceConfig, TrainingConfig
from raypref.models import backbone
from raypref.training.batches import Collator
from raypref.training.engine import Engine, make_engine
from raypref.training.loop import train
from raypref.training.micro import MicroBatches
from raypref.training.tasks import task_of
from raypref.training.validation import Validator
from tests.support.groups import run_group, start_group

TOKENIZER = backbone.train_tokenizer(["ab", "cd"], 300)
END, PAD = TOKENIZER.eos_token_id, TOKENIZER.pad_token_id
MODEL = ScratchModel(hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=48, vocabulary=300)
CANDIDATES = 6


def make_table(rows: int = 64, seed: int = 0) -> pa.Table:
    """Examples of random tokens with every column that an objective may read."""
    rng = np.random.default_rng(seed)

    def words(low: int, high: int) -> list[int]:
        return rng.integers(3, 60, rng.integers(low, high)).tolist()

    def matrix(values: np.ndarray) -> list[list[float]]:
        return values.astype(np.float32).tolist()

    latency = np.where(rng.random((rows, CANDIDATES)) < 0.5, np.nan, rng.integers(1, 9, (rows, CANDIDATES)))
    return pa.table(
        {
            "example": np.arange(rows),
            "prompt_ids": [words(4, 12) for _ in range(rows)],
            "title_ids": [[[*words(1, 5), END] for _ in range(CANDIDATES)] for _ in range(rows)],
            "target": rng.integers(0, CANDIDATES, rows).astype(np.int32),
            "ref_logps": matrix(rng.normal(-25, 3, (rows, CANDIDATES))),
            "rating": matrix(np.where(np.isnan(latency), np.nan, rng.integers(1, 6, (rows, CANDIDATES)))),
            "latency": matrix(latency),
            "expert_scores": matrix(rng.uniform(-1, 1, (rows, CANDIDATES))),
            "expert_confidences": matrix(rng.uniform(0, 1, (rows, CANDIDATES))),
            "sequence_embedding": matrix(rng.normal(size=(rows, 4))),
        }
    )


SFT = TrainingConfig(learning_rate=3e-3, global_batch=8, epochs=1, validations=0, keep="last", seed=3)
RESOURCES = ResourceConfig(micro_batch=8, engine="torch", checkpoint_every=1000)


def align(objective: str, **settings: Any) -> AlignConfig:
    """SFT's settings for an alignment objective."""
    parameters = settings.pop("parameters", {})
    content = SFT.model_dump() | {"negatives": 3, "objective": {"name": objective, **parameters}} | settings
    return AlignConfig.model_validate(content)


def with_(config: Any, **settings: Any) -> Any:
    """A config with settings changed, checked again."""
    section: type[Frozen] = type(config)
    return section.model_validate(config.model_dump(by_alias=True) | settings)


@dataclass
class Job:
    """One training, told so that a spawned worker can run it."""

    config: TrainingConfig
    resources: ResourceConfig = RESOURCES
    table: Path | None = None
    """A Parquet file of examples; none: `make_table()`."""
    model: Path | None = None
    """A saved model to start from; none: a fresh one."""
    lora: LoraConfig | None = None
    double: bool = False
    """Train in float64: AdamW blows float32's rounding of small gradients up to whole steps."""
    scratch: str | None = None
    """Name of the scratch folder where it isn't the job's own: to go on where another stopped."""
    stop_at: int | None = None
    """Fail before the step of this number, as a killed worker would."""
    killed_rank: int | None = None
    """With `stop_at`: this worker alone dies there, by SIGKILL."""
    pad: int = PAD


class Killed(Exception):
    """Stands for a worker's death."""


def engine_for(job: Job) -> Engine:
    config = MODEL.model_copy(update={"lora": job.lora})
    model: Any = backbone.build(config, TOKENIZER)
    if job.model is not None:
        model = backbone.restore(config, TOKENIZER, job.model)
    if job.double:
        model = model.double()
    return make_engine(model, job.config, job.resources)


def run(job: Job, scratch: Path, engine: Engine | None = None, validator: Any = None) -> dict[str, Any]:
    """Train in this process; the facts, with `losses` of each step."""
    engine = engine or engine_for(job)
    table = make_table() if job.table is None else pq.read_table(job.table)
    task = task_of(job.config)
    collator = Collator(
        task.negatives, job.config.seed, job.pad, engine.scorer.rows(job.resources.packing), task.choice
    )
    steps = 0
    inner = engine.step

    def step(learning_rate: float) -> float:
        nonlocal steps
        if job.stop_at is not None and steps == job.stop_at:
            if job.killed_rank is None:
                raise Killed
            if job.killed_rank == engine.rank:
                os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        return inner(learning_rate)

    engine.step = step  # type: ignore[method-assign]
    facts = train(
        engine=engine,
        task=task,
        config=job.config,
        read=lambda: [table.slice(i, 20) for i in range(0, table.num_rows, 20)],
        examples=table.num_rows,
        collator=collator,
        validator=validator or Validator([make_table(10, seed=9)], collator, job.resources.micro_batch),
        micro_batches=MicroBatches(
            min(job.resources.micro_batch, job.config.global_batch // engine.world), job.resources.micro_tokens
        ),
        scratch=scratch,
        checkpoint_every=job.resources.checkpoint_every,
    )
    return facts | {"losses": [row["loss"] for row in lines(scratch / "metrics.jsonl")], "state": task.state}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses(scratch: Path) -> list[float]:
    return [row["loss"] for row in lines(scratch / "metrics.jsonl")]


def weights(scratch: Path) -> dict[str, torch.Tensor]:
    """What the training would publish."""
    return load_file(published(scratch))


def published(scratch: Path) -> Path:
    """The weights that were kept last."""
    return max(scratch.glob("kept-*/*.safetensors"))


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest difference of two sets of weights, relative to the largest weight of each tensor."""
    assert a.keys() == b.keys()
    return max(float((a[n] - b[n]).abs().max() / b[n].abs().max()) for n in b)


def spawn(world: int, jobs: dict[str, Job], folder: Path) -> None:
    """Run jobs one after the other in a gloo group of `world` processes, each in `folder / name`."""
    _meeting_point(folder)
    run_group(_worker, (world, jobs, str(folder)), world)


def spawn_until_one_dies(world: int, jobs: dict[str, Job], folder: Path) -> dict[int, int]:
    """The same where a worker of the group dies: the others are then killed, as Ray Train does; exit codes by rank."""
    _meeting_point(folder)
    group = start_group(_worker, (world, jobs, str(folder)), world)
    deadline = time.monotonic() + 300
    while all(process.exitcode is None for process in group) and time.monotonic() < deadline:
        time.sleep(0.05)
    died = {rank: process.exitcode for rank, process in enumerate(group) if process.exitcode is not None}
    for process in group:
        process.kill()
        process.join()
    return died


def _meeting_point(folder: Path) -> None:
    """A group before may have left its file, with addresses at which nobody answers any more."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rendezvous").unlink(missing_ok=True)


def _worker(rank: int, world: int, jobs: dict[str, Job], folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder, "rendezvous")), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=datetime.timedelta(seconds=120))
    for name, job in jobs.items():
        try:
            run(job, Path(folder, job.scratch or name))
        except Killed:
            assert job.stop_at is not None
        dist.barrier()
    dist.destroy_process_group()
    # All is on the disk. The interpreter's own way out may meet threads of the back ends that nobody joined, and abort.
    sys.stdout.flush()
    os._exit(0)
