"""The operations of a step, an evaluation and a generation, counted by torch, are those that the layout needs: no more.

A clock is noisy, a count is not: work done twice, such as a prompt computed once a title, fails here. What is expected
is written down anew, from the shape alone.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from raypref.config.model import ScratchModel
from raypref.config.training import AlignConfig
from raypref.evaluation import rows
from raypref.evaluation.rows import rank_by_model
from raypref.models import backbone, layout
from raypref.models.scoring import TitleScorer
from raypref.training.tasks import task_of
from tests.support.processes import CHECKOUT

NEGATIVES = (1, 3, 15)
USERS, PROMPT, TITLE = 2, 24, 4
HIDDEN, LAYERS, HEADS, KEY_VALUE_HEADS, INTERMEDIATE, RANK = 32, 2, 2, 1, 64, 4
KEYS = HIDDEN // HEADS * KEY_VALUE_HEADS
LINEAR = {
    "q": (HIDDEN, HIDDEN), "k": (HIDDEN, KEYS), "v": (HIDDEN, KEYS), "o": (HIDDEN, HIDDEN),
    "gate": (HIDDEN, INTERMEDIATE), "up": (HIDDEN, INTERMEDIATE), "down": (INTERMEDIATE, HIDDEN),
}  # fmt: skip


def of_attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    """Scores and their sums of values: a product each, of all queries with all keys, masked or not."""
    users, heads, queries, width = query
    return 2 * users * heads * queries * key[2] * (width + value[3])


def of_attention_backward(gradient: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    """The scores again, and four products: two of the gradient, two of the scores'."""
    return of_attention(query, key, value) * 5 // 2


ON_CPU = {  # which torch's counter does not know
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: of_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: of_attention_backward,
}


def count(work: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and attention."""
    with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
        work()
    return counter.get_total_flops()


def tokens(titles: int) -> int:
    """Of a document: the prompt once, and titles without their end token, which is no input."""
    return PROMPT + titles * (TITLE - 1)


def places(titles: int) -> int:
    """Of a document's tokens those that predict: the prompt's last, for all titles, and those of titles."""
    return 1 + titles * (TITLE - 1)


def attention(titles: int) -> int:
    """Of one user, forward: all layers but the last ask for prompt and titles, the last for places alone."""
    asked = PROMPT * PROMPT + (tokens(titles) - PROMPT) * tokens(titles)
    return 4 * HIDDEN * ((LAYERS - 1) * asked + places(titles) * tokens(titles))


def linear(titles: int, times: Callable[[int, str, int, int], int]) -> int:
    """Of one user: `times(layer, name, inputs, outputs)` operations a token for all that a linear module is given."""
    total = 0
    for layer in range(LAYERS):
        for name, (inputs, outputs) in LINEAR.items():
            everywhere = layer < LAYERS - 1 or name in ("k", "v")
            total += (tokens(titles) if everywhere else places(titles)) * times(layer, name, inputs, outputs)
    return total


def step_flops(titles: int, vocabulary: int, lora: bool) -> int:
    """Of a training step: forward, and in the backward pass gradients of inputs and of trained weights."""
    head = 2 * HIDDEN * vocabulary * places(titles)

    def full(layer: int, name: str, inputs: int, outputs: int) -> int:
        return 6 * inputs * outputs

    def adapted(layer: int, name: str, inputs: int, outputs: int) -> int:
        of_inputs = 0 if layer == 0 and name in ("q", "k", "v") else 1  # embeddings are not trained
        down, up = RANK * inputs, RANK * outputs
        return 2 * (1 + of_inputs) * inputs * outputs + 2 * (2 + of_inputs) * down + 6 * up

    if lora:
        return USERS * (linear(titles, adapted) + 2 * head + attention(titles) * 7 // 2)
    return USERS * (linear(titles, full) + 3 * head + attention(titles) * 7 // 2)


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """benchmarks/engine.py, whose way `ours` is a step as the training loop makes it."""
    folder = str(CHECKOUT / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("engine")
    sys.path.remove(folder)


def step(engine: Any, negatives: int, lora: bool) -> tuple[int, int]:
    """Operations of a training step, and those needed."""
    case = engine.Case(shape="tiny", lora=RANK if lora else None)
    ours = engine.Ours(case, negatives)
    return count(ours.step), step_flops(1 + negatives, case.sizes.vocabulary, lora)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_a_step_computes_prompts_once_and_the_last_layer_where_it_is_read(
    engine: Any, negatives: int, lora: bool
) -> None:
    found, needed = step(engine, negatives, lora)
    assert found == needed


WORDS = backbone.train_tokenizer(["ab", "cd"], 280)


def make_users(candidates: int) -> pa.Table:
    """What an evaluation reads of users: random prompts and titles of the same lengths."""
    rng = np.random.default_rng(0)

    def words(n: int) -> list[int]:
        return rng.integers(3, len(WORDS), n).tolist()

    return pa.table(
        {
            "example": np.arange(USERS),
            "user": np.arange(USERS, dtype=np.int32),
            "target": np.zeros(USERS, np.int32),
            "candidates": [list(range(candidates))] * USERS,
            "history": [[0]] * USERS,
            "prompt_ids": [words(PROMPT) for _ in range(USERS)],
            "title_ids": [[[*words(TITLE - 1), WORDS.eos_token_id] for _ in range(candidates)] for _ in range(USERS)],
        }
    )


def make_model() -> Any:
    return backbone.build(
        ScratchModel(
            hidden_size=HIDDEN, layers=LAYERS, heads=HEADS, key_value_heads=KEY_VALUE_HEADS,
            intermediate_size=INTERMEDIATE,
        ),
        WORDS,
    )  # fmt: skip


def evaluation(candidates: int, generate: bool, beams: int = 0) -> tuple[int, int]:
    """Operations of an evaluation, and how often the model was called."""
    model, calls = make_model(), []
    model.get_decoder().register_forward_hook(lambda *_: calls.append(1))
    names = [f"title {i}" for i in range(candidates)]
    work = partial(
        rank_by_model, model, WORDS, names, [make_users(candidates)], "test", USERS, generate,
        np.ones(candidates), beams,
    )  # fmt: skip
    return count(lambda: list(work())), len(calls)


def ranking_flops(candidates: int) -> int:
    head = 2 * HIDDEN * len(WORDS) * places(candidates)
    return USERS * (
        linear(candidates, lambda _, __, inputs, outputs: 2 * inputs * outputs) + head + attention(candidates)
    )


def generation_flops(steps: int, copies: int) -> int:
    """Of `steps` tokens after prompts whose keys and values are there: each is computed alone, and sees all before."""
    a_token = 2 * (LAYERS * sum(inputs * outputs for inputs, outputs in LINEAR.values()) + HIDDEN * len(WORDS))
    seen = sum(PROMPT + step for step in range(steps))
    return USERS * copies * (steps * a_token + 4 * HIDDEN * LAYERS * seen)


def ranking(candidates: int) -> tuple[int, int]:
    """Operations of a ranking, and those needed."""
    return evaluation(candidates, generate=False)[0], ranking_flops(candidates)


def generation(generate: bool, beams: int) -> tuple[int, int]:
    """Operations past the ranking pass, and those needed for as many tokens."""
    found, calls = evaluation(4, generate, beams)
    assert calls > 2
    return found - ranking_flops(4), generation_flops(calls - 1, beams or 1)


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_all_candidates_are_ranked_in_one_pass(negatives: int) -> None:
    found, needed = ranking(1 + negatives)
    assert found == needed


@pytest.mark.parametrize(("generate", "beams"), [(True, 0), (False, 3)])
def test_generation_goes_on_from_the_prompts_that_ranking_computed(generate: bool, beams: int) -> None:
    found, needed = generation(generate, beams)
    assert found == needed


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_a_prompt_that_is_computed_twice_is_seen(engine: Any, negatives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the scorer runs prompts once more, by themselves, before it scores; no number moves by that."""
    forward = TitleScorer.forward

    def twice(self: TitleScorer, batch: layout.TitleBatch, cache: Any = None) -> torch.Tensor:
        prompts = [batch.input_ids[s.row, s.start : s.titles] for s in batch.spans]
        self.causal_lm().get_decoder()(input_ids=torch.stack(prompts), use_cache=False)
        return forward(self, batch, cache)

    monkeypatch.setattr(TitleScorer, "forward", twice)
    for found, needed in (step(engine, negatives, lora=False), ranking(1 + negatives)):
        assert found > 1.05 * needed


@pytest.mark.parametrize(("generate", "beams"), [(True, 0), (False, 3)])
def test_a_prompt_that_generation_computes_anew_is_seen(
    generate: bool, beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: what ranking left is not handed on."""
    for name in ("greedy_answers", "beam_answers"):
        answers = getattr(rows, name)
        monkeypatch.setattr(rows, name, lambda *given, answers=answers: answers(*given[:-1], None))
    found, needed = generation(generate, beams)
    assert found > 1.5 * needed


def test_an_exact_policy_gradient_costs_what_sdpo_costs(engine: Any) -> None:
    """The whole list is in one pass anyway: at most 1.2 times S-DPO's step with the same candidates."""
    case = engine.Case(shape="tiny", lora=None)
    sdpo, policy_gradient = engine.Ours(case, 15), engine.Ours(case, 15)
    content = {**policy_gradient.config.model_dump(by_alias=True), "objective": {"name": "list-pg", "beta_kl": 0.1}}
    policy_gradient.task = task_of(AlignConfig.model_validate(content))
    assert policy_gradient.task.params.name == "list-pg"
    assert count(policy_gradient.step) <= 1.2 * count(sdpo.step)
