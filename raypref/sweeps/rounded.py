"""An Optuna sampler whose numbers people can read, name and type again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class Rounded(BaseSampler):
    """Another sampler's proposals, rounded (see `rounded`): labels, tables and answers then name a setting in full."""

    def __init__(self, sampler: BaseSampler) -> None:
        self.sampler = sampler

    def reseed_rng(self) -> None:
        self.sampler.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn = self.sampler.sample_relative(study, trial, search_space)
        return {name: rounded(value, search_space[name]) for name, value in drawn.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        drawn = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return rounded(drawn, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self.sampler.after_trial(study, trial, state, values)


def rounded(value: Any, distribution: BaseDistribution) -> Any:
    """To three significant digits on a logarithmic scale, else to a hundredth of the range or finer; never outside it.

    Only fractions are rounded: 2.6829 of 0 to 4 is 2.68, 0.0023456 of 1e-4 to 1 (logarithmic) is 0.00235.
    """
    if not isinstance(distribution, FloatDistribution):
        return value
    low, high = distribution.low, distribution.high
    digits = -math.floor(math.log10((high - low) / 100))
    near = float(f"{value:.3g}") if distribution.log else round(value, digits)
    return min(max(near, low), high)
