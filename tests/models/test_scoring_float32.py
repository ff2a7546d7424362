"""Shared-prefix scoring in float32, as it is trained, against one forward pass a title: to 1e-5 relative.

A log-prob's error is relative to itself. A gradient's is relative to its parameter's gradient as a whole (Euclidean
norms): single entries near 0 are sums that cancel, and in float32 neither way of adding them up is right to 1e-5.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from raypref.models import backbone
from raypref.models.folders import SHIPPED_FOLDER
from raypref.models.layout import Rows, title_batch
from raypref.models.scoring import TitleScorer
from tests.support.families import gradients, make_model, naive

WORKING = ("llama", "qwen3", "mistral with a window", "gemma")
LONG = "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb and the Señor 東京 物語"
TITLES = [  # K = 19: a target and 19 others
    "", "S", "St", "Star", "Star Wars", "Star Wars: Episode V", "Star Wars", "Amélie", "Amelie", "東京物語",
    "千と千尋の神隠し", "Москва слезам не верит", "🎬 emoji 🎬", "مسافر", "Ночь", "Ночь и туман", "Ame\u0301lie", LONG,
    LONG.upper(), "a b c d e f g h i j k l m n o p q r s t u v w x y z",
]  # fmt: skip
PROMPTS = ["x", "After " + ", ".join(TITLES[1:12]) + " comes\n", "Liked: Ночь, 東京物語, Star Wars\nNext:\n"]
MOST = 30


@pytest.fixture(scope="module")
def tokens() -> tuple[list[list[int]], list[list[list[int]]], int, int]:
    """Ragged prompts, for each of them all titles with their end token, the padding token, the vocabulary."""
    tokenizer: PreTrainedTokenizerBase = backbone.load_tokenizer(SHIPPED_FOLDER)
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    titles = [[*tokenizer(text)["input_ids"][: MOST - 1], tokenizer.eos_token_id] for text in TITLES]
    lengths = {len(ids) for ids in titles}
    assert {1, 2, MOST} <= lengths
    assert len(titles) == 20
    assert any(a != b and b[: len(a) - 1] == a[:-1] for a in titles for b in titles if len(a) > 1)  # a prefix
    assert any(a == b for i, a in enumerate(titles) for b in titles[:i])
    assert len({len(prompt) for prompt in prompts}) == len(prompts)
    turned = [titles[i:] + titles[:i] for i in range(len(prompts))]
    return prompts, turned, tokenizer.pad_token_id, len(tokenizer)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", WORKING)
def test_log_probs_and_gradients_are_those_of_each_title_alone(family: str, lora: bool, tokens: Any) -> None:
    prompts, titles, pad, vocabulary = tokens
    model = make_model(family, lora, vocabulary).float()
    alone = naive(model, prompts, titles)
    expected = gradients(model, alone)
    scorer = TitleScorer(model)
    for layout in (Rows(), Rows(packed=True)):
        shared = scorer(title_batch(prompts, titles, pad, layout))
        assert shared.dtype == torch.float32
        torch.testing.assert_close(shared, alone, rtol=1e-5, atol=0)
        got = gradients(model, shared)
        assert got.keys() == expected.keys()
        for name, gradient in expected.items():
            assert float((got[name] - gradient).norm()) <= 1e-5 * float(gradient.norm()), name
    assert len(expected) > (4 if lora else 8)
