"""The trie says every title of its sets, each once, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from raypref.data.encoding import encode_titles
from raypref.models import backbone
from raypref.models.folders import SHIPPED_FOLDER
from raypref.models.title_trie import ROOT, TitleTrie

END = 1
TITLES = [
    "",
    "S",
    "Star",
    "Star Wars",
    "Star Wars",
    "Star Wars: Episode V",
    "Amélie",
    "Ame\u0301lie",
    "東京物語",
    "🎬",
    "Ночь",
]
ids = st.lists(st.integers(2, 5), max_size=5).map(lambda tokens: [*tokens, END])
sets = st.lists(st.lists(ids, min_size=1, max_size=12), min_size=1, max_size=4)


def said(trie: TitleTrie, root: int) -> dict[tuple[int, ...], int]:
    """All that can be said from a root, by walking, and the title that ends there."""
    found, todo = {}, [(root, ())]
    while todo:
        node, before = todo.pop()
        if trie.title[node] != ROOT:
            assert not trie.fanout[node]
            found[before] = int(trie.title[node])
        todo += [(int(child), (*before, int(trie.token[child]))) for child in trie.children(node)]
    return found


@settings(max_examples=200, deadline=None)
@given(sets)
def test_it_says_the_titles_of_each_set_and_nothing_else(given_sets: list[list[list[int]]]) -> None:
    trie = TitleTrie.of_sets(given_sets, END)
    assert len(trie.roots) == len(given_sets)
    for root, titles in zip(trie.roots, given_sets):
        first = {tuple(title): number for number, title in reversed(list(enumerate(titles)))}
        assert said(trie, int(root)) == first
    flat = [title for titles in given_sets for title in titles]
    for leaf, title in zip(trie.leaf, flat):
        assert [int(trie.token[node]) for node in trie.path(leaf)[1:]] == title
        assert trie.depth[leaf] == len(title)
    prefixes = {(n, *t[:i]) for n, titles in enumerate(given_sets) for t in titles for i in range(len(t) + 1)}
    assert len(trie) == len(prefixes)  # what titles share is there once
    assert len(trie.inner) == len({p for p in prefixes if p[-1] != END or len(p) == 1})


@settings(max_examples=100, deadline=None)
@given(sets)
def test_numbers_go_in_preorder(given_sets: list[list[list[int]]]) -> None:
    trie = TitleTrie.of_sets(given_sets, END)
    for node in range(1, len(trie)):  # whatever comes next goes on from where one is, or further up
        assert trie.parent[node] == ROOT or trie.parent[node] in trie.path(node - 1)
    for node in range(len(trie)):
        below = [other for other in range(len(trie)) if node in trie.path(other)]
        assert below == list(range(node, int(trie.end[node])))
    nodes = trie.inner[::-1]
    children, owner = trie.children_of(nodes)
    assert [int(c) for n in nodes for c in trie.children(n)] == children.tolist()
    assert (trie.parent[children] == nodes[owner]).all()


@pytest.mark.parametrize("kind", ["shipped", "trained", "joined"])
def test_every_tokenizer_s_titles(kind: str) -> None:
    tokenizer: PreTrainedTokenizerBase
    if kind == "shipped":
        tokenizer = backbone.load_tokenizer(SHIPPED_FOLDER)
    else:
        tokenizer = backbone.train_tokenizer([f"{t}\n" for t in TITLES] * 3, 400, join=kind == "joined")
    tokens = [[*title, tokenizer.eos_token_id] for title in encode_titles(tokenizer, TITLES)]
    trie = TitleTrie.of(tokens, tokenizer.eos_token_id)
    assert [trie.title[leaf] for leaf in trie.leaf[[0, 1, 2, 3, 4, 5]]] == [
        0,
        1,
        2,
        3,
        3,
        5,
    ]  # "Star Wars" is there twice
    texts = tokenizer.batch_decode([list(path) for path in said(trie, 0)], skip_special_tokens=True)
    assert {t.strip() for t in texts} == {t if t != "Ame\u0301lie" else "Amélie" for t in TITLES}


@pytest.mark.parametrize("title", [[], [2, 3], [2, END, 3, END]])
def test_a_title_ends_with_the_end_token_and_has_it_nowhere_else(title: list[int]) -> None:
    with pytest.raises(ValueError, match="must end with the end token"):
        TitleTrie.of([[2, END], title], END)
