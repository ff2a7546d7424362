"""One row per evaluated user: everything that any metric of the report is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from raypref.data.splitting import LEAST
from raypref.evaluation.catalog import CATALOG_ROWS, SAID_ROWS, Catalog, all_scores
from raypref.evaluation.catalog_titles import CatalogTitles, said_columns
from raypref.evaluation.constrained import constrained_answers
from raypref.evaluation.decoding import Computed, beam_answers, greedy_answers, match_contains, match_strict
from raypref.evaluation.metrics import PROBE_METRICS
from raypref.evaluation.orders import ORDER_ROWS, Orders
from raypref.evaluation.ranking import rank_of_target
from raypref.models.layout import all_candidates
from raypref.models.prompt_cache import prompt_cache
from raypref.models.scoring import TitleScorer
from raypref.models.title_trie import TitleTrie
from raypref.recommenders.recommender import Recommender

Constrain = Literal["none", "candidates", "catalog"]
ROWS = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("example", pa.int64(), nullable=False),
        pa.field("user", pa.int32(), nullable=False),
        pa.field("history_length", pa.int32(), nullable=False),  # items that the prompt could show
        pa.field("target_item", pa.int32(), nullable=False),
        pa.field("target", pa.int32(), nullable=False),  # index into the candidates
        pa.field("candidates", pa.list_(pa.int32()), nullable=False),
        pa.field("logps", pa.list_(pa.float32())),  # of each candidate's title, nats, summed; or scores; null: none
        pa.field("rank", pa.int32()),  # exact: of the target by logps, ties against it; null without them
        pa.field("logpop", pa.list_(pa.float32()), nullable=False),  # log(1 + training count) of each candidate
        pa.field("history_logpop", pa.float32()),  # mean of log(1 + training count) over the history; null if empty
        pa.field("answer", pa.string()),  # generated; null where generation is off
        pa.field("answered", pa.int32()),  # strict: index of the candidate named, -1 none
        pa.field("answered_contains", pa.int32()),  # the same by the `contains` rule
        pa.field("beams", pa.list_(pa.int32())),  # strict, of each beam, the likeliest first; null where off
    ]
)


def rank_by_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    titles: Sequence[str],
    tables: Iterable[pa.Table],
    split: str,
    batch: int,
    generate: bool,
    counts: np.ndarray,
    beams: int = 0,
    titles_asked: CatalogTitles | None = None,
    catalog: Catalog | None = None,
    constrain: Constrain = "none",
    orders: Orders | None = None,
) -> Iterator[pa.Table]:
    """Rows, batch by batch, of a split's tables (columns of prepare and tokenize). Puts the model in eval mode.

    Args:
        titles_asked: what asks about all titles, where the catalog is ranked or is what may be generated.
        catalog: rank all of its items too. constrain: generate under constraint too.
        orders: rank the lists in other orders too.
        counts: (items,) training interactions of each item.
        beams: width of a beam search beside the greedy one; 0: none.
    """
    model.eval()
    scorer = TitleScorer(model)
    names = np.array(titles, dtype=object)
    for table in tables:
        for first in range(0, table.num_rows, batch):
            part = table.slice(first, batch)
            batch_of_part = all_candidates(part, tokenizer.pad_token_id, scorer.rows())
            cache = DynamicCache() if generate or beams or constrain == "candidates" else None
            with torch.no_grad():
                logps = scorer(batch_of_part.to(model.device), cache).float().cpu().numpy()
            computed = None if cache is None else partial(prompt_cache, cache, batch_of_part)
            shown = [names[row] for row in part["candidates"].to_pylist()]
            longest = max(len(ids) for row in part["title_ids"].to_pylist() for ids in row)
            prompts = part["prompt_ids"].to_pylist()
            said: dict[str, Any] = {}
            if generate:
                answers = greedy_answers(model, tokenizer, prompts, longest, computed)
                said = match_answers(answers, shown)
            if beams:
                lists = beam_answers(model, tokenizer, prompts, longest, beams, computed)
                said["beams"] = [[match_strict(a, c) for a in answers] for answers, c in zip(lists, shown)]
            if split not in PROBE_METRICS:
                said |= _of_catalog(scorer, tokenizer, part, computed, beams, titles_asked, catalog, constrain)
                said |= {} if orders is None else orders.columns(scorer, part, split in LEAST, tokenizer.pad_token_id)
            yield rows_of(part, split, logps, counts, **said)


def _of_catalog(
    scorer: TitleScorer,
    tokenizer: PreTrainedTokenizerBase,
    part: pa.Table,
    computed: Computed | None,
    beams: int,
    titles: CatalogTitles | None,
    catalog: Catalog | None,
    constrain: Constrain,
) -> dict[str, Any]:
    """The columns of `CATALOG_ROWS` and `SAID_ROWS` that are asked for."""
    columns: dict[str, Any] = {}
    if constrain == "candidates":
        assert computed is not None
        prompts = part["prompt_ids"].to_pylist()
        trie = TitleTrie.of_sets(part["title_ids"].to_pylist(), tokenizer.eos_token_id)
        widths = [n for n in (1, beams) if n]
        found = [constrained_answers(scorer, trie, trie.roots, computed(1), prompts, n) for n in widths]
        columns |= said_columns([np.array(row) for row in part["candidates"].to_pylist()], *found)
    if titles is None:
        return columns
    asked = titles.prompts(scorer, part)
    if catalog is not None:
        columns |= catalog.columns(part, titles.logps(scorer, asked))
    if constrain == "catalog":
        found = [titles.said(scorer, asked, n) for n in (1, beams) if n]
        items = [titles.items] * part.num_rows
        columns |= said_columns(items, *found)
    return columns


def match_answers(answers: Sequence[str], shown: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Say in columns which of the candidates `shown` each answer names."""
    return {
        "answer": list(answers),
        "answered": [match_strict(a, c) for a, c in zip(answers, shown)],
        "answered_contains": [match_contains(a, c) for a, c in zip(answers, shown)],
    }


def rank_by_recommender(
    recommender: Recommender,
    tables: Iterable[pa.Table],
    split: str,
    batch: int,
    counts: np.ndarray,
    catalog: Catalog | None = None,
) -> Iterator[pa.Table]:
    """Rank the candidates of a split's tables (columns of prepare), batch by batch: scores stand for log-probs.

    Where the question is the least fitting item, the lowest score answers it.
    """
    sign = -1 if split in LEAST else 1
    for table in tables:
        for first in range(0, table.num_rows, batch):
            part = table.slice(first, batch)
            histories = [np.array(history, dtype=np.int64) for history in part["history"].to_pylist()]
            scores = recommender.score(histories, np.array(part["candidates"].to_pylist()))
            more: dict[str, Any] = {}
            if catalog is not None and split not in PROBE_METRICS:
                more = catalog.columns(part, all_scores(recommender, catalog, part, histories))
            yield rows_of(part, split, sign * scores.float().cpu().numpy(), counts, **more)


def rows_of(part: pa.Table, split: str, scores: np.ndarray | None, counts: np.ndarray, **said: Any) -> pa.Table:
    """Rows (`ROWS`) of examples, from scores (B, C) of their candidates and what was generated, if either.

    Args:
        said: columns that generation and the whole catalog fill; those of `CATALOG_ROWS` and `SAID_ROWS` are there
            where they are given.
    """
    more = [field for field in (*CATALOG_ROWS, *SAID_ROWS, *ORDER_ROWS) if field.name in said]
    target = part["target"].to_numpy()
    candidates = np.array(part["candidates"].to_pylist())
    logpop = np.log1p(counts)
    histories = part["history"].to_pylist()
    none = [None] * part.num_rows
    return pa.table(
        {
            "split": [split] * part.num_rows,
            "example": part["example"],
            "user": part["user"],
            "history_length": pa.array([len(history) for history in histories], pa.int32()),
            "target_item": np.take_along_axis(candidates, target[:, None], 1)[:, 0].astype(np.int32),
            "target": target,
            "candidates": part["candidates"],
            "logps": none if scores is None else list(scores.astype(np.float32)),
            "rank": none if scores is None else rank_of_target(scores, target).astype(np.int32),
            "logpop": list(logpop[candidates].astype(np.float32)),
            "history_logpop": [float(logpop[history].mean()) if history else None for history in histories],
            **{name: said.get(name, none) for name in ("answer", "answered", "answered_contains", "beams")},
            **{field.name: said[field.name] for field in more},
        },
        schema=pa.schema([*ROWS, *more]),
    )
