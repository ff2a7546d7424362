"""The training loop: one for supervised fine-tuning and for every alignment objective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from raypref.config.training import AlignConfig, TrainingConfig
from raypref.errors import UserError
from raypref.models.layout import ahead
from raypref.models.schedule import half_cosine
from raypref.objectives import PreferenceBatch
from raypref.objectives.gather import global_batch
from raypref.training.batches import (
    Batch,
    Collator,
    ReadTables,
    concatenated,
    global_batches,
    worker_share,
)
from raypref.training.micro import MicroBatches
from raypref.training.moving_reference import MovingReference
from raypref.training.progress import Progress
from raypref.training.sums import MetricSums, all_most, all_sum
from raypref.training.tasks import Task
from raypref.training.validation import Validator

if TYPE_CHECKING:
    from raypref.training.engine import Engine

Report = Callable[[dict[str, Any]], None]


def train(
    engine: Engine,
    task: Task,
    config: TrainingConfig,
    read: ReadTables,
    examples: int,
    collator: Collator,
    validator: Validator,
    micro_batches: MicroBatches,
    scratch: Path,
    checkpoint_every: int = 200,
    report: Report = lambda metrics: None,
    watch: Report = lambda metrics: None,
    leaving: Callable[[], bool] = lambda: False,
    saved: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Minimize `task` and leave the kept weights in `kept_folder(scratch, step)`; goes on where a killed one stopped.

    Args:
        read: the training table, shard by shard, in stored order. examples: how many rows it has.
        micro_batches: how the global batch goes through the model.
        scratch: folder for checkpoints, `metrics.jsonl` and `validation.jsonl`, shared by all workers.
        report: called on every worker at each validation.
        watch: called on every worker after each step.
        leaving: asked on every worker alike after each step; where it says yes, a checkpoint is written at once.
        saved: called on the first worker after each checkpoint.

    Returns:
        facts for the manifest: steps, seconds, when it began, the steps it was resumed at, the kept step and its
        validation metrics.
    """
    steps_per_epoch = examples // config.global_batch
    total = planned_steps(config, examples)
    validate_at = {math.ceil(total * (i + 1) / config.validations) for i in range(config.validations)}
    progress = Progress(scratch, engine, task)
    if isinstance(config, AlignConfig) and config.reference_update != "none":
        task.reference = MovingReference(engine, config, task.state)
    batches = global_batches(read, config.global_batch, config.seed, progress.step, steps_per_epoch)
    last = time.perf_counter()
    validated: dict[str, float] = {}
    while progress.step < total:
        step = progress.step
        epoch, table = next(batches)
        progress.begin()
        engine.train(True)
        own = worker_share(table, engine.rank, engine.world)
        collator.progress = step / total
        seed = ((config.seed * 1_000_003 + step) * 1_009 + engine.rank) * 1_013
        sums = compute_gradients(engine, task, own, epoch, collator, micro_batches, seed)
        norm = engine.step(learning_rate(config, step, total))
        metrics = sums.means() | {"grad_norm": float(norm)}  # read behind the step, so that a GPU is not waited for
        if not math.isfinite(metrics["loss"]) or not math.isfinite(metrics["grad_norm"]):
            raise Diverged(step, metrics)
        progress.step += 1
        if task.reference is not None:
            task.reference.follow(progress.step)
        progress.log("metrics", {"step": step, "lr": learning_rate(config, step, total), "epoch": epoch, **metrics})
        before, last = last, time.perf_counter()
        watch(
            {"step": progress.step, **metrics, "tokens_per_second": prompt_tokens(own) * engine.world / (last - before)}
        )
        if progress.step in validate_at:
            engine.train(False)
            validated = validator(engine, task)
            progress.validated(validated, config.keep)
            seen = {f"validation_{k}": v for k, v in validated.items()}
            report({"step": progress.step, "share": progress.step / total, **metrics, **seen})
            watch(seen)
        due = progress.step % checkpoint_every == 0
        if (leaving() or due) and progress.step < total:
            progress.save()  # after the validation: a resumed run must know which weights it has kept
            if engine.rank == 0:
                saved()
    if config.keep == "last" or not validate_at:
        progress.keep(validated)
    times = {"train_seconds": round(progress.seconds, 2), "began": progress.began or time.time()}
    return {"steps": total, **times, "resumed_at": progress.resumed_at, **progress.kept}


def compute_gradients(
    engine: Engine,
    task: Task,
    table: pa.Table,
    epoch: int,
    collator: Collator,
    micro_batches: MicroBatches,
    seed: int,
) -> MetricSums:
    """Add the gradient of the global batch's loss, this worker's share of it; the sums that its metrics are made of.

    Nothing here waits for a device: all that is moved is moved before the first pass, what is read is read later.
    """
    parts = micro_batches(table, epoch, collator, engine)
    micro = [collator(table.take(part), epoch).to(engine.device) for part in parts]
    if task.reference is not None:
        task.reference.fill(micro)

    def score(i: int) -> Tensor:
        torch.manual_seed(seed + i)  # dropout: the same when a pass is repeated, and after a resume
        return engine.score(micro[i].titles)

    if task.whole_batch:
        return _gradients_of_whole_batch(engine, task, micro, np.concatenate(parts), score)
    lengths = torch.cat([batch.titles.lengths[:, 0] for batch in micro])
    total = all_sum(lengths.sum().float() if task.by_token else lengths.new_full((), len(lengths)).float())
    sums = MetricSums()
    for i, batch in enumerate(micro):
        last = i == len(micro) - 1
        with engine.accumulating(last):
            seen = batch.seen(score(i))
            output, weights = task(seen), task.weights(seen)
            engine.backward((output.losses * weights).sum() / total, last)
        sums.add(output, weights)
    return sums


def _gradients_of_whole_batch(
    engine: Engine, task: Task, micro: list[Batch], taken: np.ndarray, score: Callable[[int], Tensor]
) -> MetricSums:
    """The same where an example's loss depends on the rest of the global batch.

    Log-probs are computed first, without gradient unless one pass will do; the loss of the batch gathered over workers
    gives the gradient with respect to each log-prob; a pass through each micro-batch carries it into the weights. That
    is exactly the gradient of the undivided batch. `taken` (B,): the batch's row of each row of the micro-batches; a
    loss may depend on the order of the batch, and must not on how it was cut.
    """
    once = len(micro) == 1
    if engine.world > 1:  # on all workers alike, as a pass with gradient may communicate
        once = int(all_most(torch.tensor(len(micro), device=engine.device))) == 1
    order = ahead(torch.from_numpy(np.argsort(taken)), engine.device)
    with engine.accumulating(True), torch.set_grad_enabled(once):
        logps = [score(i) for i in range(len(micro))]
    leaf = torch.cat(logps).detach().requires_grad_()
    rows = torch.split(leaf, [len(part) for part in logps])
    parts = [batch.seen(part) for batch, part in zip(micro, rows)]
    seen = global_batch(concatenated([part for part in parts if isinstance(part, PreferenceBatch)], order))
    output, weights = task(seen), task.weights(seen)
    loss = (output.losses * weights).sum() / weights.sum()
    (gradient,) = torch.autograd.grad(loss, leaf)
    for i, part in enumerate(torch.split(gradient, [len(part) for part in logps])):
        last = i == len(micro) - 1
        with engine.accumulating(last):
            engine.backward(((logps[i] if once else score(i)) * part).sum(), last)
    sums = MetricSums(reduce=False)
    sums.add(output, weights)
    return sums


def prompt_tokens(table: pa.Table) -> int:
    """Tokens of a table's prompts, without titles and padding."""
    return pc.sum(pc.list_value_length(table["prompt_ids"])).as_py() or 0


def planned_steps(config: TrainingConfig, examples: int) -> int:
    """Optimizer steps of a stage; a last batch that isn't whole waits for the next epoch."""
    per_epoch = examples // config.global_batch
    if per_epoch == 0:
        raise UserError(
            f"a global batch of {config.global_batch} is more than the {examples} training examples",
            where="global_batch",
            hint="take a smaller batch, or more data",
        )
    steps = max(1, round(per_epoch * config.epochs))
    return steps if config.max_steps is None else config.max_steps


def learning_rate(config: TrainingConfig, step: int, total: int) -> float:
    """Linear warm-up, then half a cosine to zero; a function of the step alone, so resuming needs no schedule state."""
    warmup = math.ceil(config.warmup * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return config.learning_rate * half_cosine(progress)


class Diverged(UserError):
    """The loss or its gradient is no number any more."""

    def __init__(self, step: int, metrics: dict[str, float]) -> None:
        super().__init__(
            f"training diverged at step {step}: loss {metrics['loss']}, gradient norm {metrics['grad_norm']}",
            where="learning_rate, objective",
            hint="lower the learning rate or beta, or train in float32",
        )
