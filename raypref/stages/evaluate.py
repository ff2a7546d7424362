"""evaluate: a row for every evaluated user, and their means."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raypref.config.systems import SYSTEMS
from raypref.data.columns import ExampleTable, head, splits_in
from raypref.stages.identity import section_identity
from raypref.stages.prepare import catalog_of, renderer_of, titles_of, train_counts
from raypref.stages.stage import Chain, Kind, Stage, WorkerContext
from raypref.storage.headway import counted
from raypref.storage.store import Store


def evaluation_of(whole: dict[str, Any]) -> dict[str, Any]:
    """The part of a config, JSON-ready, that decides what an evaluation finds."""
    return {k: v for k, v in section_identity(whole, "evaluation").items() if k != "batch"}


def of_scores(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The part that counts where candidates are scored and nothing is generated."""
    return {k: v for k, v in evaluation.items() if k not in ("generate", "beams", "constrain", "orders")}


def run(chain: Chain, stage: Stage, ctx: WorkerContext) -> None:
    """Rows of every evaluated example; each worker does its share of the batches."""
    from raypref.evaluation.beyond_accuracy import of_system
    from raypref.evaluation.metrics import means

    store, config = ctx.store, chain.config.evaluation
    paths = stage.input_paths(store)
    started = time.perf_counter()
    judge = _judge(chain, paths, store)
    folders = [paths[name] for name in ("prepare", "tokenize") if name in paths]
    scratch = store.scratch(stage.address)
    scratch.mkdir(parents=True, exist_ok=True)
    parts: list[pa.Table] = []
    splits = splits_in(paths["prepare"], config.splits)
    for split in splits:
        table = ExampleTable(folders, split)
        batches = math.ceil(min(table.rows, config.max_examples or table.rows) / (config.batch * ctx.world))
        tables = head(table, config.max_examples)
        cut = (t.slice(i, config.batch) for t in tables for i in range(0, t.num_rows, config.batch))
        own = counted((t for n, t in enumerate(cut) if n % ctx.world == ctx.rank), batches, f"{split} batch")
        parts += judge(own if SYSTEMS[chain.config.system].chat else _beating(own, ctx), split)
    ctx.beat.stop()
    if parts:
        pq.write_table(
            pa.concat_tables(parts, promote_options="default"),
            scratch / f"rows-{ctx.rank}-of-{ctx.world}.parquet",
        )
    ctx.barrier()
    if ctx.rank == 0:
        found = [pq.read_table(p) for p in sorted(scratch.glob(f"rows-*-of-{ctx.world}.parquet"))]
        rows = pa.concat_tables(found, promote_options="default").sort_by(
            [("split", "ascending"), ("example", "ascending")]
        )
        with store.writing(stage.address, stage.config, stage.input_addresses()) as (folder, facts):
            pq.write_table(rows, folder / "rows.parquet", compression="zstd", write_page_checksum=True)
            for split in splits:
                of_split = rows.filter(pa.compute.equal(rows["split"], split))
                facts[split] = means(of_split) | of_system(of_split) | {"examples": of_split.num_rows}
            facts["evaluate_seconds"] = round(time.perf_counter() - started, 2)
            facts["finished"] = time.time()


def _beating(tables: Iterable[pa.Table], ctx: WorkerContext) -> Iterator[pa.Table]:
    for table in tables:
        ctx.beat()
        yield table


def _judge(
    chain: Chain, paths: dict[str, Path], store: Store
) -> Callable[[Iterable[pa.Table], str], Iterator[pa.Table]]:
    """What makes rows of a split's tables: a language model that writes and scores titles, a recommender, or a chat."""
    from raypref.evaluation.catalog_titles import CatalogTitles
    from raypref.evaluation.chat import ChatClient, ask_chat
    from raypref.evaluation.orders import Orders
    from raypref.evaluation.rows import rank_by_model, rank_by_recommender
    from raypref.evaluation.yes_no import ask_yes_no
    from raypref.recommenders import load_recommender
    from raypref.stages.policy import load_policy
    from raypref.stages.tokenize import asker_of, example_tokenizer, without_list

    config, counts = chain.config.evaluation, train_counts(paths["prepare"])
    ranked = config.catalog != "none"
    catalog = (
        catalog_of(paths["prepare"], config.catalog == "unseen") if ranked or config.constrain == "catalog" else None
    )
    if "fit" in paths:
        recommender = load_recommender(paths["fit"] / "model")
        return lambda tables, split: rank_by_recommender(
            recommender, tables, split, config.batch, counts, catalog if ranked else None
        )
    if "questions" in paths:
        model, tokenizer = load_policy(chain.config, paths["questions"], paths["model"])
        asker = asker_of(chain.config, paths["prepare"], tokenizer)
        return lambda tables, split: ask_yes_no(model, asker, tables, split, config.batch, counts)
    titles = titles_of(paths["prepare"])
    if SYSTEMS[chain.config.system].chat:
        chat, workers = chain.config.chat, chain.config.resources.workers
        own = chat.model_copy(update={"spend_cap": chat.spend_cap / workers})  # each spends its share at most
        client = ChatClient(own, store.root / "chat-cache")
        render = renderer_of(chain.config, paths["prepare"])
        return lambda tables, split: ask_chat(client, render, titles, tables, split, counts)
    model, tokenizer = load_policy(chain.config, paths["tokenize"], paths.get("model"))
    all_titles: CatalogTitles | None = None
    if catalog is not None:
        tokenize = example_tokenizer(without_list(chain.config), paths["prepare"], tokenizer)
        all_titles = CatalogTitles(catalog.items, tokenize, tokenizer.eos_token_id, tokenizer.pad_token_id)
    orders = None
    if config.orders > 1:
        orders = Orders(config.orders, example_tokenizer(chain.config, paths["prepare"], tokenizer))
    return lambda tables, split: rank_by_model(
        model, tokenizer, titles, tables, split, config.batch, config.generate, counts, config.beams,
        all_titles, catalog if ranked else None, config.constrain, orders,
    )  # fmt: skip


EVALUATE = Kind("evaluate", 2, "group", run)
