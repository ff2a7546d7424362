"""Ranking by a model that answers Yes or No: the surer of Yes, the higher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raypref.data.splitting import LEAST
from raypref.data.yes_no import YesNo
from raypref.evaluation.rows import rows_of
from raypref.models.layout import title_batch
from raypref.models.scoring import TitleScorer


@torch.no_grad()
def log_odds(model: Any, asker: YesNo, examples: pa.Table, batch: int) -> np.ndarray:
    """(B, C) `log P(Yes) - log P(No)` of each candidate after its question; `batch`: questions at a time."""
    scorer = TitleScorer(model.eval())
    width = len(examples["candidates"][0])
    prompts = asker.prompts(examples, np.tile(np.arange(width), (examples.num_rows, 1)))
    found = []
    for first in range(0, len(prompts), batch):
        part = prompts[first : first + batch]
        rows = title_batch(part, [asker.answers] * len(part), asker.tokenizer.pad_token_id, scorer.rows())
        logps = scorer(rows.to(model.device)).float()
        found.append((logps[:, 0] - logps[:, 1]).cpu().numpy())
    odds: np.ndarray = np.concatenate(found).reshape(-1, width)
    return odds


def ask_yes_no(
    model: Any, asker: YesNo, tables: Iterable[pa.Table], split: str, batch: int, counts: np.ndarray
) -> Iterator[pa.Table]:
    """Ask about each candidate of a split's tables (columns of prepare): log-odds stand for log-probs of titles.

    Where the question is the least fitting item, the lowest log-odds answer it.
    """
    sign = -1 if split in LEAST else 1
    for table in tables:
        for first in range(0, table.num_rows, batch):
            part = table.slice(first, batch)
            yield rows_of(part, split, sign * log_odds(model, asker, part, batch), counts)
