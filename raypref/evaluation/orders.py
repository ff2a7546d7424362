"""Position, preference or memory: the same candidates in other orders, scored at a fraction of the cost of one.

A prompt of another order begins as the first one does, with the history: its keys and values are computed once an
example, and each order adds its list and the titles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import DynamicCache

from raypref.data.candidates import draws, keys
from raypref.data.tokens import ExampleTokenizer
from raypref.models import masks
from raypref.models.layout import title_batch
from raypref.models.scoring import TitleScorer

SEED = 0x0DE5
ORDER_ROWS = pa.schema(
    [
        pa.field("order_places", pa.list_(pa.list_(pa.int32()))),  # of each candidate in each further order, from 0
        pa.field("order_logps", pa.list_(pa.list_(pa.float32()))),  # of each candidate's title there, nats
    ]
)


@dataclass(frozen=True)
class Orders:
    """Scores further orders of each example's candidates."""

    number: int
    """Orders in all, the example's own included."""
    tokenize: ExampleTokenizer

    def columns(self, scorer: TitleScorer, part: pa.Table, least: bool, pad_id: int) -> dict[str, Any]:
        """`order_places` and `order_logps`, each of an example's further orders (number - 1, C): where each candidate
        stood, and its log-prob there. Candidates are numbered as in the example's own order.
        """
        places, logps = [], []
        for number, example in enumerate(_apart(part)):
            orders = permutations(int(part["user"][number].as_py()), example, self.number)
            shown = pa.concat_tables([_reordered(example, order) for order in orders])
            tokens = self.tokenize(shown, least=least)
            scores = score_orders(scorer, tokens, pad_id)
            place = np.argsort(orders, axis=1)  # of candidate c in each order
            places.append(place.astype(np.int32).tolist())
            logps.append(np.take_along_axis(scores, place, axis=1).tolist())
        return {"order_places": places, "order_logps": logps}


def permutations(user: int, example: pa.Table, number: int) -> np.ndarray:
    """(number - 1, C): which candidate stands at each place, the same for every method and seed.

    Rotations of one random permutation by equal steps, so that each candidate, the target too, stands at places spread
    over the whole list; a hash of the user and its example alone.
    """
    count = len(example["candidates"][0])
    key = keys(SEED, np.array([user]), example["example"].to_numpy().astype(np.int64))
    base = np.argsort(draws(key, np.arange(count))[0], kind="stable")
    steps = np.round(np.arange(1, number) * count / number).astype(int)
    return np.stack([np.roll(base, step) for step in steps])


def score_orders(scorer: TitleScorer, tokens: pa.Table, pad_id: int) -> np.ndarray:
    """(orders, C) title log-probs of prompts that share their beginning, whose keys and values are computed once.

    `tokens`: `data.tokens.TOKENS` of one example's orders. Families with a sliding window read each prompt whole.
    """
    prompts, titles = tokens["prompt_ids"].to_pylist(), tokens["title_ids"].to_pylist()
    model = scorer.causal_lm()
    device = next(model.parameters()).device
    shared = common_length(prompts)
    with torch.no_grad():
        if _windowed(model):
            batch = title_batch(prompts, titles, pad_id, scorer.rows())
            return np.asarray(scorer(batch.to(device)).float().cpu().numpy())
        cache = DynamicCache()
        beginning = torch.tensor([prompts[0][:shared]], device=device)
        model.get_decoder()(input_ids=beginning, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(prompts))
        batch = title_batch([prompt[shared:] for prompt in prompts], titles, pad_id).to(device)
        hidden = model.get_decoder()(
            input_ids=batch.input_ids,
            attention_mask=scorer.as_attention_mask(_seen(masks.dense(batch), shared)),
            position_ids=batch.positions + shared,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        found = scorer.token_logps(model, hidden.flatten(0, 1)[batch.places], batch)
        sums = torch.zeros(batch.lengths.numel(), dtype=found.dtype, device=device)
        return np.asarray(sums.index_add(0, batch.title, found).view(batch.lengths.shape).float().cpu().numpy())


def _seen(own: Tensor, shared: int) -> Tensor:
    """(R, 1, L, shared + L) bool: all of the beginning, and of the rest what `own` allows."""
    return torch.cat((own.new_ones(*own.shape[:3], shared), own), dim=-1)


def _windowed(model: Any) -> bool:
    """Whether some layer looks back over a window only."""
    windows: list[int | None] = []
    masks.for_layers(model.config.get_text_config(), windows.append)
    return any(window is not None for window in windows)


def common_length(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with; at least one is left to each."""
    shortest = min(map(len, prompts)) - 1
    return next((i for i in range(shortest) if len({prompt[i] for prompt in prompts}) > 1), shortest)


def _apart(part: pa.Table) -> Iterator[pa.Table]:
    return (part.slice(i, 1) for i in range(part.num_rows))


def _reordered(example: pa.Table, order: np.ndarray) -> pa.Table:
    candidates = np.array(example["candidates"][0].as_py())[order]
    place = example.column_names.index("candidates")
    return example.set_column(place, "candidates", pa.array([candidates], example.schema.field("candidates").type))
