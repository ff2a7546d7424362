"""Generation from the cache of the scoring pass, against transformers' own `generate` on each prompt alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from raypref.evaluation.decoding import SPARE_TOKENS, beam_answers, first_line, generate, greedy_answers
from raypref.models import backbone
from raypref.models.layout import title_batch
from raypref.models.prompt_cache import prompt_cache
from raypref.models.scoring import TitleScorer
from tests.support.families import FAMILIES, make_model

LONGEST, BEAMS = 4, 3
PROMPTS = [torch.randint(3, 280, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (1, 5, 24, 11, 13)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return backbone.train_tokenizer(["Hill\n", "Lake\n", "Señor Übermut\n", "東京\n"], 280)


def talker(family: str, lora: bool, tokenizer: PreTrainedTokenizerBase, ends: bool = True) -> Any:
    """A model that says newlines and end tokens as often as it says what it likes most."""
    model = make_model(family, lora, len(tokenizer))
    head = model.get_output_embeddings().weight
    newline = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("\n"))[0]
    with torch.no_grad():
        said = [alone(model, tokenizer, prompt) for prompt in PROMPTS]
        liked = torch.stack([ids for answer in said for ids in answer]).mode().values
        head[newline] = 1.01 * head[liked]
        if ends:
            head[tokenizer.eos_token_id] = 1.01 * head[torch.stack([a[-1] for a in said]).mode().values]
    return model


def alone(model: Any, tokenizer: PreTrainedTokenizerBase, prompt: list[int], **how: Any) -> Any:
    """What `generate` says after one prompt, without padding, without cache of ours, to the end token."""
    ids = torch.tensor([prompt])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=LONGEST + SPARE_TOKENS,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **how,
    )
    return output if how else output[0, len(prompt) :]


def shared(model: Any, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]]) -> Any:
    """What gives the prompts' cache, cut from one pass over prompts and titles of uneven lengths."""
    titles = [[[7, 8, 9, tokenizer.eos_token_id], [5, tokenizer.eos_token_id]] for _ in prompts]
    scorer, cache = TitleScorer(model), DynamicCache()
    batch = title_batch(prompts, titles, tokenizer.pad_token_id, scorer.rows())
    with torch.no_grad():
        scorer(batch, cache)
    return partial(prompt_cache, cache, batch)


@torch.no_grad()
def log_prob(model: Any, prompt: list[int], answer: list[int], end: int) -> float:
    """Of an answer up to its end token, by one forward pass."""
    answer = answer[: answer.index(end) + 1] if end in answer else answer
    logps = model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    return float(logps.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())


@pytest.mark.parametrize(
    ("family", "lora"), [*((f, False) for f in FAMILIES), *((f, True) for f in ("llama", "qwen3", "gemma"))]
)
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore:fan_in_fan_out")
def test_what_is_said_is_what_each_prompt_alone_gets(
    family: str, lora: bool, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = talker(family, lora, tokenizer)
    width = max(map(len, PROMPTS))
    expected = [alone(model, tokenizer, prompt) for prompt in PROMPTS]
    beams = [
        alone(
            model, tokenizer, prompt,
            num_beams=BEAMS, num_return_sequences=BEAMS, length_penalty=0.0,
            return_dict_in_generate=True, output_scores=True,
        )
        for prompt in PROMPTS
    ]  # fmt: skip
    lines = [first_line(tokenizer.decode(ids, skip_special_tokens=True)) for ids in expected]
    computed = shared(model, tokenizer, PROMPTS)  # after them: scoring must not change what the model says

    output = generate(model, tokenizer, PROMPTS, LONGEST, computed(1))
    for ids, answer in zip(expected, output):
        assert answer[width : width + len(ids)].tolist() == ids.tolist()
    assert greedy_answers(model, tokenizer, PROMPTS, LONGEST, computed) == lines
    assert len(set(lines)) > 2

    search = {"num_beams": BEAMS, "length_penalty": 0.0, "num_return_sequences": BEAMS}
    output = generate(model, tokenizer, PROMPTS, LONGEST, computed(BEAMS), **search)
    for prompt, found, answers in zip(PROMPTS, beams, output.view(len(PROMPTS), BEAMS, -1)):
        scores = [log_prob(model, prompt, answer[width:].tolist(), tokenizer.eos_token_id) for answer in answers]
        torch.testing.assert_close(torch.tensor(scores), found.sequences_scores, rtol=1e-4, atol=1e-4)
    texts = [tokenizer.batch_decode(f.sequences[:, len(p) :], skip_special_tokens=True) for f, p in zip(beams, PROMPTS)]
    said = beam_answers(model, tokenizer, PROMPTS, LONGEST, BEAMS, computed)
    assert said == [[first_line(text) for text in row] for row in texts]


def test_the_prompts_are_not_computed_again(tokenizer: PreTrainedTokenizerBase) -> None:
    model = talker("llama", False, tokenizer)
    computed = shared(model, tokenizer, PROMPTS)
    tokens: list[int] = []
    model.get_decoder().layers[0].register_forward_hook(lambda module, args, output: tokens.append(args[0].shape[1]))
    greedy_answers(model, tokenizer, PROMPTS, LONGEST, computed)
    beam_answers(model, tokenizer, PROMPTS, LONGEST, BEAMS, computed)
    assert set(tokens) == {1}


def test_a_batch_ends_when_all_first_lines_have_ended(tokenizer: PreTrainedTokenizerBase) -> None:
    model = talker("llama", False, tokenizer, ends=False)  # it goes on and on after its first line
    limit = LONGEST + SPARE_TOKENS
    whole = [tokenizer.decode(alone(model, tokenizer, p)) for p in PROMPTS]
    ended = [text for text in whole if len(text.strip().splitlines()) > 1]
    steps: list[Tensor] = []
    kept = [prompt for prompt, text in zip(PROMPTS, whole) if text in ended]
    assert len(kept) > 1
    model.register_forward_hook(lambda module, args, output: steps.append(output.logits))
    answers = greedy_answers(model, tokenizer, kept, LONGEST)
    assert answers == [first_line(text) for text in ended]
    assert len(steps) < limit


def test_prompts_of_one_token_have_nothing_computed(tokenizer: PreTrainedTokenizerBase) -> None:
    model = talker("qwen3", False, tokenizer)
    prompts = [[7], [9]]
    expected = [first_line(tokenizer.decode(alone(model, tokenizer, p), skip_special_tokens=True)) for p in prompts]
    assert greedy_answers(model, tokenizer, prompts, LONGEST, shared(model, tokenizer, prompts)) == expected
