"""Whether what a data set says fits: prompts into their tokens, prompts with titles into a model's positions.

Told from the titles' tokens, without writing a prompt, so that it is known before anything is tokenized or trained;
only examples that come near a limit are written and counted exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raypref.data.encoding import encode_titles
from raypref.data.prompts import RATING
from raypref.data.reading import cut_title
from raypref.data.tokens import ExampleTokenizer
from raypref.errors import UserError

SLACK = 16  # tokens by which a told length may be short of the true one
COUNTED = 4096  # examples near a limit that are counted exactly; of more, the rest as told
DOUBLES = 8  # tokens that tell cut titles apart which have become alike
SPARE = 4  # positions beyond the longest title that an answer may take (`evaluation.decoding.SPARE_TOKENS`)
CUTS = (200, 150, 120, 100, 80, 60, 50, 40, 30, 20)  # characters that titles may be cut to
MOST_LEFT_OUT = 0.1  # share of titles past which leaving out is not advised
SHOWN = 60  # characters of a title in a message

Read = Callable[[], Iterable[tuple[pa.Table, bool]]]
"""Gives tables of examples, each with whether it asks for the least fitting item, as often as it is called."""


@dataclass(frozen=True)
class Lengths:
    """Of a data set's examples, in tokens."""

    examples: int
    longest: int
    """Longest prompt, after it has lost its oldest history lines."""
    bare: int
    """Longest prompt without history: its frame and its candidates."""
    too_long: int
    """Examples whose prompt passes `prompt.max_tokens` without any history."""
    title: int
    """Longest title, end token included."""
    positions: int | None
    """Of the model; None: no limit."""
    beyond: int
    """Examples that ask for more positions than the model has."""

    @property
    def asked(self) -> int:
        """Positions that the longest prompt and the longest title ask for."""
        return self.longest + self.title + SPARE


class Ruler:
    """Measures examples for one tokenizer and one limit."""

    def __init__(self, tokenize: ExampleTokenizer, positions: int | None) -> None:
        self.tokenize, self.positions = tokenize, positions
        renderer, tokenizer = tokenize.renderer, tokenize.tokenizer
        self.title_tokens = np.array([len(ids) for ids in tokenize.title_ids.to_pylist()], dtype=np.int64)
        self.line_tokens = self.title_tokens + tokenize.beside  # its line break in place of the end token
        frames = [
            renderer(t, [], [], [], least=least) for t in range(len(renderer.templates)) for least in (False, True)
        ]
        self.frame = max(map(len, tokenize.encode(frames)))
        self.rating = len(encode_titles(tokenizer, [f"{RATING}5"])[0]) if renderer.config.ratings else 0

    def told(self, table: pa.Table, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) tokens of each prompt without its history, and of its history, where titles take `lines` tokens."""
        bare = self.frame + _sums(table["candidates"], lines)
        return bare, _sums(table["history"], lines + self.rating)

    def measure(self, read: Read) -> Lengths:
        """Over all examples."""
        most, title = self.tokenize.max_tokens, int(self.title_tokens.max(initial=0))
        room = None if self.positions is None else self.positions - title - SPARE
        examples = longest = widest = too_long = beyond = counted = 0
        for table, least in read():
            bare, history = self.told(table, self.line_tokens)
            whole = np.where(bare + history <= most, bare + history, np.maximum(bare, most))
            near = bare + SLACK > most
            if room is not None and room < most:
                near |= whole + SLACK > room
            for i in np.flatnonzero(near)[: max(0, COUNTED - counted)]:
                bare[i], whole[i] = self.tokenize.lengths(table.slice(int(i), 1), least)
                counted += 1
            examples += table.num_rows
            longest, widest = max(longest, int(whole.max(initial=0))), max(widest, int(bare.max(initial=0)))
            too_long += int((bare > most).sum())
            beyond += 0 if room is None else int((whole > room).sum())
        return Lengths(examples, min(longest, most), widest, too_long, title, self.positions, beyond)


def check_lengths(ruler: Ruler, read: Read) -> Lengths:
    """What there is of prompts and titles.

    Raises:
        UserError: an example has no room even without history, or asks for positions that the model has not. Its hint
            names settings with which all examples fit.
    """
    found = ruler.measure(read)
    if found.too_long:
        options = _shorter(ruler, read)
        if ruler.positions is None or found.bare + found.title + SPARE <= ruler.positions:
            options.append(f"--prompt.max-tokens {found.bare}")
        raise UserError(
            f"{found.too_long:,} of {found.examples:,} examples have candidates that alone take more tokens than a "
            f"prompt may have, up to {found.bare:,} of {ruler.tokenize.max_tokens:,}; {_longest_title(ruler)}",
            where="prompt.max_tokens",
            hint=_hint(options, "draw fewer candidates (data.candidates), or take a model with more positions"),
        )
    if found.beyond:
        assert ruler.positions is not None
        room = ruler.positions - found.title - SPARE
        options = [f"--prompt.max-tokens {room}"] if found.bare <= room and room >= 64 else []
        options = options or _shorter(ruler, read)
        raise UserError(
            f"{found.beyond:,} of {found.examples:,} examples ask for more positions than the model has, up to "
            f"{found.asked:,} of {ruler.positions:,}: a prompt of {found.longest:,} tokens and a title of "
            f"{found.title:,}; {_longest_title(ruler)}",
            where="model.path, prompt.max_tokens",
            hint=_hint(options, "take a model with more positions, or fewer candidates (data.candidates)"),
        )
    return found


def _hint(options: list[str], otherwise: str) -> str:
    return f"run it with {' or with '.join(options)}" if options else otherwise


def _longest_title(ruler: Ruler) -> str:
    longest = int(ruler.title_tokens.argmax())
    title = str(ruler.tokenize.plain_titles[longest])
    shown = title if len(title) <= SHOWN else f"{title[:SHOWN]}... ({len(title):,} characters)"
    return f"the longest title has {ruler.title_tokens[longest]:,} tokens: {shown!r}"


def _shorter(ruler: Ruler, read: Read) -> list[str]:
    """Options that cut titles so far that all examples fit, or leave out their items where these are few."""
    titles = ruler.tokenize.plain_titles
    for characters in CUTS:
        if max(map(len, titles)) <= characters:
            continue
        cut = [cut_title(str(title), characters) for title in titles]
        lines = np.array([len(ids) + 1 for ids in encode_titles(ruler.tokenize.tokenizer, cut)]) + ruler.tokenize.beside
        lines += DOUBLES * (len(set(cut)) < len(cut))
        needed = max(int(ruler.told(table, lines)[0].max(initial=0)) for table, _ in read()) + SLACK
        fits = ruler.positions is None or needed + int(lines.max()) + SPARE <= ruler.positions
        if fits and needed <= ruler.tokenize.max_tokens:
            option = f"--data.max-title {characters}"
            long = np.mean([len(title) > characters for title in titles])
            return [option, f"{option} --data.long-titles leave-out"][: 1 + int(long <= MOST_LEFT_OUT)]
    return []


def _sums(lists: pa.ChunkedArray, tokens: np.ndarray) -> np.ndarray:
    """(rows,) sum of `tokens` over each row's items."""
    array = lists.combine_chunks()
    ends = np.r_[0, np.cumsum(tokens[np.asarray(array.flatten())])]
    offsets = array.offsets.to_numpy() - array.offsets[0].as_py()
    sums: np.ndarray = np.diff(ends[offsets])
    return sums
