"""What raypref-tiny was taught: on which titles, what of a prompt counts, and what it knows of users it never saw."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from raypref.config.model import PretrainedModel
from raypref.config.sources import GeneratedSource
from raypref.data.encoding import encode_prompts, encode_titles
from raypref.data.schema import Log
from raypref.data.sources.generated import generate
from raypref.models import backbone
from raypref.models.folders import SHIPPED_FOLDER
from raypref.pretraining.judging import HEADS, JUDGED, MODEL, READER, Judge, below, looking, writing
from raypref.pretraining.lessons import Lesson, Question, asked, check
from raypref.pretraining.tastes import TITLES, catalog, held_out
from raypref.pretraining.tiny import Lessons, Pretraining, make_tokenizer, unseen

TOKENIZER = make_tokenizer()


def test_no_catalog_holds_a_title_of_the_default_data() -> None:
    default = set(generate(GeneratedSource()).items["title"].to_pylist())
    assert held_out() == default
    assert default < TITLES
    assert (len(default), len(TITLES)) == (400, 4800)
    for seed in range(3):
        found = catalog(np.random.default_rng(seed), 20, held_out())
        assert not set(found.titles) & default
    asked_of = {title for question in unseen(20, 20) for title in [*question.candidates, question.answer]}
    assert asked_of <= default


def test_leaving_titles_out_changes_nothing_where_there_are_none() -> None:
    source = GeneratedSource(users=20, items=50, seed=3)
    left_out = generate(source).items["title"].to_pylist()[:10]
    assert generate(source, without=()).items.equals(generate(source).items)
    kept = generate(source, left_out).items["title"].to_pylist()
    assert len(set(kept)) == 50
    assert not set(kept) & set(left_out)
    assert kept[:40] == generate(source).items["title"].to_pylist()[10:]


def test_a_word_is_a_token_and_so_is_a_line_of_the_template() -> None:
    assert {len(ids) for ids in encode_titles(TOKENIZER, sorted(TITLES))} == {2}
    question = unseen(20, 20)[0]
    (ids,) = encode_prompts(TOKENIZER, [question.prompt])
    # Of history: two words, rating, newline; of a candidate: two words, newline; and three lines of the template.
    assert len(ids) == 6 * 4 + 20 * 3 + 3 * 2
    assert TOKENIZER.decode(ids) == question.prompt
    assert TOKENIZER.decode(encode_titles(TOKENIZER, ["Amélie (2001) | Rating: 5"])[0]) == "Amélie (2001) | Rating: 5"


def test_history_and_answer_count_and_nothing_between_them() -> None:
    prompt = "History:\nBitter Reef | Rating: 5\ntask:\nRoyal Motel\nGolden Kiss\nAnswer:\n"
    question = Question(prompt, "Golden Kiss", ["Royal Motel", "Golden Kiss"])
    longer = replace(question, prompt=prompt.replace("Bitter", "Royal Puppy\nBitter"))
    lesson = asked([question, longer], TOKENIZER, history_weight=0.25)
    for row, q in zip(range(2), (question, longer)):
        ids, weights = lesson.ids[row], lesson.weights[row]
        said = TOKENIZER.decode(ids[weights == 0.25], skip_special_tokens=True)
        assert said == q.prompt[: q.prompt.index("task")]
        assert TOKENIZER.decode(ids[weights == 1.0]) == "Golden Kiss</s>"
        assert set(weights.tolist()) == {0.0, 0.25, 1.0}
    assert lesson.ends is not None
    assert lesson.liked is not None
    assert [TOKENIZER.decode(lesson.ids[1, at - 1 : at + 1]) for at in lesson.ends[1]] == question.candidates
    assert lesson.liked.tolist() == [[False, True], [False, True]]
    both = asked([replace(question, liked=[True, True])], TOKENIZER, history_weight=0.25)
    assert both.liked is not None
    assert both.liked.tolist() == [[True, True]]
    assert asked([question], TOKENIZER).weights.sum() == 3.0


def test_the_judge_scores_each_candidate_by_its_own_words() -> None:
    judge = Judge()
    states = torch.randn(1, 9, MODEL.hidden_size)
    lesson = Lesson(torch.zeros(1, 9), torch.zeros(1, 9), torch.tensor([[3, 6]]), torch.tensor([[False, True]]))
    first, last = judge.score.weight[0].split(MODEL.hidden_size)
    state = states / states.square().mean(-1, keepdim=True).sqrt()
    scores = torch.stack([state[0, end] @ first + state[0, end - 1] @ last for end in (3, 6)])
    assert judge.scores(states, lesson)[0].tolist() == pytest.approx(scores.tolist(), rel=1e-4)
    assert judge(states, lesson).item() == pytest.approx(-scores.log_softmax(0)[1].item(), rel=1e-4)


def test_the_judge_tells_each_liked_item_from_those_that_were_not() -> None:
    judge = Judge()
    states = torch.randn(1, 12, MODEL.hidden_size)
    liked = torch.tensor([[True, False, True, False]])
    lesson = Lesson(torch.zeros(1, 12), torch.zeros(1, 12), torch.tensor([[2, 5, 8, 11]]), liked)
    a, b, c, d = judge.scores(states, lesson)[0].exp().tolist()
    expected = -(math.log(a / (a + b + d)) + math.log(c / (c + b + d))) / 2
    assert judge(states, lesson).item() == pytest.approx(expected, rel=1e-5)


def test_what_the_judge_reads_needs_no_layer_above() -> None:
    tokenizer = backbone.load_tokenizer(str(SHIPPED_FOLDER))
    model: Any = backbone.build(PretrainedModel(path="raypref-tiny", dtype="float32", lora=None), tokenizer)
    lesson = asked(unseen(20, 20)[:2], tokenizer)
    whole = model.base_model(input_ids=lesson.ids, use_cache=False, output_hidden_states=True)
    assert torch.equal(below(model, lesson), whole.hidden_states[JUDGED])
    again = model.base_model(input_ids=lesson.ids, use_cache=False)
    assert torch.equal(again.last_hidden_state, whole.last_hidden_state)


def test_the_reader_has_to_look_at_the_candidate_that_was_taken() -> None:
    """From the place before each word of the answer, with the head of that word; where other heads look is free."""
    lesson = asked(unseen(20, 20)[:2], TOKENIZER, 0.1)
    assert lesson.asked_at is not None
    assert lesson.ends is not None
    assert lesson.liked is not None
    length = lesson.ids.shape[1]
    seen = torch.full((2, MODEL.heads, length, length), 1 / length)
    for row, (at, end) in enumerate(zip(lesson.asked_at.tolist(), lesson.ends[lesson.liked].tolist())):
        assert TOKENIZER.decode(lesson.ids[row, at + 1 : at + 3]) == TOKENIZER.decode(
            lesson.ids[row, end - 1 : end + 1]
        )
        for word, head in enumerate(HEADS):
            seen[row, head, at + word] = 0.0
            seen[row, head, at + word, end] = 0.25 if word else 0.5
    attentions = [seen[:, :, :0]] * READER + [seen]
    assert looking(attentions, lesson).item() == pytest.approx(math.log(2) + math.log(4), rel=1e-5)


def test_what_the_reader_would_write_is_what_its_layer_writes_when_it_looks_there_alone() -> None:
    tokenizer = backbone.load_tokenizer(str(SHIPPED_FOLDER))
    model: Any = backbone.build(PretrainedModel(path="raypref-tiny", dtype="float32", lora=None), tokenizer)
    model.set_attn_implementation("eager")
    lesson = asked(unseen(20, 20)[:1], tokenizer, 0.1)
    assert lesson.asked_at is not None
    assert lesson.ends is not None
    layer, length = model.base_model.layers[READER], lesson.ids.shape[1]
    output = model.base_model(input_ids=lesson.ids, use_cache=False, output_hidden_states=True)
    states, size = output.hidden_states[READER], MODEL.hidden_size // MODEL.heads
    places = torch.arange(length)[None]
    expected, (at,) = 0.0, lesson.asked_at.tolist()
    weights = layer.self_attn.o_proj.weight.detach().clone()
    with torch.no_grad():
        for word, head in enumerate(HEADS):
            own = torch.zeros(MODEL.hidden_size)
            own[size * head : size * (head + 1)] = 1.0
            layer.self_attn.o_proj.weight.copy_(weights * own)  # the other heads write nothing
            for end in lesson.ends[0].tolist():
                mask = torch.full((1, 1, length, length), -torch.inf).triu(1)
                mask[0, 0, at + word] = -torch.inf
                mask[0, 0, at + word, end] = 0.0
                rotations = model.base_model.rotary_emb(states, places)
                there = layer(states, attention_mask=mask, position_embeddings=rotations)[0, at + word]
                logps = model.lm_head(model.base_model.norm(there)).log_softmax(-1)
                expected -= logps[lesson.ids[0, end - 1 + word]].item() / lesson.ends.shape[1]
            layer.self_attn.o_proj.weight.copy_(weights)
        found = writing(model, states, lesson).item()
    assert found == pytest.approx(expected, rel=1e-4)


def test_swapped_tastes_are_by_genre() -> None:
    """Of two films that a user rated 4 or 5, how often the two share their genre, and their mood."""
    source = GeneratedSource(users=100, seed=5)
    usual, swapped = (_alike(generate(source, tastes=tastes)) for tastes in ((1.2, 3.0), (3.0, 1.2)))
    assert _alike(generate(source)) == usual
    assert swapped[0] > 1.5 * usual[0]
    assert usual[1] > 1.5 * swapped[1]


def _alike(log: Log) -> tuple[float, float]:
    known = [json.loads(facts) for facts in log.items["metadata"].to_pylist()]
    liked = log.interactions.filter(pc.greater_equal(log.interactions["rating"], 4))
    of_user: dict[int, list[dict[str, str]]] = {}
    for user, item in zip(liked["user"].to_pylist(), liked["item"].to_pylist()):
        of_user.setdefault(user, []).append(known[item])
    pairs = [pair for items in of_user.values() for pair in itertools.combinations(items, 2)]
    genre, mood = (sum(a[key] == b[key] for a, b in pairs) / len(pairs) for key in ("genre", "mood"))
    return genre, mood


def test_a_catalog_begins_with_the_same_lesson_wherever_training_begins() -> None:
    config = Pretraining(copy_steps=2, grow_steps=2, batch=4)
    straight = Lessons(config, TOKENIZER)
    lessons = [straight(step) for step in range(10)]
    again = Lessons(config, TOKENIZER)
    assert torch.equal(lessons[8].ids, again(8).ids)
    assert not torch.equal(lessons[8].ids, lessons[9].ids)
    assert [straight.candidates(step) for step in (0, 2, 3, 4, 9)] == [4, 4, 12, 20, 20]


def test_where_the_reader_learns_answers_outweigh_histories() -> None:
    lessons = Lessons(Pretraining(copy_steps=0, grow_steps=1, batch=4, among_random=1.0, read=True), TOKENIZER)
    prompts = [lesson for lesson in (lessons(step) for step in range(1, 9)) if lesson.liked is not None]
    assert prompts
    for lesson in prompts:
        answer = (lesson.weights == 1.0).sum(1).tolist()
        assert answer == [3] * 4
        assert (lesson.weights.sum(1) - 3).max() < 0.5


def test_the_shipped_model_knows_tastes_of_users_and_titles_it_never_saw() -> None:
    path = PretrainedModel(path="raypref-tiny", dtype="float32", lora=None)
    tokenizer = backbone.load_tokenizer(str(SHIPPED_FOLDER))
    found = check(backbone.build(path, tokenizer), tokenizer, unseen(20, 400))
    assert found["valid_ratio"] > 0.98
    assert found["hr@1"] > 0.32  # 0.05 by chance


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_the_shipped_model_is_small(name: str) -> None:
    assert (SHIPPED_FOLDER / name).stat().st_size < 4e6
    account = json.loads(Path(SHIPPED_FOLDER, "training.json").read_text())
    assert account["log"][-1]["step"] == account["config"]["steps"]
