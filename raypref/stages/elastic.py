"""Groups that begin with fewer workers where the cluster has no room for more, and grow with it (`min_workers`).

Ray Train decides how many there are room for; here it is made to take only numbers that divide the global batches, so
that every worker has an equal share. A group that changes its size begins again at its last checkpoint.

This leans on internals of Ray Train 2.60 (see pyproject.toml's range).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.train import Result, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy

from raypref.config import RunConfig


def group_sizes(config: RunConfig) -> tuple[int, ...]:
    """The numbers of workers that a group may have, the smallest first; one where it is not elastic."""
    resources = config.resources
    numbers = range(resources.min_workers or resources.workers, resources.workers + 1)
    batches = (config.sft.global_batch, config.align.global_batch)
    return tuple(n for n in numbers if all(batch % n == 0 for batch in batches))


@dataclass
class ElasticConfig(ScalingConfig):
    """A group of one of several sizes."""

    sizes: tuple[int, ...] = ()


class WholeShares(ElasticScalingPolicy):
    """Ray's own policy, among an `ElasticConfig`'s sizes."""

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        most = super()._count_possible_workers(reserved_resources)
        config: Any = self.scaling_config
        return max((n for n in config.sizes if n <= most), default=0)


def scaling(config: RunConfig, **more: Any) -> ScalingConfig:
    """Ray Train's account of a config's group; `more`: its other fields."""
    sizes = group_sizes(config)
    if len(sizes) == 1:
        return ScalingConfig(num_workers=sizes[0], **more)
    numbers: Any = (sizes[0], sizes[-1])  # the stub is that of the V1 class
    return ElasticConfig(num_workers=numbers, sizes=sizes, **more)


def whole_shares(parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of a Train controller, with our policy where the group is elastic."""
    config: Any = parts["train_run_context"].scaling_config
    elastic = isinstance(config, ElasticConfig)
    return parts | {"scaling_policy": WholeShares(config)} if elastic else parts


class ElasticTrainer(TorchTrainer):
    """A TorchTrainer that also takes an `ElasticConfig`."""

    def _initialize_and_run_controller(self, **parts: Any) -> Result:
        base: Any = super()  # the stubs are those of the V1 class
        result: Result = base._initialize_and_run_controller(**whole_shares(parts))
        return result
