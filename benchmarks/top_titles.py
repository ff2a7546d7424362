"""The 20 likeliest titles of a catalog: every title scored, the trie scored, and best-first search.

    python benchmarks/top_titles.py --data ml-100k --model raypref-tiny models/ml-100k    # needs: data
    python benchmarks/top_titles.py --generated 10000

Of each model, catalog and way: tokens of titles that go through the model for a user (prompts apart), and CPU seconds
of one thread. `titles` scores lists of 20 after their prompt, as candidates are scored; the trie and the search go on
from the prompt's keys and values. `one by one` is the search with one node at a time: none that its
bound can spare is computed. All must give the same 20. Prompts of a data set list no candidates, those over a generated
catalog list 20 of it.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedTokenizerBase

from raypref.config.data import DataConfig, PromptConfig
from raypref.config.sources import GeneratedSource, MovieLens100KSource
from raypref.data.encoding import encode_prompts, encode_titles
from raypref.data.examples import asks_for_liked, examples_of
from raypref.data.prompts import PromptRenderer
from raypref.data.reading import read_log
from raypref.data.sources.lexicon import GENRES, MOODS
from raypref.evaluation.top_titles import WIDTH, top_titles
from raypref.models import backbone
from raypref.models.folders import SHIPPED, SHIPPED_FOLDER
from raypref.models.layout import title_batch
from raypref.models.prompt_cache import prompt_cache
from raypref.models.scoring import TitleScorer
from raypref.models.title_trie import TitleTrie
from raypref.models.tree_pass import title_logps

LIST = 20
COLUMNS = ("catalog", "model", "titles", "way", "tokens a user", "share", "CPU s a user")


@dataclass(frozen=True)
class Catalog:
    """Titles, and prompts of users that know them."""

    name: str
    titles: list[str]
    prompts: list[str]


def of_source(config: DataConfig, users: int, listed: bool = False) -> Catalog:
    """A data set's titles, and the prompts of its first test users; `listed`: with their 20 candidates."""
    log = read_log(config)
    titles = np.array(log.items["title"].to_pylist(), dtype=object)
    render = PromptRenderer(
        PromptConfig(candidates="listed" if listed else "none"), log.domain, asks_for_liked(log, config)
    )
    rows = next(iter(examples_of(log, config).shards("test"))).slice(0, users).to_pylist()
    shown = [(row["example"], titles[row["history"]], row["history_rating"], titles[row["candidates"]]) for row in rows]
    return Catalog(config.source.kind, titles.tolist(), [render(*row) for row in shown])


def generated(count: int, users: int) -> Catalog:
    """`count` titles made of the generated catalog's words; prompts list 20 of them, as raypref-tiny's did."""
    adjectives, nouns = (sorted(itertools.chain(*words.values())) for words in (MOODS, GENRES))
    pairs = [f"{a} {n}" for a, n in itertools.product(adjectives, nouns)]
    longer = (f"{pair} of the {noun}" for noun, pair in itertools.product(nouns, pairs))
    base = of_source(DataConfig(source=GeneratedSource()), users, listed=True)
    titles = list(itertools.islice(itertools.chain(pairs, longer), count))
    return Catalog(f"generated {count:,}", titles, base.prompts)


class Asked:
    """A model, a catalog's trie, and the keys and values of prompts."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, catalog: Catalog) -> None:
        self.end, self.pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        self.titles = [[*ids, self.end] for ids in encode_titles(tokenizer, catalog.titles)]
        self.prompts = encode_prompts(tokenizer, catalog.prompts)
        self.trie, self.scorer = TitleTrie.of(self.titles, self.end), TitleScorer(model.eval())
        self.tokens = sum(len(title) - 1 for title in self.titles)

    def cache(self) -> DynamicCache:
        """Read the prompts."""
        cache = DynamicCache()
        batch = title_batch(self.prompts, [[[self.end]]] * len(self.prompts), self.pad, self.scorer.rows())
        with torch.no_grad():
            self.scorer(batch, cache)
        return prompt_cache(cache, batch)

    @torch.no_grad()
    def by_lists(self) -> np.ndarray:
        """(B, T) log-probs of all titles, `LIST` at a time."""
        parts = []
        for first in range(0, len(self.titles), LIST):
            part = self.titles[first : first + LIST]
            batch = title_batch(self.prompts, [part] * len(self.prompts), self.pad, self.scorer.rows())
            parts.append(self.scorer(batch).float().numpy())
        return np.concatenate(parts, axis=1)

    def by_trie(self) -> np.ndarray:
        """(B, T) log-probs of all titles."""
        found: np.ndarray = title_logps(self.scorer, self.trie, self.cache(), self.prompts).float().numpy()
        return found

    def best_first(self, k: int, width: int = WIDTH) -> Any:
        """The k likeliest titles of each prompt."""
        return top_titles(self.scorer, self.trie, self.cache(), self.prompts, k, width=width)


def same(top: np.ndarray, scores: np.ndarray) -> bool:
    """Whether `top` are the likeliest by `scores`; ones that differ by rounding alone may change places."""
    best = np.sort(scores)[::-1][: len(top)]
    return len(set(top.tolist())) == len(top) and bool(np.allclose(scores[top], best, rtol=1e-4, atol=1e-3))


def measured(asked: Asked, k: int) -> list[tuple[str, float, float]]:
    """Way, tokens a user and CPU seconds a user; fails where two ways disagree."""
    users = len(asked.prompts)

    def timed(work: Callable[[], Any]) -> tuple[Any, float]:
        began = time.process_time()
        found = work()
        return found, (time.process_time() - began) / users

    scores, lists = timed(asked.by_lists)
    by_trie, trie = timed(asked.by_trie)
    top, search = timed(lambda: asked.best_first(k))
    one, slow = timed(lambda: asked.best_first(k, width=1))
    np.testing.assert_allclose(by_trie, scores, rtol=1e-4, atol=1e-3)
    assert all(same(found, row) for way in (top, one) for found, row in zip(way.titles, scores))
    return [
        ("titles", asked.tokens, lists),
        ("trie", len(asked.trie.inner) - 1, trie),
        (f"best-first, {k}", float(top.computed.mean()), search),
        (f"best-first, {k}, one by one", float(one.computed.mean()), slow),
    ]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=[SHIPPED], help="folders, or raypref-tiny")
    parser.add_argument("--data", type=Path, help="MovieLens 100K's folder")
    parser.add_argument("--generated", type=int, default=0, help="titles of a generated catalog")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--k", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    catalogs = []
    if options.data is not None:
        catalogs.append(of_source(DataConfig(source=MovieLens100KSource(path=options.data)), options.users))
    if options.generated:
        catalogs.append(generated(options.generated, options.users))
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    for catalog, name in itertools.product(catalogs, options.model):
        folder = SHIPPED_FOLDER if name == SHIPPED else Path(name)
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
        asked = Asked(model, backbone.load_tokenizer(folder), catalog)
        for way, tokens, seconds in measured(asked, options.k):
            share = f"{tokens / asked.tokens:.1%}"
            cells = (catalog.name, folder.name if name != SHIPPED else SHIPPED, f"{len(asked.titles):,}", way)
            print("| " + " | ".join((*cells, f"{tokens:,.0f}", share, f"{seconds:.2f}")) + " |", flush=True)


if __name__ == "__main__":
    main()
