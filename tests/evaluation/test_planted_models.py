"""Models whose worth is known beforehand: an oracle scores 1, a blind one scores chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from raypref.evaluation import rows as rows_module
from raypref.evaluation.metrics import means
from raypref.evaluation.rows import ROWS, rank_by_model
from raypref.models import backbone
from raypref.models.layout import APART, Rows, TitleBatch

CANDIDATES, USERS = 5, 400
TITLES = [f"{a} {b}" for a in ("Red", "Blue", "Grey", "Gold") for b in ("Hill", "Lake", "Moon", "Road", "Wolf")]
TOKENIZER = backbone.train_tokenizer([f"{title}\n" for title in TITLES] * 20, 400)
TITLE_IDS = [[*TOKENIZER(title)["input_ids"], TOKENIZER.eos_token_id] for title in TITLES]
WISH = 3  # the first token of a prompt is WISH + the item that the user wants: what an oracle may read


def examples(seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    candidates = np.array([rng.permutation(len(TITLES))[:CANDIDATES] for _ in range(USERS)], dtype=np.int32)
    target = rng.integers(0, CANDIDATES, USERS).astype(np.int32)
    wanted = candidates[np.arange(USERS), target]
    return pa.table(
        {
            "example": np.arange(USERS),
            "user": np.arange(USERS, dtype=np.int32),
            "history": [[0] * int(n) for n in rng.integers(0, 5, USERS)],
            "candidates": candidates.tolist(),
            "target": target,
            "prompt_ids": [[WISH + int(item), *rng.integers(50, 90, rng.integers(1, 6)).tolist()] for item in wanted],
            "title_ids": [[TITLE_IDS[item] for item in row] for row in candidates.tolist()],
        }
    )


class Planted(nn.Module):
    """Knows (or not) what each user wants; scores and speaks accordingly."""

    def __init__(self, oracle: bool) -> None:
        super().__init__()
        self.oracle, self.device = oracle, torch.device("cpu")
        self.config: Any = None
        self.generator = torch.Generator().manual_seed(0)

    def wanted(self, prompt: Tensor) -> int:
        if self.oracle:
            return int(prompt) - WISH
        return int(torch.randint(len(TITLES), (), generator=self.generator))

    def generate(
        self, input_ids: Tensor, attention_mask: Tensor, max_new_tokens: int, num_return_sequences: int = 1, **_: Any
    ) -> Tensor:
        """What is wanted, then other titles."""
        first, said = attention_mask.argmax(dim=1), []
        for row, i in zip(input_ids, first):
            wanted = self.wanted(row[i])
            others = torch.randperm(len(TITLES), generator=self.generator).tolist()
            said += [TITLE_IDS[t] for t in dict.fromkeys([wanted, *others])][:num_return_sequences]
        input_ids = input_ids.repeat_interleave(num_return_sequences, dim=0)
        answers = torch.full((len(said), max_new_tokens), TOKENIZER.pad_token_id)
        for row, ids in zip(answers, said):
            row[: len(ids)] = torch.tensor(ids)
        return torch.cat([input_ids, answers], dim=1)


class PlantedScorer:
    """Stands for TitleScorer: the oracle gives the wanted title 0 nats, all others -10; the blind one noise."""

    def __init__(self, model: Planted) -> None:
        self.model = model

    def rows(self) -> Rows:
        return APART

    def __call__(self, batch: TitleBatch, cache: Any) -> Tensor:
        shape = batch.lengths.shape
        if not self.model.oracle:
            return torch.randn(shape, generator=self.model.generator)
        scores = torch.full((shape.numel(),), -10.0)
        for b, prompt in enumerate(batch.input_ids):
            ids = TITLE_IDS[int(prompt[0]) - WISH]
            for c in range(shape[1]):
                if batch.label[batch.title == b * shape[1] + c].tolist() == ids:
                    scores[b * shape[1] + c] = 0.0
        return scores.view(shape)


def rows_of(model: Any, generate: bool = True, batch: int = 64) -> pa.Table:
    tables: Iterator[pa.Table] = iter([examples().slice(0, 300), examples().slice(300)])
    counts, beams = np.ones(len(TITLES)), 5 if generate else 0
    return pa.concat_tables(rank_by_model(model, TOKENIZER, TITLES, tables, "test", batch, generate, counts, beams))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "TitleScorer", PlantedScorer)


def near(value: float, chance: float) -> bool:
    """Within 4 standard deviations of a share among USERS."""
    return abs(value - chance) < 4 * (chance * (1 - chance) / USERS) ** 0.5


@pytest.mark.usefixtures("planted")
def test_an_oracle_scores_one() -> None:
    found = means(rows_of(Planted(oracle=True)))
    assert {value for name, value in found.items() if "popularity" not in name} == {1.0}
    assert len(found) == 13


@pytest.mark.usefixtures("planted")
def test_a_blind_model_scores_chance() -> None:
    found = means(rows_of(Planted(oracle=False)))
    assert near(found["exact_hr@1"], 1 / CANDIDATES)
    assert found["exact_hr@5"] == 1.0  # of five candidates
    assert near(found["valid_ratio"], CANDIDATES / len(TITLES))
    assert near(found["generated_hr@1"], 1 / len(TITLES))
    assert near(found["beam_hr@5"], 5 / len(TITLES))
    discounts = 1 / np.log2(1 + np.arange(1, CANDIDATES + 1))
    assert abs(found["exact_ndcg@5"] - discounts.mean()) < 4 * discounts.std() / USERS**0.5


@pytest.mark.usefixtures("planted")
def test_rows_hold_what_metrics_need() -> None:
    table, given = rows_of(Planted(oracle=True)), examples()
    assert table.schema.equals(ROWS)
    assert table["example"].to_pylist() == list(range(USERS))
    for row, example in zip(table.to_pylist(), given.to_pylist()):
        assert row["target_item"] == example["candidates"][example["target"]]
        assert row["candidates"] == example["candidates"]
        assert row["history_length"] == len(example["history"])
        assert row["answer"] == TITLES[row["target_item"]]
        assert len(row["logps"]) == CANDIDATES
        assert row["split"] == "test"


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(TOKENIZER), pad_token_id=TOKENIZER.pad_token_id, **shape))


def test_an_untrained_model_ranks_by_chance_and_the_batch_changes_nothing() -> None:
    model = tiny_llama().train()
    table = rows_of(model, generate=False)
    assert not model.training
    assert near(means(table)["exact_hr@1"], 1 / CANDIDATES)
    assert table["answer"].null_count == USERS
    other = rows_of(model, generate=False, batch=7)
    assert np.allclose(table["logps"].to_pylist(), other["logps"].to_pylist(), atol=1e-4)


def test_generation_is_greedy_after_ragged_prompts() -> None:
    """Against the model's own argmax, a token at a time, each prompt alone."""
    model = tiny_llama().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    prompts = examples()["prompt_ids"].to_pylist()[:12]
    longest = 3

    def alone(prompt: Sequence[int]) -> str:
        ids = list(prompt)
        for _ in range(longest + rows_module_spare()):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == TOKENIZER.eos_token_id:
                break
        lines = TOKENIZER.decode(ids[len(prompt) :], skip_special_tokens=True).splitlines()
        return next((line.strip() for line in lines if line.strip()), "")

    found = rows_module.greedy_answers(model, TOKENIZER, prompts, longest)
    with torch.no_grad():
        assert found == [alone(prompt) for prompt in prompts]
    assert len(set(found)) > 3


def rows_module_spare() -> int:
    from raypref.evaluation.decoding import SPARE_TOKENS

    return SPARE_TOKENS
