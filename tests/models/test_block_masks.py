"""The block mask made on the host keeps what the rule allows, and leaves blocks out where all of it is forbidden."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from raypref.models import masks
from raypref.models.layout import Rows, TitleBatch, title_batch

PROMPTS = (5, 190, 64, 333, 127, 700)
TITLES = (1, 2, 9, 30, 9, 4)


def laid_out(packed: bool) -> TitleBatch:
    prompts = [list(range(3, 3 + n)) for n in PROMPTS]
    return title_batch(prompts, [[[3] * n for n in TITLES] for _ in prompts], 0, Rows(packed, masks.BLOCK))


@pytest.mark.parametrize("window", [None, 70])
@pytest.mark.parametrize("packed", [True, False])
def test_blocks_hold_all_that_the_rule_allows(packed: bool, window: int | None) -> None:
    batch = laid_out(packed)
    rows, length = batch.input_ids.shape
    made, whole = (
        masks.blocks(batch, window),
        create_block_mask(masks.rule(batch, window), rows, None, length, length, "cpu"),
    )
    kept, needed = made.to_dense().bool(), whole.to_dense().bool()
    assert bool((kept | ~needed).all())  # none is missing
    allowed = masks.dense(batch, window)[:, 0].numpy()
    n = length // masks.BLOCK
    by_block = allowed.reshape(rows, n, masks.BLOCK, n, masks.BLOCK).swapaxes(2, 3)
    assert made.full_kv_num_blocks is not None
    assert made.full_kv_indices is not None
    for row, query in np.ndindex(rows, n):  # where the rule is not asked, it would allow everything
        for i in range(int(made.full_kv_num_blocks[row, 0, query])):
            assert by_block[row, query, int(made.full_kv_indices[row, 0, query, i])].all()


def test_packed_rows_keep_no_more_blocks_than_pairs_written_out() -> None:
    batch = laid_out(packed=True)
    rows, length = batch.input_ids.shape
    made, whole = masks.blocks(batch), create_block_mask(masks.rule(batch), rows, None, length, length, "cpu")
    assert torch.equal(made.to_dense(), whole.to_dense())
    assert int(made.full_kv_num_blocks.sum()) == int(whole.full_kv_num_blocks.sum()) > 0  # type: ignore[union-attr]
