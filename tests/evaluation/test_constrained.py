"""Constrained generation: only titles of the set, the likeliest ones, and what was cut away."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from raypref.evaluation.constrained import Said, constrained_answers
from raypref.evaluation.decoding import generate
from raypref.evaluation.top_titles import top_titles
from raypref.models import backbone
from raypref.models.title_trie import TitleTrie
from raypref.models.tree_pass import title_logps
from tests.support.families import END, PAD, VOCABULARY, make_model
from tests.support.prompts import scored

Sets = list[list[list[int]]]


def random_sets(rng: np.random.Generator, count: int, most: int = 12, alphabet: int = 6, longest: int = 5) -> Sets:
    """Sets of titles that share beginnings; some are of the end token alone, some there twice."""
    return [
        [
            [*rng.integers(2, 2 + alphabet, rng.integers(0, longest)).tolist(), END]
            for _ in range(rng.integers(1, most + 1))
        ]
        for _ in range(count)
    ]


def random_prompts(rng: np.random.Generator, count: int, longest: int = 12) -> list[list[int]]:
    return [rng.integers(2, VOCABULARY, rng.integers(1, longest + 1)).tolist() for _ in range(count)]


def answers(model: Any, sets: Sets, prompts: list[list[int]], beams: int = 1) -> Said:
    scorer, cache = scored(model, prompts, END, PAD)
    trie = TitleTrie.of_sets(sets, END)
    return constrained_answers(scorer, trie, trie.roots, cache, prompts, beams)


@torch.no_grad()
def by_hand(model: Any, prompt: list[int], titles: list[list[int]], beams: int) -> list[tuple[float, float, list[int]]]:
    """Beam search over lists of tokens, a forward pass for each step of each beam: log-prob, inside, tokens."""
    kept: list[tuple[float, float, list[int]]] = [(0.0, 0.0, [])]
    while not all(tokens[-1:] == [END] for _, _, tokens in kept):
        found = [beam for beam in kept if beam[2][-1:] == [END]]
        for logp, inside, tokens in (beam for beam in kept if beam[2][-1:] != [END]):
            allowed = sorted({t[len(tokens)] for t in titles if t[: len(tokens)] == tokens})
            logits = model(input_ids=torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[0, -1]
            masked = torch.full_like(logits, -torch.inf)
            masked[allowed] = logits[allowed]
            cut = float(logits.softmax(0)[allowed].sum().log())
            found += [(logp + float(masked.log_softmax(0)[t]), inside + cut, [*tokens, t]) for t in allowed]
        kept = sorted(found, key=lambda beam: -beam[0])[:beams]
    return kept


@pytest.mark.parametrize(("family", "lora"), [("llama", False), ("qwen2", True), ("gpt2", False), ("gemma2", False)])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore:fan_in_fan_out")
def test_it_finds_what_a_search_by_hand_finds(family: str, lora: bool, beams: int) -> None:
    rng = np.random.default_rng(0)
    sets, prompts = random_sets(rng, 12), random_prompts(rng, 12)
    model = make_model(family, lora)
    said = answers(model, sets, prompts, beams)
    for b, (prompt, titles) in enumerate(zip(prompts, sets)):
        expected = by_hand(model, prompt, titles, beams)
        there = said.title[b] >= 0
        assert there.sum() == len(expected)
        assert [titles[title] for title in said.title[b, there]] == [tokens for _, _, tokens in expected]
        np.testing.assert_allclose(said.logp[b, there], [logp for logp, _, _ in expected], atol=1e-6)
        np.testing.assert_allclose(said.inside[b, there], [inside for _, inside, _ in expected], atol=1e-6)


def test_all_beams_of_a_small_set_share_out_the_whole_probability() -> None:
    """Of a set with fewer titles than beams all are said, and their probabilities among themselves add up to 1."""
    rng = np.random.default_rng(1)
    sets, prompts = random_sets(rng, 20, most=6), random_prompts(rng, 20)
    said = answers(make_model("llama", False), sets, prompts, beams=8)
    for titles, found, logp in zip(sets, said.title, said.logp):
        assert sorted(titles[t] for t in found[found >= 0]) == sorted(map(list, set(map(tuple, titles))))
        assert np.exp(logp).sum() == pytest.approx(1)
    assert (np.diff(np.where(np.isinf(said.logp), -99, said.logp), axis=1) <= 0).all()


def check_valid(model: Any, rng: np.random.Generator, count: int) -> int:
    """Answers to random prompts over random sets; how many there were, all of them valid."""
    sets, prompts = random_sets(rng, count), random_prompts(rng, count, longest=4)
    said = answers(model, sets, prompts, beams=int(rng.integers(1, 3)))
    assert (said.title[:, 0] >= 0).all()
    for titles, found in zip(sets, said.title):
        assert (found < len(titles)).all()
        texts = [tuple(titles[title]) for title in found if title >= 0]
        assert len(set(texts)) == len(texts)
    assert (said.inside[said.title >= 0] <= 0).all()
    return int((said.title >= 0).sum())


def test_no_answer_is_invalid() -> None:
    rng, model = np.random.default_rng(2), make_model("llama", False).float()
    assert sum(check_valid(model, rng, 1000) for _ in range(2)) >= 2000


@pytest.mark.measures
def test_no_answer_of_100_000_is_invalid() -> None:
    rng, models = np.random.default_rng(3), itertools.cycle([make_model(f, False).float() for f in ("llama", "gpt2")])
    total = 0
    while total < 100_000:
        total += check_valid(next(models), rng, 4000)


def test_what_is_generated_without_constraint_does_not_change() -> None:
    """To the bit: tokens, and the logits that chose them."""
    tokenizer: PreTrainedTokenizerBase = backbone.train_tokenizer(["Hill\n", "Lake\n", "東京\n"], 280)
    model = make_model("llama", False, len(tokenizer)).float()
    rng = np.random.default_rng(4)
    prompts = [rng.integers(3, 270, n).tolist() for n in (3, 9, 14)]

    def free() -> tuple[Any, list[Any]]:
        logits: list[Any] = []
        handle = model.register_forward_hook(lambda module, args, output: logits.append(output.logits.clone()))
        _, cache = scored(model, prompts, tokenizer.eos_token_id, tokenizer.pad_token_id)
        output = generate(model, tokenizer, prompts, 6, cache)
        handle.remove()
        return output, logits

    scored(model, prompts, tokenizer.eos_token_id, tokenizer.pad_token_id)
    before = free()
    sets = [[[5, 6, tokenizer.eos_token_id], [5, tokenizer.eos_token_id]]] * 3
    scorer, cache = scored(model, prompts, tokenizer.eos_token_id, tokenizer.pad_token_id)
    trie = TitleTrie.of_sets(sets, tokenizer.eos_token_id)
    constrained_answers(scorer, trie, trie.roots, cache, prompts, 2)
    after = free()
    assert torch.equal(before[0], after[0])
    assert len(before[1]) == len(after[1]) > 3
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1]))


@pytest.mark.parametrize("width", [1, 4, 50])
def test_the_top_is_that_of_all_scores(width: int) -> None:
    rng, model = np.random.default_rng(5), make_model("llama", False)
    (titles,) = random_sets(rng, 1, most=400, alphabet=9, longest=6)
    titles += [titles[0], [*titles[1][:-1], 7, 7, END]]  # one twice, one that another begins
    prompts = random_prompts(rng, 6)
    trie = TitleTrie.of(titles, END)
    scorer, cache = scored(model, prompts, END, PAD)
    scores = title_logps(scorer, trie, cache, prompts).numpy()
    without = [rng.choice(len(titles), 30 * (b % 2), replace=False) for b in range(6)]
    for k in (1, 7, len(titles) + 5):
        scorer, cache = scored(model, prompts, END, PAD)
        top = top_titles(scorer, trie, cache, prompts, k, without, width)
        for b, (found, logps) in enumerate(zip(top.titles, top.logps)):
            left = np.setdiff1d(np.arange(len(titles)), without[b])
            rounded = np.round(scores[b], 9)  # equal tokens have equal scores but for rounding
            expected = left[np.lexsort((left, -rounded[left]))][:k]
            assert found.tolist() == expected.tolist()
            np.testing.assert_allclose(logps, scores[b, expected], atol=1e-9)
        if k == 1 and width == 1:
            assert (top.computed < 0.6 * (len(trie.inner) - 1)).all()
