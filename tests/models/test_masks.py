"""The rule of who sees whom, against its statement in words, on random layouts."""

from __future__ import annotations

import random

import pytest

from raypref.models import masks
from raypref.models.layout import Rows, title_batch


@pytest.mark.parametrize("window", [None, 1, 2, 5])
@pytest.mark.parametrize("packed", [False, True])
def test_a_token_sees_the_prompt_and_its_own_title(packed: bool, window: int | None) -> None:
    rng = random.Random(0)
    for _ in range(40):
        prompts = [[1] * rng.randint(1, 9) for _ in range(rng.randint(1, 4))]
        width = rng.randint(1, 4)
        titles = [[[2] * rng.randint(1, 5) for _ in range(width)] for _ in prompts]
        batch = title_batch(prompts, titles, 0, Rows(packed, rng.choice([1, 8])))
        owner = {}  # of each place: document, title (0 the prompt), position
        for b, (span, prompt, own) in enumerate(zip(batch.spans, prompts, titles)):
            tokens = [(b, 0, i) for i in range(len(prompt))]
            for c, ids in enumerate(own):
                tokens += [(b, c + 1, len(prompt) + i) for i in range(len(ids) - 1)]
            owner |= {(span.row, span.start + i): token for i, token in enumerate(tokens)}
        seen = masks.dense(batch, window)
        for (row, query), (document, title, position) in owner.items():
            for key in range(seen.shape[-1]):
                other = owner.get((row, key), (-1, -1, -1))
                expected = key <= query and other[0] == document and other[1] in (0, title)
                expected = expected and (window is None or position - other[2] < window)
                assert bool(seen[row, 0, query, key]) == expected
        assert seen.any(-1).all()  # padding too sees something
