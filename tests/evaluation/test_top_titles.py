"""The exact top 20 by best-first search, against scoring every title, at a tenth of the tokens."""

from __future__ import annotations

import functools
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from raypref.config.data import DataConfig
from raypref.config.sources import MovieLens100KSource
from raypref.evaluation.top_titles import top_titles
from raypref.models import backbone
from raypref.models.folders import SHIPPED_FOLDER
from tests.support.families import make_model
from tests.support.processes import CHECKOUT

SCRIPT = runpy.run_path(str(CHECKOUT / "benchmarks" / "top_titles.py"))
Asked, Catalog, generated, of_source = (SCRIPT[name] for name in ("Asked", "Catalog", "generated", "of_source"))
REAL = Path(os.environ.get("RAYPREF_DATA", "")) / "ml-100k"
USERS, K, STEPS = 2, 20, 300


@functools.cache
def catalog(name: str) -> Any:
    if name == "generated":
        return generated(10_000, USERS)
    if not (REAL / "u.item").is_file():
        pytest.skip("MovieLens 100K does not lie in $RAYPREF_DATA")
    return of_source(DataConfig(source=MovieLens100KSource(path=REAL)), USERS)


def asked(model: str, name: str) -> Any:
    """raypref-tiny with its tokenizer; or another family, with a tokenizer whose tokens may span words, that has read
    which titles are popular.
    """
    of = catalog(name)
    if model == "raypref-tiny":
        tiny: Any = AutoModelForCausalLM.from_pretrained(SHIPPED_FOLDER)
        return Asked(tiny, backbone.load_tokenizer(SHIPPED_FOLDER), of)
    tokenizer = backbone.train_tokenizer([f"{title}\n" for title in of.titles], 1500, join=True)
    cut = Catalog(of.name, of.titles, [prompt[-60:] for prompt in of.prompts])  # as long as its positions allow
    found = Asked(make_model("qwen2", False, len(tokenizer)).float(), tokenizer, cut)
    learn(found, tokenizer.encode("Answer:\n"))
    return found


def learn(of: Any, before: list[int]) -> None:
    """Teach a model to answer with titles, the n-th as often as 1 / n."""
    rng, model = np.random.default_rng(0), of.scorer.causal_lm()
    weights = 1 / np.arange(1, len(of.titles) + 1)
    drawn = rng.choice(len(of.titles), (STEPS, 48), p=weights / weights.sum())
    longest = len(before) + max(map(len, of.titles))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for step in drawn:
        rows = [[*before, *of.titles[title]] for title in step]
        ids = torch.tensor([row + [of.pad] * (longest - len(row)) for row in rows])
        there = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
        loss = model(input_ids=ids, attention_mask=there.long(), labels=ids.masked_fill(~there, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.measures
@pytest.mark.parametrize("name", ["generated", "ml-100k"])
@pytest.mark.parametrize("model", ["raypref-tiny", "another"])
def test_the_top_20_are_those_of_all_titles_at_a_tenth_of_the_tokens(model: str, name: str) -> None:
    of = asked(model, name)
    assert len(of.titles) == {"generated": 10_000, "ml-100k": 1_682}[name]
    scores = of.by_trie().astype(np.float64)
    for ids, row in zip(of.prompts, scores):  # the trie's scores are those of titles alone
        for title in (0, 7, len(of.titles) - 1):
            with torch.no_grad():
                logits = of.scorer.causal_lm()(torch.tensor([[*ids, *of.titles[title]]])).logits[0, len(ids) - 1 : -1]
            alone = logits.log_softmax(-1).gather(1, torch.tensor(of.titles[title])[:, None]).sum()
            assert row[title] == pytest.approx(float(alone), rel=1e-5)
    top = of.best_first(K)
    for found, logps, row in zip(top.titles, top.logps, scores):
        best = np.argsort(-row, kind="stable")[:K]
        np.testing.assert_allclose(logps, row[best], rtol=1e-5)
        clear = np.diff(row[best]) < -1e-4  # places of titles that differ by more than rounding
        assert set(found.tolist()) == set(best.tolist()) or not clear.all()
        for place in range(K):
            apart = (place == 0 or clear[place - 1]) and (place == K - 1 or clear[place])
            assert not apart or found[place] == best[place]
    assert top.computed.mean() <= 0.1 * of.tokens
    one = top_titles(of.scorer, of.trie, of.cache(), of.prompts, K, width=1)
    assert (one.computed <= top.computed).all()
