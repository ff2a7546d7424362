"""Titles as a trie of tokens: what several titles begin with is one path, computed once for all of them.

A node is a token after those that lead to it; a root stands for the end of a prompt, before any token of a title. A
title ends with the end token, whose node is a leaf: it is predicted and never an input. So a title that another one
begins with is no special case (its leaf is a sibling of the other's next token), nor is one of the end token alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

ROOT = -1


@dataclass(frozen=True)
class TitleTrie:
    """One trie, or several side by side; nodes are numbered in preorder, so that a subtree is a range of numbers."""

    token: np.ndarray
    """(N,) token of each node; -1 at a root."""
    parent: np.ndarray
    """(N,) node before each; -1 at a root."""
    depth: np.ndarray
    """(N,) tokens from the root to each node, its own included; 0 at a root."""
    leaf: np.ndarray
    """(T,) where each title ends; titles of the same tokens share a leaf."""
    roots: np.ndarray
    """(S,) root of each set of titles."""
    title: np.ndarray
    """(N,) title that ends at each node, the first of several, by its number within its set; -1 where none ends."""

    @classmethod
    def of(cls, titles: Sequence[Sequence[int]], end: int) -> TitleTrie:
        """The trie of one set of titles, tokens each; every title ends with the token `end`."""
        return cls.of_sets([titles], end)

    @classmethod
    def of_sets(cls, sets: Sequence[Sequence[Sequence[int]]], end: int) -> TitleTrie:
        """A trie for each set; `leaf` goes on from set to set.

        Raises:
            ValueError: a title does not end with the end token, or has it elsewhere too.
        """
        flat = [(number, *ids) for number, titles in enumerate(sets) for ids in titles]
        place = [index for titles in sets for index in range(len(titles))]
        for ids in flat:
            if len(ids) < 2 or ids[-1] != end or end in ids[1:-1]:
                raise ValueError(f"a title must end with the end token {end} and hold it nowhere else: {ids[1:]}")
        token, parent, depth, title, roots = [], [], [], [], []
        leaf = np.zeros(len(flat), dtype=np.int64)
        path: list[int] = []  # nodes from the root to the last one made
        last: tuple[int, ...] = ()
        for index in sorted(range(len(flat)), key=flat.__getitem__):
            ids = flat[index]
            same = next((n for n, (a, b) in enumerate(zip(last, ids)) if a != b), min(len(last), len(ids)))
            del path[same:]
            for level in range(same, len(ids)):
                parent.append(path[-1] if level else ROOT)
                token.append(ids[level] if level else ROOT)
                depth.append(level)
                title.append(ROOT)
                path.append(len(token) - 1)
                if level == 0:
                    roots.append(path[-1])
            if title[path[-1]] == ROOT:  # sorted stably: the first of several comes first
                title[path[-1]] = place[index]
            leaf[index] = path[-1]
            last = ids
        made = {"token": token, "parent": parent, "depth": depth, "roots": roots, "title": title}
        return cls(leaf=leaf, **{name: np.array(values, dtype=np.int64) for name, values in made.items()})

    def __len__(self) -> int:
        return len(self.token)

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes by parent, and where each parent's begin."""
        order = np.argsort(self.parent, kind="stable")
        return order, np.searchsorted(self.parent[order], np.arange(len(self) + 1))

    @cached_property
    def end(self) -> np.ndarray:
        """(N,) the number after a node's subtree: `a` is above `b`, or is it, where `a <= b < end[a]`."""
        end = np.arange(1, len(self) + 1)
        for node in range(len(self) - 1, -1, -1):  # children before their parent
            if (above := self.parent[node]) != ROOT:
                end[above] = max(end[above], end[node])
        return end

    def children(self, node: int) -> np.ndarray:
        """Nodes that may come after `node`, in the order of their tokens."""
        order, first = self._order
        found: np.ndarray = order[first[node] : first[node + 1]]
        return found

    @cached_property
    def fanout(self) -> np.ndarray:
        """(N,) how many nodes may come after each."""
        _, first = self._order
        return np.diff(first)

    def children_of(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Children of several nodes one after the other, and of each child the index into `nodes` of its parent."""
        order, first = self._order
        counts = self.fanout[nodes]
        owner = np.repeat(np.arange(len(nodes)), counts)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return order[first[nodes][owner] + within], owner

    @cached_property
    def inner(self) -> np.ndarray:
        """Nodes that are inputs, in preorder, roots among them: all but the leaves."""
        return np.flatnonzero(self.fanout)

    def path(self, node: int) -> list[int]:
        """Nodes from the root to `node`, both included."""
        found = [int(node)]
        while self.parent[found[-1]] != ROOT:
            found.append(int(self.parent[found[-1]]))
        return found[::-1]
