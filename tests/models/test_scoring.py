"""Shared-prefix scoring against the naive way: each title alone after its prompt, by the model's own forward."""

from __future__ import annotations

import functools
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from transformers import AutoModelForCausalLM, CohereConfig

from raypref.errors import UserError
from raypref.models import scoring
from raypref.models.layout import Rows, title_batch
from raypref.models.scoring import TitleScorer
from tests.support.families import END, FAMILIES, PAD, SHAPE, VOCABULARY, gradients, make_model, naive


def questions(titles: int, seed: int = 0) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Ragged prompts; titles of 1 to 30 tokens, some equal, some the beginning of another; all end with END."""
    generator = torch.Generator().manual_seed(seed)

    def words(n: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()

    prompts = [words(n) for n in (4, 23, 11)]
    answers = []
    for _ in prompts:
        long = words(29)
        row = [[*long, END], [*long[:12], END], [*long[:1], END], [*long[:12], END], [END]]
        while len(row) < titles:
            row.append([*words(int(torch.randint(1, 8, (), generator=generator))), END])
        answers.append(row[:titles])
    return prompts, answers


WITHOUT_SDPA = ("gemma2",)  # soft-capped attention: transformers takes the eager one
WITHOUT_NAMES = ("gpt2",)  # its modules are called otherwise
LAYOUTS = {"apart": Rows(), "packed": Rows(packed=True), "padded": Rows(packed=True, multiple=64)}


@functools.cache
def alone(family: str, lora: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probs (B, C) of `questions(20)`, each title alone after its prompt, and the gradients of their sum."""
    model = make_model(family, lora)
    logps = naive(model, *questions(20))
    return logps.detach(), gradients(model, logps)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("attention", ["dense", "documents"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore:fan_in_fan_out")
def test_titles_score_as_if_each_stood_alone(family: str, attention: Any, layout: str, lora: bool) -> None:
    model = make_model(family, lora)
    prompts, titles = questions(20)
    if attention == "documents" and family in (*WITHOUT_SDPA, *WITHOUT_NAMES):
        with pytest.raises(UserError, match="no attention 'documents'"):
            TitleScorer(model, attention)
        return
    scorer = TitleScorer(model, attention)
    assert scorer.trimmed == (family not in WITHOUT_NAMES)
    shared = scorer(title_batch(prompts, titles, PAD, LAYOUTS[layout]))
    logps, expected = alone(family, lora)
    torch.testing.assert_close(shared.double(), logps, rtol=1e-5, atol=0)
    assert float(logps.std()) > 1  # titles differ, so equality says something
    got = gradients(model, shared)
    assert got.keys() == expected.keys()
    assert len(got) > (4 if lora else 8)
    for name, gradient in expected.items():
        error = (got[name] - gradient).abs().max()
        assert error <= 1e-5 * gradient.abs().max(), f"{name}: {error}"


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.integers(3, VOCABULARY - 1), min_size=1, max_size=12), min_size=1, max_size=3),
    st.integers(1, 4),
    st.data(),
)
def test_any_layout_scores_alike(prompts: list[list[int]], width: int, data: st.DataObject) -> None:
    title = st.lists(st.integers(3, VOCABULARY - 1), max_size=5).map(lambda ids: [*ids, END])
    titles = [data.draw(st.lists(title, min_size=width, max_size=width)) for _ in prompts]
    model = make_model("mistral with a window", lora=False)
    with torch.no_grad():
        shared = TitleScorer(model)(title_batch(prompts, titles, PAD)).double()
        torch.testing.assert_close(shared, naive(model, prompts, titles), rtol=1e-5, atol=1e-6)


def test_equal_titles_get_equal_scores_and_order_changes_nothing() -> None:
    model = make_model("llama", lora=False)
    prompts, titles = questions(19)
    with torch.no_grad():
        scores = TitleScorer(model)(title_batch(prompts, titles, PAD))
        backwards = TitleScorer(model)(title_batch(prompts, [row[::-1] for row in titles], PAD))
    assert torch.allclose(scores[:, 1], scores[:, 3], rtol=1e-6)
    assert torch.allclose(scores.flip(1), backwards, rtol=1e-6)


def test_lengths_count_the_end_token() -> None:
    batch = title_batch([[5, 6]], [[[7, 8, END], [END]]], PAD)
    assert batch.lengths.tolist() == [[3, 1]]
    assert batch.input_ids.tolist() == [[5, 6, 7, 8]]
    assert batch.positions.tolist() == [[0, 1, 2, 3]]


def test_a_model_that_scales_its_logits_is_refused() -> None:
    shape = {k: v for k, v in SHAPE.items() if k != "head_dim"}
    model = AutoModelForCausalLM.from_config(CohereConfig(**shape))
    with pytest.raises(UserError, match="'cohere': logits scaled by logit_scale") as caught:
        TitleScorer(model)
    assert caught.value.where == "model.path"


def test_a_model_with_another_kind_of_layer_is_refused() -> None:
    model = make_model("qwen3", lora=False)
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(UserError, match="layers of type linear_attention"):
        TitleScorer(model)


@pytest.mark.parametrize(
    ("family", "compiled"),
    [
        ("llama", False),
        ("qwen2 with a window on some layers", False),
        ("mistral with a window", False),
        pytest.param("qwen2 with a window on some layers", True, marks=pytest.mark.measures),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_flex_attention_has_the_same_mask(family: str, compiled: bool) -> None:
    """Forward only: on the CPU it can do no more. Rows of two blocks, so that some are skipped."""
    model = make_model(family, lora=False).float()
    prompts, titles = questions(20)
    batch = title_batch(prompts, titles, PAD, TitleScorer(model, "flex").rows())
    assert batch.input_ids.shape[1] % 128 == 0
    assert batch.input_ids.shape[1] > 128
    with torch.no_grad(), torch.compiler.set_stance("default" if compiled else "force_eager"):
        flex = TitleScorer(model, "flex")(batch)
        dense = TitleScorer(model, "dense")(batch)
    torch.testing.assert_close(flex, dense, rtol=1e-5, atol=1e-5)


def test_logits_in_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama", lora=False)
    prompts, titles = questions(20)
    batch = title_batch(prompts, titles, PAD, Rows(packed=True))
    whole = TitleScorer(model)(batch)
    expected = gradients(model, whole)
    monkeypatch.setattr(scoring, "CHUNK", 7 * VOCABULARY)
    parts = TitleScorer(model)(batch)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    for name, gradient in gradients(model, parts).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)


def test_the_last_layer_computes_places_alone() -> None:
    model = make_model("llama", lora=False)
    prompts, titles = questions(4)
    batch = title_batch(prompts, titles, PAD, Rows(packed=True))
    TitleScorer(model)
    rows: dict[int, int] = {}
    for number, layer in enumerate(model.get_decoder().layers):
        layer.mlp.act_fn.register_forward_hook(lambda module, args, out, n=number: rows.update({n: out.numel()}))
    TitleScorer(model)(batch)
    width = SHAPE["intermediate_size"]
    assert rows == {0: batch.input_ids.numel() * width, 1: len(batch.places) * width}


def test_generation_is_that_of_a_model_never_scored() -> None:
    """What scoring teaches a model (attention, last layer) must not show elsewhere."""
    prompts, titles = questions(3)
    ids = torch.tensor([prompts[1]])
    fresh, used = make_model("llama", lora=False), make_model("llama", lora=False)
    with torch.no_grad():
        TitleScorer(used)(title_batch(prompts, titles, PAD))
        torch.testing.assert_close(used(input_ids=ids).logits, fresh(input_ids=ids).logits, rtol=0, atol=1e-12)
        said = [m.generate(input_ids=ids, max_new_tokens=8, do_sample=False).tolist() for m in (fresh, used)]
    assert said[0] == said[1]
    assert "attn_implementation" not in used.config.to_json_string()
