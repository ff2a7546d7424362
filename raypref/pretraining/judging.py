"""What a base model is asked beside its answers: judges of its middle layers, and a reader of what they know.

A judge tells from a candidate's state which one the user takes; the last layer is then taught to read that for the
answer: where to look (`looking`) and what to write (`writing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from raypref.config.model import ScratchModel
from raypref.models.scoring import vocabulary_logits
from raypref.pretraining.lessons import Lesson

WORDS = 2  # of a title, a token each
JUDGED = 2  # layers whose states are asked which candidate the user takes, at both of its words
GATHERED = 3  # layers whose states are asked at its last word alone, from where an answer can read it
READER, HEADS = 3, (0, 2)  # the layer, counted from 0, whose heads read the candidate's two words for the answer
MODEL = ScratchModel(hidden_size=128, layers=4, heads=4, key_value_heads=2, intermediate_size=384, vocabulary=1536)


class Judge(torch.nn.Module):
    """Tells from a middle layer which candidate the user takes: a second way to ask, which only training has.

    A candidate's state there has seen the history and the candidate alone. Asked at each candidate, a model is told
    twenty times a prompt what it would else learn of one answer, through all layers above. In a list that holds more
    items that the user took and liked, each of them is told from those that it did not, as the answer is.
    """

    def __init__(self, words: int = WORDS) -> None:
        """`words`: how many of a title's last tokens it reads."""
        super().__init__()
        self.words = words
        self.score = torch.nn.Linear(words * MODEL.hidden_size, 1, bias=False)

    def forward(self, states: Tensor, lesson: Lesson) -> Tensor:
        """Mean cross-entropy of the lists, in nats, from the (B, L, width) states of the layer."""
        assert lesson.liked is not None
        logits = self.scores(states, lesson)
        others = logits.masked_fill(lesson.liked, -torch.inf).logsumexp(-1, keepdim=True)
        losses = (torch.logaddexp(logits, others) - logits).masked_fill(~lesson.liked, 0.0)
        return (losses.sum(-1) / lesson.liked.sum(-1)).mean()

    def scores(self, states: Tensor, lesson: Lesson) -> Tensor:
        """(B, C) scores of the candidates, from the (B, L, width) states of the layer."""
        assert lesson.ends is not None
        places = lesson.ends[..., None] - torch.arange(self.words)
        chosen = states[torch.arange(len(states))[:, None, None], places]
        scores: Tensor = self.score(torch.nn.functional.rms_norm(chosen, chosen.shape[-1:]).flatten(2))[..., 0]
        return scores


def looking(attentions: Sequence[Tensor], lesson: Lesson) -> Tensor:
    """Loss, in nats, of where the reader's heads look from the places of the answer's two words.

    Each has to look at the end of the title of the candidate taken, where the judge knows what it is worth.

    Args:
        attentions: of each layer, (B, heads, L, L).
    """
    assert lesson.liked is not None
    losses = []
    for word, head in enumerate(HEADS):
        seen = attentions[READER][:, head].gather(1, _places(lesson, word, attentions[READER].shape[-1]))[:, 0]
        at_ends = seen.gather(-1, _known(lesson.ends))
        losses.append(-at_ends.clamp_min(1e-9).log()[lesson.liked].mean())
    return torch.stack(losses).sum()


def writing(model: Any, states: Tensor, lesson: Lesson) -> Tensor:
    """Loss, in nats, of what the reader would write, were its head to look at one candidate alone: that one's word.

    Twenty words a prompt, of which an answer tells one.

    Args:
        states: (B, L, width) what the reader reads.
    """
    layer, ends, rows = model.base_model.layers[READER], _known(lesson.ends), torch.arange(len(states))
    size, shared = MODEL.hidden_size // MODEL.heads, MODEL.heads // MODEL.key_value_heads
    values = layer.self_attn.v_proj(layer.input_layernorm(states[rows[:, None], ends]))
    losses = []
    for word, head in enumerate(HEADS):
        read = values[..., size * (head // shared) :][..., :size]
        read = read @ layer.self_attn.o_proj.weight[:, size * head : size * (head + 1)].T
        there = states[rows, _known(lesson.asked_at) + word, None].detach() + read
        there = there + layer.mlp(layer.post_attention_layernorm(there))
        logits = vocabulary_logits(model, model.base_model.norm(there))
        words = lesson.ids.gather(1, ends - (WORDS - 1 - word))
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), words.flatten()))
    return torch.stack(losses).sum()


def _known(places: Tensor | None) -> Tensor:
    assert places is not None
    return places


def _places(lesson: Lesson, word: int, length: int) -> Tensor:
    """(B, 1, L) index of the row of attentions that belongs to the place of the answer's word."""
    return (_known(lesson.asked_at) + word)[:, None, None].expand(-1, 1, length)


def below(model: Any, lesson: Lesson) -> Tensor:
    """(B, L, width) states of the judge's layer, without the layers above."""
    states: list[Tensor] = []
    hook = model.base_model.layers[JUDGED - 1].register_forward_hook(lambda _, __, output: states.append(output))
    whole, model.config.num_hidden_layers = model.config.num_hidden_layers, JUDGED
    try:
        model.base_model(input_ids=lesson.ids, use_cache=False)
    finally:
        hook.remove()
        model.config.num_hidden_layers = whole
    return states[0]
