"""One row per evaluated user: everything that any metric of the report is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from raypref.evaluation.decoding import greedy_answers, matched_contains, matched_strict
from raypref.evaluation.ranking import rank_of_target
from raypref.models.scoring import TitleScorer
from raypref.training.batches import all_candidates

ROWS = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("example", pa.int64(), nullable=False),
        pa.field("user", pa.int32(), nullable=False),
        pa.field("history_length", pa.int32(), nullable=False),  # items that the prompt could show
        pa.field("target_item", pa.int32(), nullable=False),
        pa.field("target", pa.int32(), nullable=False),  # index into the candidates
        pa.field("candidates", pa.list_(pa.int32()), nullable=False),
        pa.field("logps", pa.list_(pa.float32()), nullable=False),  # of each candidate's title, nats, summed
        pa.field("rank", pa.int32(), nullable=False),  # exact: of the target by logps, ties against it
        pa.field("answer", pa.string()),  # generated; null where generation is off
        pa.field("answered", pa.int32()),  # strict: index of the candidate named, -1 none
        pa.field("answered_contains", pa.int32()),  # the same by the `contains` rule
    ]
)


def evaluated(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    titles: Sequence[str],
    tables: Iterable[pa.Table],
    split: str,
    batch: int,
    generate: bool,
) -> Iterator[pa.Table]:
    """Rows, batch by batch, of a split's tables (columns of prepare and tokenize). Puts the model in eval mode."""
    model.eval()
    scorer = TitleScorer(model)
    names = np.array(titles, dtype=object)
    for table in tables:
        for first in range(0, table.num_rows, batch):
            part = table.slice(first, batch)
            with torch.no_grad():
                titles_of_part = all_candidates(part, tokenizer.pad_token_id, scorer.rows())
                logps = scorer(titles_of_part.to(model.device)).float().cpu().numpy()
            target = part["target"].to_numpy()
            shown = [names[row] for row in part["candidates"].to_pylist()]
            answers: list[str | None] = [None] * part.num_rows
            strict: list[int | None] = [None] * part.num_rows
            contains: list[int | None] = [None] * part.num_rows
            if generate:
                longest = max(len(ids) for row in part["title_ids"].to_pylist() for ids in row)
                said = greedy_answers(model, tokenizer, part["prompt_ids"].to_pylist(), longest)
                answers = list(said)
                strict = [matched_strict(a, c) for a, c in zip(said, shown)]
                contains = [matched_contains(a, c) for a, c in zip(said, shown)]
            candidates = np.array(part["candidates"].to_pylist())
            yield pa.table(
                {
                    "split": [split] * part.num_rows,
                    "example": part["example"],
                    "user": part["user"],
                    "history_length": pa.array([len(h) for h in part["history"].to_pylist()], pa.int32()),
                    "target_item": np.take_along_axis(candidates, target[:, None], 1)[:, 0].astype(np.int32),
                    "target": target,
                    "candidates": part["candidates"],
                    "logps": list(logps),
                    "rank": rank_of_target(logps, target).astype(np.int32),
                    "answer": answers,
                    "answered": strict,
                    "answered_contains": contains,
                },
                schema=ROWS,
            )
