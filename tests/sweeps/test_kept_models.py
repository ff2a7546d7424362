"""Which models of a sweep's trials stay: all, the best on validation, none; never one that others refer to."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raypref.storage.store import Address, Store
from raypref.sweeps.kept_models import ModelKeeper

HITS = (0.2, 0.4, 0.4, 0.1)


def ended(store: Store, keep: Any, stage: str = "align", others: tuple[int, ...] = ()) -> set[int]:
    """End a trial for each of `HITS`, the last one badly; those whose weights are still there."""
    keeper = ModelKeeper(keep, store)
    for number, hit in enumerate(HITS):
        address = Address(stage, "t", f"{number:012x}")
        with store.writing(address, {}, {}) as (folder, _):
            (folder / "model").mkdir()
            (folder / "model" / "weights").write_text("w")
        for sweep in ("own", "other") if number in others else ("own",):
            record = store.root / "sweeps" / sweep / "trials" / f"{number}.json"
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps({"align": str(address)}))
        trial: Any = SimpleNamespace(chain=SimpleNamespace(trained=SimpleNamespace(address=address)))
        status = "failed" if number == len(HITS) - 1 else "done"
        keeper.ended(trial, {"status": status, "metrics": {"validation": {"exact_hr@1": hit}}})
    found = store.root.glob(f"{stage}/*/model/weights")
    return {int(path.parent.parent.name.rsplit("-", 1)[1], 16) for path in found}


@pytest.mark.parametrize(
    ("keep", "left"),
    [("all", {0, 1, 2, 3}), ("best", {1, 3}), ("none", {3})],  # of equals the first; a failed trial has its own fate
)
def test_what_is_kept(tmp_path: Path, keep: str, left: set[int]) -> None:
    assert ended(Store(tmp_path), keep) == left


def test_a_model_that_another_sweep_has_stays(tmp_path: Path) -> None:
    assert ended(Store(tmp_path), "none", others=(0,)) == {0, 3}


def test_models_that_are_not_aligned_ones_stay(tmp_path: Path) -> None:
    assert ended(Store(tmp_path), "none", stage="sft") == {0, 1, 2, 3}
