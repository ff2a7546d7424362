"""Generation that can say nothing but a title of a set: at each step only tokens that lead on in the set's trie.

The rest is masked before the softmax, so the probabilities of what may be said add up to 1 (De Cao et al. 2021, GENRE,
mask before it likewise). ValidRatio is 1 by construction; how much of the model's own probability was cut away is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache

from raypref.models.scoring import TitleScorer
from raypref.models.title_trie import ROOT, TitleTrie
from raypref.models.tree_pass import NOWHERE, TreePass


@dataclass(frozen=True)
class Said:
    """What each of B prompts is answered with, the likeliest first; with fewer titles than beams the rest is -1."""

    title: np.ndarray
    """(B, beams) number of the title within its set; of several titles with the same tokens the first."""
    logp: np.ndarray
    """(B, beams) its log-prob among what may be said, in nats; -inf where there is none."""
    inside: np.ndarray
    """(B, beams) log of the probability that the model, unconstrained, takes some token of the trie at each step of the
    title's path: what it gives to other tokens there is cut away. NaN where there is none."""


@torch.no_grad()
def constrained_answers(
    scorer: TitleScorer,
    trie: TitleTrie,
    roots: np.ndarray,
    cache: DynamicCache,
    prompts: Sequence[Sequence[int]],
    beams: int = 1,
) -> Said:
    """The `beams` likeliest titles that beam search finds after each prompt; one beam is greedy decoding.

    Likeliest by the sum of log-probs, each over the tokens that the trie allows there; a finished title keeps its place
    among those that go on. Equal ones come in the order of the trie. All prompts go on together, and the beams of one
    share its keys and values.

    Args:
        roots: (B,) root of each prompt's set of titles: of its candidates, or of the one catalog.
        cache: as of `TreePass`.
    """
    tree = TreePass(scorer, trie, cache, prompts)
    count = len(prompts)
    node = np.full((count, beams), NOWHERE)
    node[:, 0] = roots
    logp = np.where(node == NOWHERE, -np.inf, 0.0)
    inside = np.where(node == NOWHERE, np.nan, 0.0)
    while True:
        live = (node != NOWHERE) & (trie.fanout[node] > 0)
        if not live.any():
            title = np.where(node == NOWHERE, ROOT, trie.title[node])
            return Said(title, logp, inside)
        used = live.any(axis=0)  # beams beyond the first few may not be there yet, or all have ended
        hidden = tree.step(np.where(live, node, NOWHERE)[:, used])
        place = np.flatnonzero(live)
        children, owner = trie.children_of(node.ravel()[place])
        row = (np.cumsum(used) - 1)[place % beams] + place // beams * int(used.sum())
        own = tree.next_logps(hidden.flatten(0, 1), row[owner], trie.token[children])
        steps, mass = _allowed(own.double().cpu().numpy(), owner, len(place))
        ended = np.flatnonzero((node != NOWHERE) & ~live)
        # What may come next: each child of each beam that goes on, and each title that has ended.
        node, logp, inside = _best(
            beams,
            np.r_[place[owner], ended] // beams,
            np.r_[children, node.ravel()[ended]],
            np.r_[logp.ravel()[place][owner] + steps, logp.ravel()[ended]],
            np.r_[(inside.ravel()[place] + mass)[owner], inside.ravel()[ended]],
            count,
        )


def _allowed(logps: np.ndarray, owner: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probs (S,) among the tokens that each of `count` owners allows, and the log of what these had in all."""
    greatest = np.full(count, -np.inf)
    np.maximum.at(greatest, owner, logps)
    mass = greatest + np.log(np.bincount(owner, np.exp(logps - greatest[owner]), count))
    return logps - mass[owner], np.minimum(mass, 0.0)


def _best(
    beams: int, prompt: np.ndarray, node: np.ndarray, logp: np.ndarray, inside: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest `beams` of each prompt, (count, beams) each."""
    order = np.lexsort((node, -logp, prompt))
    prompt = prompt[order]
    place = np.arange(len(order)) - np.searchsorted(prompt, prompt)
    order, prompt, place = (a[place < beams] for a in (order, prompt, place))
    nodes, logps, masses = (np.full((count, beams), fill) for fill in (NOWHERE, -np.inf, np.nan))
    nodes[prompt, place], logps[prompt, place], masses[prompt, place] = node[order], logp[order], inside[order]
    return nodes, logps, masses
