"""The choice of a baseline's L2 penalty: a try for each, tried side by side, the best one kept for every seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from raypref.config import RunConfig
from raypref.experiment import run_all
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.stage import Chain, Stage
from raypref.storage.store import Store
from tests.support.tiny_chain import changed

SMALL = {"dimension": 8, "epochs": 5, "batch": 32, "learning_rate": 1e-2, "l2": [1.0, 1e-5, 1e-6]}


def config(recommender: str = "gru4rec", **more: object) -> RunConfig:
    return changed(system="baseline", baseline={"recommender": recommender, **SMALL, **more})


class Noting(InProcess):
    """Says in which order stages are run, and which together."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.ran: list[list[str]] = []

    def __call__(self, run: Chain, stage: Stage) -> None:
        self.ran.append([stage.kind])
        super().__call__(run, stage)

    def together(self, pairs: Iterable[tuple[Chain, Stage]]) -> Iterator[Stage]:
        listed = list(pairs)
        found = list(super().together(listed))
        self.ran[-len(listed) :] = [[stage.kind for stage in found]]
        yield from found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Chain, list[list[str]]]:
    store = Store(tmp_path_factory.mktemp("results"))
    runs = [chain(config("gru4rec")), chain(config("caser"))]
    runner = Noting(store)
    shared = {str(stage.address): (run, stage) for run in runs for stage in run.shared}
    run_all(shared.values(), store, runner, lambda line: None)
    for stage in runs[0].own:
        InProcess(store)(runs[0], stage)
    return store, runs[0], runner.ran


def test_tries_of_all_baselines_run_together(done: tuple[Store, Chain, list[list[str]]]) -> None:
    assert done[2] == [["prepare"], ["try"] * 6, ["tune"], ["tune"]]


def test_the_best_try_is_the_tuned_fit_and_that_of_seed_0(done: tuple[Store, Chain, list[list[str]]]) -> None:
    store, run, _ = done
    tries = {stage.config["recommender"]["l2"][0]: stage for stage in run if stage.kind == "try"}
    values = {l2: store.manifest(stage.address)["facts"]["kept_back_ndcg@10"] for l2, stage in tries.items()}
    best = max(values, key=lambda l2: values[l2])
    assert list(tries) == SMALL["l2"]
    assert best != 1.0
    (tuned,) = (stage for stage in run if stage.kind == "tune")
    for stage in (tuned, run.trained):
        facts = store.manifest(stage.address)["facts"]
        assert facts["l2"] == best
        assert facts["tried"] == {f"{l2:g}": value for l2, value in values.items()}
        weights = [store.path(s.address) / "model/model.safetensors" for s in (stage, tries[best])]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_another_seed_takes_the_penalty_over(done: tuple[Store, Chain, list[list[str]]]) -> None:
    store, run, _ = done
    other = chain(config(seed=1))
    assert [str(stage.address) for stage in other.shared] == [str(stage.address) for stage in run.shared]
    InProcess(store)(other, other.trained)
    facts = store.manifest(other.trained.address)["facts"]
    assert list(facts["tried"]) == [f"{store.manifest(run.trained.address)['facts']['l2']:g}"]


def test_of_equals_the_first_penalty_is_kept(done: tuple[Store, Chain, list[list[str]]], tmp_path: Path) -> None:
    run = done[1]
    (tuned,) = (stage for stage in run if stage.kind == "tune")
    planted = Store(tmp_path)
    for name, stage in tuned.inputs.items():
        with planted.writing(stage.address, {}, {}) as (folder, facts):
            (folder / "name").write_text(name)
            facts |= {"l2": float(name), "tried": {name: 0.25 if name == "1" else 0.5}}
    InProcess(planted)(run, tuned)
    assert (planted.path(tuned.address) / "name").read_text() == "1e-05"
    facts = json.loads((planted.path(tuned.address) / "_SUCCESS").read_text())["facts"]
    assert facts["tried"] == {"1": 0.25, "1e-05": 0.5, "1e-06": 0.5}
