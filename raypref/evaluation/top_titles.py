"""The likeliest titles of a catalog, exactly, without scoring all: best-first search over its trie.

A prefix's log-prob bounds that of all titles below it, as no token has a log-prob above 0. So nodes are computed the
likeliest first, and when the k-th best title found is likelier than all that is left, nothing can take its place
(uniform-cost search; Meister et al. 2020 for decoding).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import DynamicCache

from raypref.models.scoring import TitleScorer
from raypref.models.title_trie import ROOT, TitleTrie
from raypref.models.tree_pass import NOWHERE, TreePass

WIDTH = 32  # nodes of a prompt that go through the model at once: the last ones may turn out not to have been needed


@dataclass
class _Search:
    """What is known of one prompt's titles."""

    wanted: int
    open: list[tuple[float, int]] = field(default_factory=list)
    """Heap of (-log-prob, node) that are not computed."""
    best: list[tuple[float, int]] = field(default_factory=list)
    """Heap of (log-prob, -title), the worst of the best `wanted` first."""

    def bound(self) -> float:
        """What a title must reach to be among the best."""
        return self.best[0][0] if len(self.best) == self.wanted else -np.inf

    def offer(self, logp: float, title: int) -> None:
        heapq.heappush(self.best, (logp, -title))
        if len(self.best) > self.wanted:
            heapq.heappop(self.best)

    def next(self, most: int) -> list[tuple[float, int]]:
        """Up to `most` of the likeliest nodes that may still lead to one of the best; equal ones may, by a tie."""
        found: list[tuple[float, int]] = []
        while self.open and len(found) < most and -self.open[0][0] >= self.bound():
            found.append(heapq.heappop(self.open))
        return found


@dataclass(frozen=True)
class Top:
    """The best titles of each prompt."""

    titles: list[np.ndarray]
    """Of each prompt numbers of titles, the likeliest first, equal ones by number."""
    logps: list[np.ndarray]
    """Of each their summed log-probs, nats."""
    computed: np.ndarray
    """(B,) nodes that went through the model after each prompt's last token."""


@torch.no_grad()
def top_titles(
    scorer: TitleScorer,
    trie: TitleTrie,
    cache: DynamicCache,
    prompts: Sequence[Sequence[int]],
    k: int,
    without: Sequence[np.ndarray] | None = None,
    width: int = WIDTH,
) -> Top:
    """The k likeliest titles of the one set in `trie` after each prompt: those that scoring all would put first.

    Args:
        cache: as of `TreePass`.
        without: of each prompt numbers of titles to leave out.
        width: nodes of a prompt in one step; 1 computes the fewest, and takes the most steps.

    Returns:
        fewer than k titles where the set has no more.
    """
    tree = TreePass(scorer, trie, cache, prompts)
    ends = np.argsort(trie.leaf, kind="stable")  # titles by leaf
    first = np.searchsorted(trie.leaf[ends], np.arange(len(trie) + 1))
    left_out = [set(map(int, own)) for own in without] if without is not None else [set()] * len(prompts)
    searches = [_Search(min(k, len(trie.leaf) - len(out)), [(0.0, int(trie.roots[0]))]) for out in left_out]
    while True:
        chosen = [search.next(width) if search.wanted > 0 else [] for search in searches]
        most = max(map(len, chosen))
        if most == 0:
            break
        nodes = np.full((len(prompts), most), NOWHERE)
        for row, own in zip(nodes, chosen):
            row[: len(own)] = [node for _, node in own]
        hidden = tree.step(nodes)
        place = np.flatnonzero(nodes.ravel() != NOWHERE)
        children, owner = trie.children_of(nodes.ravel()[place])
        logps = tree.next_logps(hidden.flatten(0, 1), place[owner], trie.token[children]).double().cpu().numpy()
        before = np.array([-cost for own in chosen for cost, _ in own])
        sums = (logps + before[owner]).tolist()
        for prompt, child, logp in zip((place // most)[owner].tolist(), children.tolist(), sums):
            search = searches[prompt]
            if trie.title[child] == ROOT:
                heapq.heappush(search.open, (-logp, child))
                continue
            for title in ends[first[child] : first[child + 1]].tolist():
                if title not in left_out[prompt]:
                    search.offer(logp, title)
    ordered = [sorted(search.best, key=lambda found: (-found[0], -found[1])) for search in searches]
    return Top(
        [np.array([-title for _, title in best], dtype=np.int64) for best in ordered],
        [np.array([logp for logp, _ in best]) for best in ordered],
        tree.computed - 1,
    )
