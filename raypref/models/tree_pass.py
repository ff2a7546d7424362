"""Prompts continued by a tree of tokens, each node computed once a prompt, from the prompt's keys and values.

The keys and values of a node stay in the cache, and a node sees its prompt and the nodes above it (tree attention, as
SpecInfer verifies its token trees, Miao et al. 2024). In preorder those are told by two comparisons of numbers, so any
nodes may be computed together, in any order that has parents before children or beside them.

Shape letters: B prompts, W tokens of the longest prompt but its last, n nodes of a step, N nodes of the trie, T titles.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from raypref.models import masks
from raypref.models.scoring import CHUNK, TitleScorer, vocabulary_logits
from raypref.models.title_trie import TitleTrie

NODES = 4096  # of all prompts together, in one step of `title_logps`
PIECE = 256  # of one prompt, as each node looks at all of its piece
NOWHERE = -1


class TreePass:
    """What of a trie was computed after each of B prompts."""

    def __init__(self, scorer: TitleScorer, trie: TitleTrie, cache: DynamicCache, prompts: Sequence[Sequence[int]]):
        """`cache`: of all tokens of each prompt but the last, padded on the left (`prompt_cache`); it is written to."""
        self.scorer, self.trie, self.cache = scorer, trie, cache
        self.model = scorer.causal_lm()
        self.device = self.model.device
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max()) - 1
        self.starts = lengths.to(self.device) - 1  # position of each root, which is the prompt's last token
        self.last = torch.tensor([prompt[-1] for prompt in prompts], device=self.device)
        columns = torch.arange(-width, 0, device=self.device) + self.starts[:, None]
        self.columns = columns  # (B, W) position of each column of the prompts, negative where it is padding
        self.nodes = torch.empty(len(prompts), 0, dtype=torch.long, device=self.device)  # (B, columns of the tree)
        self.computed = np.zeros(len(prompts), dtype=np.int64)
        """(B,) nodes computed, roots among them."""
        tables = (trie.token, trie.depth, trie.end)
        self.token, self.depth, self.end = (torch.from_numpy(table).to(self.device) for table in tables)

    @torch.no_grad()
    def step(self, nodes: np.ndarray) -> Tensor:
        """(B, n, width) last hidden states of `nodes` (B, n), which predict what comes after them.

        A node's parent must have been computed, or be in the same step. -1 stands for no node: its states are not read.
        """
        self.computed += (nodes != NOWHERE).sum(axis=1)
        new = torch.from_numpy(nodes).to(self.device)
        known = new.clamp(min=0)
        tokens, positions = self.token[known], self.starts[:, None] + self.depth[known]
        tokens = torch.where(self.depth[known] == 0, self.last[:, None], tokens)  # a root is the prompt's last token
        self.nodes = torch.cat([self.nodes, new], dim=1)
        hidden: Tensor = self.model.get_decoder()(
            input_ids=tokens,
            attention_mask=masks.for_layers(
                self.model.config.get_text_config(), lambda w: self._mask(new, positions, w)
            ),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def keep(self, columns: np.ndarray) -> None:
        """Forget all nodes but those in `columns` of `nodes`, the same for each prompt."""
        kept = torch.from_numpy(columns).to(self.device)
        width = self.columns.shape[1]
        whole = torch.cat([torch.arange(width, device=self.device), width + kept])
        for layer in self.cache.layers:
            states: Any = layer
            states.keys, states.values = states.keys[:, :, whole], states.values[:, :, whole]
        self.nodes = self.nodes[:, kept]

    def next_logps(self, hidden: Tensor, place: np.ndarray, token: np.ndarray) -> Tensor:
        """(S,) log-prob, nats, of each `token` (S,) after the flat place (S,) of `hidden` (places, width)."""
        size = max(1, CHUNK // self.model.config.get_text_config().vocab_size)
        order = np.argsort(place, kind="stable")
        bounds = np.searchsorted(place[order], np.arange(0, len(hidden) + size, size))
        parts = []
        for first, (a, b) in zip(range(0, len(hidden), size), itertools.pairwise(bounds)):
            logits = vocabulary_logits(self.model, hidden[first : first + size])
            of = torch.from_numpy(place[order[a:b]] - first).to(self.device)
            label = torch.from_numpy(token[order[a:b]]).to(self.device)
            parts.append(logits[of, label] - torch.logsumexp(logits, dim=-1)[of])
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        return torch.cat(parts)[torch.from_numpy(back).to(self.device)]

    def _mask(self, new: Tensor, positions: Tensor, window: int | None) -> Tensor:
        """(B, 1, n, W + columns of the tree): a node sees its prompt, the nodes above it and itself."""
        nodes, of = self.nodes[:, None], new[:, :, None]
        above = (nodes != NOWHERE) & (nodes <= of) & (of < self.end[nodes.clamp(min=0)])
        above[:, :, -new.shape[1] :] |= torch.eye(
            new.shape[1], dtype=torch.bool, device=self.device
        )  # a softmax of none is NaN
        prompt = (self.columns >= 0)[:, None].expand(-1, new.shape[1], -1)
        seen = torch.cat([prompt, above], dim=2)
        if window is not None:
            columns = torch.cat([self.columns, self.starts[:, None] + self.depth[self.nodes.clamp(min=0)]], dim=1)
            distance = positions[:, :, None] - columns[:, None]
            seen = seen & (distance < window)
        return self.scorer.as_attention_mask(seen[:, None])


@torch.no_grad()
def title_logps(
    scorer: TitleScorer, trie: TitleTrie, cache: DynamicCache, prompts: Sequence[Sequence[int]], nodes: int = NODES
) -> Tensor:
    """(B, T) summed log-probs of each title of the one set in `trie` after each prompt, in nats, at least float32.

    The trie goes through the model in preorder, a piece at a time; from piece to piece only the nodes above the next
    one are kept, so attention stays as long as a prompt, a title and a piece.

    Args:
        cache: as of `TreePass`.
        nodes: that go through the model at once, all prompts together.
    """
    tree, inner = TreePass(scorer, trie, cache, prompts), trie.inner
    size = max(1, min(PIECE, nodes // len(prompts)))
    logps: Tensor | None = None
    kept = np.empty(0, dtype=np.int64)  # nodes in the cache
    for first in range(0, len(inner), size):
        piece = inner[first : first + size]
        above = np.flatnonzero(np.isin(kept, trie.path(int(piece[0]))))
        tree.keep(above)
        hidden = tree.step(np.broadcast_to(piece, (len(prompts), len(piece))).copy())
        kept = np.concatenate([kept[above], piece])
        children, owner = trie.children_of(piece)
        place = (np.arange(len(prompts))[:, None] * len(piece) + owner).ravel()
        token = np.broadcast_to(trie.token[children], (len(prompts), len(children))).ravel()
        found = tree.next_logps(hidden.flatten(0, 1), place, token).view(len(prompts), -1)
        if logps is None:
            logps = torch.zeros(len(prompts), len(trie), dtype=found.dtype, device=found.device)
        logps[:, torch.from_numpy(children).to(found.device)] = found
    assert logps is not None
    for level in range(1, int(trie.depth.max()) + 1):
        here = np.flatnonzero(trie.depth == level)
        at, before = (torch.from_numpy(a).to(logps.device) for a in (here, trie.parent[here]))
        logps[:, at] += logps[:, before]
    return logps[:, torch.from_numpy(trie.leaf).to(logps.device)]
