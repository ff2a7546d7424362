"""The engines: DeepSpeed with ZeRO 0 to 3 and plain torch, one worker and two, take the same steps.

On generated examples by default. `RAYPREF_DATA=<folder with ml-100k> pytest -m slow tests/training/test_engines.py`
does the whole matrix on MovieLens-100K too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypref.config import RunConfig
from raypref.config.data import CandidateConfig, DataConfig
from raypref.config.model import LoraConfig, ScratchModel
from raypref.config.sources import MovieLens100KSource
from raypref.data.columns import ExampleTable
from raypref.models import backbone
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.storage.store import Store
from raypref.training.tasks import table_columns
from tests.support.training_runs import (
    RESOURCES,
    SFT,
    Job,
    align,
    furthest,
    lines,
    losses,
    published,
    run,
    spawn,
    weights,
    with_,
)

STEPS = 20
SDPO = with_(align("sdpo"), max_steps=STEPS, validations=2, keep="loss")
NAPO = with_(align("napo"), max_steps=STEPS)
TORCH = with_(RESOURCES, micro_batch=2)
ENGINES = ("torch", "zero0", "zero1", "zero2", "zero3")


def resources(engine: str, **settings: Any) -> Any:
    if engine == "torch":
        return with_(TORCH, **settings)
    return with_(TORCH, engine="deepspeed", zero_stage=int(engine[-1]), **settings)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One worker, torch, the global batch at once: what all others are held against."""
    folder = tmp_path_factory.mktemp("one")
    for name, config in {"sdpo": SDPO, "napo": NAPO, "sft": with_(SFT, max_steps=STEPS)}.items():
        run(Job(config), folder / name)
        assert len(losses(folder / name)) == STEPS
        assert losses(folder / name)[-1] < 0.95 * losses(folder / name)[0]  # it learned, so equality says something
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two workers, several engines, one after the other in one group."""
    folder = tmp_path_factory.mktemp("two")
    again = resources("zero2", checkpoint_every=6)
    jobs = {
        "sdpo torch": Job(SDPO, TORCH),
        "sdpo zero2": Job(SDPO, resources("zero2")),
        "napo zero3": Job(NAPO, resources("zero3")),
        "killed": Job(SDPO, again, stop_at=15, scratch="sdpo again"),
        "resumed": Job(SDPO, again, scratch="sdpo again"),
    }
    spawn(2, jobs, folder)
    return folder


@pytest.mark.parametrize("job", ["sdpo torch", "sdpo zero2", "napo zero3"])
def test_two_workers_take_the_steps_of_one(one: Path, two: Path, job: str) -> None:
    expected = one / job.split()[0]
    assert losses(two / job) == pytest.approx(losses(expected), rel=1e-4)
    assert furthest(weights(two / job), weights(expected)) < 2e-2


@pytest.mark.slow
def test_three_workers_of_unequal_shares_take_the_steps_of_one(one: Path, tmp_path: Path) -> None:
    """As an elastic group may: of a batch of 8 they have 2, 3 and 3, in passes of 2 and one of 1."""
    configs = {"sdpo": SDPO, "napo": NAPO, "sft": with_(SFT, max_steps=STEPS)}
    jobs = {f"{name} {e}": Job(configs[name], resources(e)) for name in configs for e in ("torch", "zero0")}
    jobs["napo tokens"] = Job(NAPO, with_(TORCH, micro_tokens=64))
    spawn(3, jobs, tmp_path)
    for job in jobs:
        assert losses(tmp_path / job) == pytest.approx(losses(one / job.split()[0]), rel=1e-4), job


@pytest.mark.parametrize("engine", ["torch", "zero2"])
def test_validation_is_the_same_on_two_workers(one: Path, two: Path, engine: str) -> None:
    expected, found = (lines(folder / "validation.jsonl") for folder in (one / "sdpo", two / f"sdpo {engine}"))
    assert [row["step"] for row in found] == [9, 19]
    for a, b in zip(found, expected):
        assert a == pytest.approx(b, rel=1e-3)


def test_a_killed_deepspeed_group_goes_on_bit_for_bit(two: Path) -> None:
    again, whole = two / "sdpo again", two / "sdpo zero2"
    assert sorted(path.name for path in again.glob("step-*")) == ["step-000012", "step-000018"]
    for name in ("metrics.jsonl", "validation.jsonl", published(whole).relative_to(whole)):
        assert (again / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_every_engine_takes_the_same_steps(one: Path, tmp_path: Path, world: int) -> None:
    configs = {"sdpo": SDPO, "napo": NAPO, "sft": with_(SFT, max_steps=STEPS)}
    jobs = {f"{name} {e}": Job(configs[name], resources(e)) for name in configs for e in ENGINES}
    spawn(world, jobs, tmp_path)
    for job in jobs:
        assert losses(tmp_path / job) == pytest.approx(losses(one / job.split()[0]), rel=1e-4), job


@pytest.mark.slow
def test_adapters_train_alike_and_resume_on_every_engine(tmp_path: Path) -> None:
    lora = LoraConfig(rank=4, dropout=0.0)
    run(Job(SDPO, TORCH, lora=lora), tmp_path / "one")
    jobs: dict[str, Job] = {}
    for engine in ENGINES:
        given = resources(engine, checkpoint_every=6)
        jobs[f"whole {engine}"] = Job(SDPO, given, lora=lora)
        jobs[f"killed {engine}"] = Job(SDPO, given, lora=lora, stop_at=15, scratch=f"again {engine}")
        jobs[f"resumed {engine}"] = Job(SDPO, given, lora=lora, scratch=f"again {engine}")
    spawn(2, jobs, tmp_path / "two")
    for engine in ENGINES:
        whole, again = (tmp_path / "two" / f"{kind} {engine}" for kind in ("whole", "again"))
        assert losses(whole) == pytest.approx(losses(tmp_path / "one"), rel=1e-4), engine
        assert losses(again) == losses(whole), engine
        assert furthest(weights(again), weights(whole)) == 0, engine


@pytest.mark.slow
def test_the_same_on_movielens_100k(tmp_path: Path) -> None:
    """The loss of sdpo over 20 steps, global batch 16: torch and ZeRO 0 to 3, one worker and two."""
    data = os.environ.get("RAYPREF_DATA")
    if data is None or not Path(data, "ml-100k", "u.data").is_file():
        pytest.skip("RAYPREF_DATA names no folder that holds ml-100k")
    config = RunConfig(
        data=DataConfig(
            source=MovieLens100KSource(),
            max_train_examples_per_user=1,
            candidates=CandidateConfig(train_future=5, train_random=5),
        ),
        model=ScratchModel(hidden_size=32, layers=2, heads=2, key_value_heads=2, intermediate_size=64),
        sft=with_(SFT, max_steps=20, global_batch=16),
        align=with_(SDPO, global_batch=16, validations=0, keep="last"),
        resources=TORCH,
    )
    store, plan = Store(tmp_path / "store"), chain(config)
    assert plan.reference is not None
    for stage in (plan.prepare, plan.tokenize, plan.sft, plan.reference):
        InProcess(store)(plan, stage)
    folders = [store.path(stage.address) for stage in (plan.tokenize, plan.prepare, plan.reference)]
    table = tmp_path / "examples.parquet"
    pq.write_table(pa.concat_tables(ExampleTable(folders, "train", table_columns(config.align))), table)
    pad = backbone.load_tokenizer(folders[0] / "tokenizer").pad_token_id
    model = store.path(plan.sft.address) / "model"
    jobs = {e: Job(config.align, resources(e), table=table, model=model, pad=pad) for e in ENGINES}
    for world in (1, 2):
        spawn(world, jobs, tmp_path / f"{world}")
    expected = losses(tmp_path / "1/torch")
    assert len(expected) == STEPS
    assert expected[-1] != pytest.approx(expected[0], rel=1e-2)
    worst = {}
    for world in (1, 2):
        for engine in ENGINES:
            found = losses(tmp_path / f"{world}" / engine)
            worst[f"{engine} x {world}"] = max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
    print({name: f"{value:.1e}" for name, value in worst.items()})
    assert max(worst.values()) < 1e-4
