"""Titles scored by their trie, against one forward pass a title."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from raypref.data.encoding import encode_prompts, encode_titles
from raypref.models import backbone
from raypref.models.folders import SHIPPED_FOLDER
from raypref.models.title_trie import TitleTrie
from raypref.models.tree_pass import TreePass, title_logps
from tests.models.test_scoring_float32 import PROMPTS, TITLES
from tests.support.families import FAMILIES, make_model, naive
from tests.support.prompts import scored

Tokens = tuple[list[list[int]], list[list[int]], PreTrainedTokenizerBase]
CASES = [*((f, False) for f in FAMILIES), *((f, True) for f in ("llama", "qwen2", "gpt2", "gemma"))]


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    """Prompts, titles (prefixes of others, one token and none, unicode, some twice), and their tokenizer."""
    tokenizer = backbone.load_tokenizer(SHIPPED_FOLDER)
    titles = [[*ids[:24], tokenizer.eos_token_id] for ids in encode_titles(tokenizer, TITLES)]
    assert {1, 2} <= set(map(len, titles))
    assert any(a != b and b[: len(a) - 1] == a[:-1] for a in titles for b in titles if len(a) > 1)
    return [ids[:60] for ids in encode_prompts(tokenizer, PROMPTS)], titles, tokenizer


@pytest.mark.parametrize(("family", "lora"), CASES)
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore:fan_in_fan_out")
def test_scores_are_those_of_each_title_alone(family: str, lora: bool, tokens: Tokens) -> None:
    prompts, titles, tokenizer = tokens
    model = make_model(family, lora, len(tokenizer)).float()
    with torch.no_grad():
        alone = naive(model, prompts, [titles] * len(prompts))
    trie = TitleTrie.of(titles, tokenizer.eos_token_id)
    for nodes in (len(prompts) * len(trie), 7 * len(prompts), len(prompts)):  # at once, in pieces, one at a time
        scorer, cache = scored(model, prompts, tokenizer.eos_token_id, tokenizer.pad_token_id)
        found = title_logps(scorer, trie, cache, prompts, nodes)
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)
        if family not in ("llama", "gpt2"):
            break
    assert alone.std() > 1


def test_each_node_is_computed_once(tokens: Tokens) -> None:
    prompts, titles, tokenizer = tokens
    model = make_model("llama", False, len(tokenizer))
    trie = TitleTrie.of(titles, tokenizer.eos_token_id)
    scorer, cache = scored(model, prompts, tokenizer.eos_token_id, tokenizer.pad_token_id)
    seen: list[int] = []
    model.get_decoder().layers[0].register_forward_hook(
        lambda module, args, output: seen.append(args[0].shape[:2].numel())
    )
    title_logps(scorer, trie, cache, prompts, nodes=40)
    assert sum(seen) == len(prompts) * len(trie.inner)
    assert len(trie.inner) - 1 < 0.9 * sum(len(title) - 1 for title in titles)


def test_nodes_may_come_in_any_order(tokens: Tokens) -> None:
    """As best-first search has them: another order after each prompt, with holes."""
    prompts, titles, tokenizer = tokens
    model = make_model("qwen2", False, len(tokenizer))
    trie = TitleTrie.of(titles, tokenizer.eos_token_id)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    scorer, cache = scored(model, prompts, end, pad)
    preorder = TreePass(scorer, trie, cache, prompts).step(trie.inner[None].repeat(len(prompts), 0))
    scorer, cache = scored(model, prompts, end, pad)
    tree, generator = TreePass(scorer, trie, cache, prompts), torch.Generator().manual_seed(0)
    order = [trie.inner[torch.randperm(len(trie.inner), generator=generator)] for _ in prompts]
    order = [row[trie.depth[row].argsort(kind="stable")] for row in order]
    width = -(-len(trie.inner) // 5) + 1
    for first in range(0, len(trie.inner), width - 1):
        nodes = torch.full((len(prompts), width), -1).numpy()
        for row, own in zip(nodes, order):
            part = own[first : first + width - 1]
            row[1 : len(part) + 1] = part  # a hole comes first
        hidden = tree.step(nodes)
        for b, row in enumerate(nodes):
            at = (row >= 0).nonzero()[0]
            expected = preorder[b, trie.inner.searchsorted(row[at])]
            torch.testing.assert_close(hidden[b, at], expected, rtol=1e-9, atol=1e-9)
    assert tree.computed.tolist() == [len(trie.inner)] * len(prompts)
