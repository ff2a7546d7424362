"""Contract checks for authors of extensions: does an objective or a data source keep what the package relies on?

    from raypref.testing import check_objective

    def test_hinge():
        check_objective(loss, {"margin": 1})

Each raises `ContractError`, an AssertionError with one line for every promise that is broken.
"""

from __future__ import annotations

from raypref.testing.batches import random_batch
from raypref.testing.contract import ContractError
from raypref.testing.objectives import check_objective
from raypref.testing.sources import check_source

__all__ = ["ContractError", "check_objective", "check_source", "random_batch"]
