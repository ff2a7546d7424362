"""cluster.yaml passes Ray's own validator, and its dashboard stays on the head's loopback."""

from __future__ import annotations

from pathlib import Path

import yaml

CLUSTER = Path(__file__).parent.parent.parent / "cluster.yaml"


def test_cluster_yaml_is_valid_for_ray() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load(CLUSTER.read_text())))


def test_dashboard_and_tokens() -> None:
    (start,) = (c for c in yaml.safe_load(CLUSTER.read_text())["head_start_ray_commands"] if "ray start" in c)
    assert "--dashboard-host=127.0.0.1" in start
    assert "RAY_AUTH_MODE=token" in start
