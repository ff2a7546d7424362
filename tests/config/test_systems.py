"""A system is one entry; whoever lists them lists the same ones."""

from __future__ import annotations

from typing import get_args

from raypref.config import RunConfig
from raypref.config.base import leaves
from raypref.config.loading import dump, override
from raypref.config.systems import SYSTEMS
from raypref.stages import chain


def test_every_system_has_an_entry_and_stages() -> None:
    assert set(SYSTEMS) == set(get_args(RunConfig.model_fields["system"].annotation)) == set(chain.SYSTEMS)


def test_the_keys_that_an_entry_names_are_there() -> None:
    for name, system in SYSTEMS.items():
        keys = dict(leaves(dump(override(RunConfig(), {"system": name}, "test"))))
        assert system.varied in keys
        assert system.seed is None or system.seed in keys
