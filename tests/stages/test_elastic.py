"""How many workers an elastic group takes of those that the cluster has room for; without Ray's processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import ScalingConfig

from raypref.config.loading import override
from raypref.stages.elastic import ElasticConfig, WholeShares, group_sizes, scaling, whole_shares
from tests.support.tiny_chain import TINY

ONE = {"CPU": 1.0}


def config(sft: int, align: int, **resources: Any) -> Any:
    changed = {f"resources.{name}": value for name, value in resources.items()}
    batches = {"sft.global_batch": sft, "align.global_batch": align}
    return override(TINY, {"resources.engine": "torch"} | batches | changed, "test")


@pytest.mark.parametrize(
    ("sft", "align", "least", "most", "sizes"),
    [(24, 12, 1, 4, (1, 2, 3, 4)), (16, 8, 1, 8, (1, 2, 4, 8)), (16, 8, 3, 8, (4, 8)), (12, 8, 2, 4, (2, 4))],
)
def test_sizes_divide_the_batches(sft: int, align: int, least: int, most: int, sizes: tuple[int, ...]) -> None:
    assert group_sizes(config(sft, align, workers=most, min_workers=least)) == sizes


def test_without_a_minimum_a_group_has_one_size() -> None:
    fixed = scaling(config(8, 8, workers=2), resources_per_worker=ONE)
    assert type(fixed) is ScalingConfig
    assert fixed.num_workers == 2
    parts = {"train_run_context": SimpleNamespace(scaling_config=fixed), "scaling_policy": "Ray's"}
    assert whole_shares(parts) == parts


@pytest.mark.parametrize(("room", "taken"), [((0,), 0), ((1,), 1), ((2, 1), 2), ((3, 4), 4), ((16,), 8)])
def test_a_group_takes_the_largest_size_there_is_room_for(room: tuple[int, ...], taken: int) -> None:
    """Room for so many workers on each node. None: it waits, as nothing is the least that it may have."""
    elastic = scaling(config(16, 8, workers=8, min_workers=1), resources_per_worker=ONE)
    assert isinstance(elastic, ElasticConfig)
    assert elastic.num_workers == (1, 8)
    parts = whole_shares({"train_run_context": SimpleNamespace(scaling_config=elastic), "scaling_policy": None})
    policy = parts["scaling_policy"]
    assert isinstance(policy, WholeShares)
    reserved = {f"node {i}": {"CPU": float(cpus)} for i, cpus in enumerate(room)}
    assert policy._count_possible_workers(reserved) == taken
