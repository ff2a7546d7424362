"""The live metrics: their names in Prometheus, and what is asked of them by the Grafana dashboard and by the tests."""

from __future__ import annotations

METRICS = {
    "raypref_loss": "Training loss of the last step",
    "raypref_reward_margin": "Mean reward of the preferred title less that of the dispreferred ones, of the last step",
    "raypref_tokens_per_second": "Prompt tokens trained on a second, all workers together",
    "raypref_step": "Optimizer steps done",
    "raypref_validation_hr_at_1": "HR@1 by exact ranking at the last validation",
    "raypref_hr_at_1": "HR@1 of a finished trial on test: by generation, by exact ranking if nothing was generated",
    "raypref_valid_ratio": "ValidRatio of a finished trial on test",
}
SHOWN_AS = {
    "loss": "raypref_loss",
    "reward_margin": "raypref_reward_margin",
    "tokens_per_second": "raypref_tokens_per_second",
    "step": "raypref_step",
    "validation_hr@1": "raypref_validation_hr_at_1",
    "hr@1": "raypref_hr_at_1",
    "valid_ratio": "raypref_valid_ratio",
}
RAY_PREFIX = "ray_"  # Ray puts it before the names of all metrics that it exports


def shown_as(key: str) -> str | None:
    """The Prometheus name, less Ray's prefix, of a number that a trial reports; None for those that are not shown."""
    return SHOWN_AS.get(key)


def query(metric: str, sweep: str = "", by: str = "trial") -> str:
    """PromQL: the last value of each trial; `sweep` may be a Grafana variable."""
    chosen = f'{{sweep=~"{sweep}"}}' if sweep else ""
    return f"max by ({by}) ({RAY_PREFIX}{metric}{chosen})"
