"""How prompts and their titles are laid out as rows of tokens.

A document is `prompt | title_0 | title_1 | ...`: a title's positions go on from the prompt's end, as if it stood there
alone. A row holds one document and padding, or, packed, as many documents as there are, one after the other.

Shape letters: R rows, L tokens of a row, B documents (prompts), C titles of each, P places that predict, S scored
tokens of all documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor


class Rows(NamedTuple):
    """What rows look like."""

    packed: bool = False
    """All documents in one row, without padding between them; else a row each."""
    multiple: int = 1
    """Rows are padded to a multiple of so many tokens."""


APART = Rows()


class Span(NamedTuple):
    """Where a document lies: tokens [start, end) of a row, its titles from `titles` on."""

    row: int
    start: int
    titles: int
    end: int


@dataclass
class TitleBatch:
    """Token tables of B prompts with C titles each."""

    input_ids: Tensor
    """(R, L) tokens; a title's end token is predicted but never an input."""
    positions: Tensor
    """(R, L) position ids; each title's go on from the end of its prompt."""
    begins: Tensor
    """(R, L) where in the row a token's document begins; padding is a document too."""
    prompt_ends: Tensor
    """(R, L) where the prompt of its document ends."""
    title_begins: Tensor
    """(R, L) where the title that it belongs to begins; for a prompt's token, where the document does."""
    places: Tensor
    """(P,) flat indices into (R, L) whose next token is scored for some title, each once: the last token of each prompt
    and all tokens of titles."""
    place: Tensor
    """(S,) index into `places` of each scored token: where it is predicted."""
    label: Tensor
    """(S,) each scored token."""
    title: Tensor
    """(S,) flat index into (B, C) of the title that each scored token belongs to."""
    lengths: Tensor
    """(B, C) scored tokens of each title, end token included."""
    spans: tuple[Span, ...]
    """Where each document lies, by number."""
    host_place: np.ndarray
    """`place` on the host, so that cutting by it neither waits for a device nor depends on a tensor's content."""

    def to(self, device: torch.device) -> TitleBatch:
        moved = {
            f.name: ahead(value, device) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        return TitleBatch(**moved, spans=self.spans, host_place=self.host_place)

    @property
    def tokens(self) -> int:
        """Tokens that are no padding."""
        return sum(span.end - span.start for span in self.spans)

    @property
    def padding(self) -> float:
        """Share of the tokens that is padding."""
        return 1 - self.tokens / self.input_ids.numel()


def ahead(value: Tensor, device: torch.device) -> Tensor:
    """Move a tensor of the host so that nobody waits: out of pinned memory, while the device still computes."""
    return value if device.type == "cpu" else value.pin_memory().to(device, non_blocking=True)


def document_length(prompt: int, titles: Sequence[int]) -> int:
    """Tokens of a document with a prompt of so many tokens and titles of so many, end tokens included."""
    return prompt + sum(titles) - len(titles)


def title_batch(
    prompts: Sequence[Sequence[int]],
    titles: Sequence[Sequence[Sequence[int]]],
    pad_id: int,
    shape: Rows = APART,
) -> TitleBatch:
    """Lay out documents; every prompt has the same number of titles, each ending with the end token."""
    packed, width = shape.packed, len(titles[0])
    ends = np.cumsum([document_length(len(p), [len(t) for t in ts]) for p, ts in zip(prompts, titles)])
    sizes = np.diff(ends, prepend=0)
    rows, longest = (1, int(ends[-1])) if packed else (len(prompts), int(sizes.max()))
    length = -(-longest // shape.multiple) * shape.multiple
    input_ids = np.full(rows * length, pad_id, dtype=np.int64)
    positions = np.zeros(rows * length, dtype=np.int64)
    begins, prompt_ends, title_begins = np.zeros((3, rows * length), dtype=np.int32)
    places: list[int] = []
    place: list[int] = []
    label: list[int] = []
    title: list[int] = []
    spans: list[Span] = []
    for b, (prompt, prompt_titles) in enumerate(zip(prompts, titles)):
        n = len(prompt)
        start = int(ends[b] - sizes[b]) if packed else b * length
        end = start + n
        row = start // length
        first = start - row * length
        input_ids[start:end], positions[start:end] = prompt, np.arange(n)
        after_prompt = len(places)  # the prompt's last token predicts the first token of all titles
        places.append(end - 1)
        for c, ids in enumerate(prompt_titles):
            inputs = len(ids) - 1
            input_ids[end : end + inputs] = ids[:-1]
            positions[end : end + inputs] = np.arange(n, n + inputs)
            title_begins[end : end + inputs] = end - row * length
            place += [after_prompt, *range(len(places), len(places) + inputs)]
            places += range(end, end + inputs)
            label += ids
            title += [b * width + c] * len(ids)
            end += inputs
        begins[start:end], prompt_ends[start:end], title_begins[start : start + n] = first, first + n, first
        spans.append(Span(row, first, first + n, end - row * length))
    for span in spans[-1:] if packed else spans:
        padding = slice(span.row * length + span.end, (span.row + 1) * length)
        begins[padding] = prompt_ends[padding] = title_begins[padding] = span.end
    lengths = [[len(ids) for ids in prompt_titles] for prompt_titles in titles]
    by_token = (
        torch.from_numpy(a.reshape(rows, length)) for a in (input_ids, positions, begins, prompt_ends, title_begins)
    )
    by_place = (torch.tensor(a, dtype=torch.long) for a in (places, place, label, title, lengths))
    tables: list[Tensor] = [*by_token, *by_place]
    names = (field.name for field in fields(TitleBatch) if field.name not in ("spans", "host_place"))
    return TitleBatch(**dict(zip(names, tables)), spans=tuple(spans), host_place=np.array(place))


def all_candidates(table: pa.Table, pad_id: int, rows: Rows = APART) -> TitleBatch:
    """Prompts with the titles of all their candidates, in the order of the prompt."""
    return title_batch(table["prompt_ids"].to_pylist(), table["title_ids"].to_pylist(), pad_id, rows)
