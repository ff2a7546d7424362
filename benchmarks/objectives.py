"""Does every objective learn? Each one is aligned for 50 steps by the real pipeline, and measured before and after.

SFT, reference and expert are computed once; then each objective, with its own defaults, starts from that SFT model.
Before is the SFT model, after the aligned one. Both are measured on all validation targets, which no stage has trained
on, by the same loss: fixed negatives, and for objectives with running statistics those of the validation batch itself.
Exit code 1 says that some objective did not learn. Run it from the repository's root:

    python benchmarks/objectives.py                          # all, about ten minutes on two cores
    python benchmarks/objectives.py --only napo eapo         # some of them
    python benchmarks/objectives.py --root FOLDER            # keep stages there; a second run goes on from them
    python benchmarks/objectives.py --write docs/objectives.md
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor

from raypref.config import RunConfig
from raypref.config.loading import load, override
from raypref.data.columns import ExampleTable
from raypref.objectives import OBJECTIVES, ObjectiveOutput, PreferenceBatch
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.policy import load_policy
from raypref.stages.stage import Chain, Stage
from raypref.stages.train import training_folders
from raypref.storage.store import Store
from raypref.training.batches import Collator
from raypref.training.engine import make_engine
from raypref.training.moving_reference import MovingReference
from raypref.training.tasks import Task, table_columns, task_of
from raypref.training.validation import Validator

# Few items, short prompts, and random negatives alone, so that a model of a million weights sees in 50 steps what a
# user likes. (With the user's own later items among the negatives, as RecPO has it, the preferred title of a training
# pair hardly differs from the dispreferred one.)
BASE = {
    "name": "objectives",
    "data.source.users": 800,
    "data.source.items": 60,
    "data.max_history": 5,
    "data.candidates": {"train_future": 1, "train_random": 5, "eval_random": 5},
    "prompt.templates": 1,
    "sft.max_steps": 150,
    "sft.validations": 3,
    "align.max_steps": 50,
    "align.learning_rate": 1e-4,
    "align.validations": 1,
    "align.validation_examples": 10_000,  # all: the reference scores what validation reads
    "align.keep": "last",
    "align.global_batch": 32,
    "resources.micro_batch": 32,  # what validation shares negatives within
    "resources.engine": "torch",
}
SDPO = {"align.objective": {"name": "sdpo"}}
CASES: dict[str, dict[str, Any]] = {name: {"align.objective": {"name": name}} for name in OBJECTIVES} | {
    "sdpo + NS": {"align.objective": {"name": "sdpo", "share_negatives": True}},
    "sdpo + sft": SDPO | {"align.objectives": {"sdpo": 1.0, "sft": 0.1}},
    "sdpo, hard": SDPO | {"align.negatives_by": "hard"},
    "sdpo, self-play": SDPO | {"align.negatives_by": "self-play"},
    "sdpo, borderline": SDPO | {"align.negatives_by": "borderline"},
    "sdpo, ema": SDPO | {"align.reference_update": "ema"},
    "sdpo, replaced": SDPO | {"align.reference_update": "replace", "align.reference_every": 10},
}
"""What is set beside `BASE`, by the name of the table's line."""
HEADING = "## Does each of them learn?"
COLUMNS = {
    "loss": "validation loss",
    "pair_accuracy": "pair accuracy",
    "likelier": "likelier than negatives",
    "hr@1": "HR@1 exact",
}
TIE = 1e-4  # mean reward gap, in nats, of a model that is its own reference


@dataclass(frozen=True)
class Row:
    """One objective's line of the table."""

    case: str
    before: dict[str, float]
    after: dict[str, float]
    seconds: float

    @property
    def tied(self) -> bool:
        """All rewards are equal before: the SFT model is the reference. Then chance, 1/2, is what is to be beaten."""
        return abs(self.before.get("reward_margin", 1.0)) < TIE

    @property
    def learns(self) -> bool:
        """Loss and pairs; a reference that follows the policy is always a tie: then HR@1."""
        if abs(self.after.get("reward_margin", 1.0)) < TIE:
            return self.after["hr@1"] > self.before["hr@1"]
        to_beat = 0.5 if self.tied else self.before["pair_accuracy"]
        return self.after["loss"] < self.before["loss"] and self.after["pair_accuracy"] > to_beat


def config_of(case: str) -> RunConfig:
    base, _ = load("tiny")
    return override(base, BASE | CASES[case], f"benchmark, case {case}")


def measured(run: Chain, trained: Stage, store: Store) -> dict[str, float]:
    """Validation metrics of a model under the run's objective, its running statistics at their start."""
    config, inputs = run.config.align, run.align.input_paths(store)
    model, tokenizer = load_policy(run.config, inputs["tokenize"], store.path(trained.address))
    task = with_likelier(task_of(config))
    tables = list(ExampleTable(training_folders(run.align, store), "validation", table_columns(config)))
    collator = Collator(task.negatives, config.seed, tokenizer.pad_token_id, choice=task.choice)
    validator = Validator(tables, collator, run.config.resources.micro_batch)
    engine = make_engine(model, config, run.config.resources)
    if config.reference_update != "none":
        task.reference = MovingReference(engine, config, task.state)
    engine.train(False)
    return validator(engine, task)


def with_likelier(task: Task) -> Task:
    """The task with one more metric, the same for all objectives: share of negatives less likely than the target."""

    def objective(batch: PreferenceBatch, params: Any, state: dict[str, Tensor]) -> ObjectiveOutput:
        output = task.objective(batch, params, state)
        likelier = (batch.policy_logps_pos[:, None] > batch.policy_logps_neg).float().mean(dim=1)
        return ObjectiveOutput(output.losses, {**output.metrics, "likelier": likelier})

    return replace(task, objective=objective)


def table(rows: Iterable[Row]) -> str:
    """Markdown: a line an objective, before and after."""
    lines = [
        "| objective | " + " | ".join(f"{title}, before | after" for title in COLUMNS.values()) + " | seconds |",
        "|---|" + "---|" * (2 * len(COLUMNS) + 1),
    ]
    for row in rows:
        numbers = [f"{value[key]:.3f}" for key in COLUMNS for value in (row.before, row.after)]
        if row.tied:
            numbers[2] = "tie"
        lines.append(f"| {row.case} | " + " | ".join(numbers) + f" | {row.seconds:.0f} |")
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Put the table into a page, under its heading: in place of the one that is there."""
    page = path.read_text()
    if HEADING not in page:
        raise SystemExit(f"{path} has no heading '{HEADING}'")
    before, after = page.split(HEADING)
    new, found = re.subn(r"(\|[^\n]*\n)+", lambda _: text + "\n", after, count=1)
    path.write_text(before + HEADING + (new if found else after.rstrip() + "\n\n" + text + "\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="OBJECTIVE")
    parser.add_argument("--root", type=Path, help="folder of the stages; none: a temporary one")
    parser.add_argument("--write", type=Path, help=f"a Markdown page whose table under '{HEADING}' is replaced")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(options.root or temporary)
        runner = InProcess(store)
        rows = []
        for case in options.only:
            run = chain(config_of(case))
            started = time.perf_counter()
            for stage in run:
                if stage.kind == "evaluate":
                    continue
                fresh = not store.done(stage.address)
                runner(run, stage)
                manifest = store.manifest(stage.address)
                if fresh and stage.kind != "align":
                    print(
                        f"{stage.kind}: {manifest['facts'].get('train_seconds', manifest['seconds']):.0f} s", flush=True
                    )
            seconds = store.manifest(run.align.address)["facts"]["train_seconds"]
            rows.append(Row(case, measured(run, run.sft, store), measured(run, run.align, store), seconds))
            mark = "" if rows[-1].learns else "  DOES NOT LEARN"
            print(f"{case}: {time.perf_counter() - started:.0f} s in all{mark}", flush=True)
    print("\n" + table(rows))
    if options.write:
        write(options.write, table(rows))
    if not all(row.learns for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
