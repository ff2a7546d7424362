"""Fitting a sequential recommender: cross-entropy of each next item, Adam, stopped when it ranks no better."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from raypref.config.recommender import FittedConfig
from raypref.errors import UserError
from raypref.recommenders.log import Questions, TrainingLog
from raypref.recommenders.recommender import SequentialRecommender
from raypref.storage.headway import tell

NDCG_AT = 10
RANKED_AT_ONCE = 256  # questions whose scores of the whole catalog are held at a time


@dataclass(frozen=True)
class Group:
    """Where this process stands among those that fit together."""

    rank: int = 0
    world: int = 1


ALONE = Group()


def fit(
    kind: Callable[..., SequentialRecommender],
    log: TrainingLog,
    config: FittedConfig,
    device: torch.device,
    questions: Questions | None = None,
    group: Group = ALONE,
) -> tuple[SequentialRecommender, dict[str, Any]]:
    """A recommender fitted on `log`, and facts for the manifest.

    Fitted once for each of the config's L2 penalties; the one that ranks `questions` best is returned, of equals the
    first. The same seed on the same device with as many threads gives the same weights.

    Args:
        questions: say when to stop, and which penalty. None: some of the log's last interactions, which are then not
            fitted on.
        group: the processes of a batch, each with its share; their default group must be there.

    Raises:
        UserError: no user of the log has two interactions.
    """
    log = log.sample(config.share, config.seed)
    kept, questions = (log, questions) if questions is not None else log.keep_back(config.seed)
    inputs, targets = kept.windows(config.max_length)
    if len(inputs) == 0:
        raise UserError(
            "the recommender has nothing to learn from: no user has two training interactions",
            where="data, expert.share",
            hint="take more data, or a greater share",
        )
    best: tuple[SequentialRecommender, dict[str, Any]] | None = None
    tried: dict[str, float] = {}
    for l2 in config.l2:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout knows no generator
            torch.manual_seed(config.seed)
            model = kind(config, log.items).to(device)
            if group.rank:  # the same weights everywhere, but each share of a batch its own dropout
                torch.manual_seed(config.seed + (group.rank << 32))
            rng = np.random.default_rng([config.seed, 3])
            facts = _descend(model, inputs, targets, questions, l2, rng, group)
        tried[f"{l2:g}"] = facts["ndcg"]
        if best is None or facts["ndcg"] > best[1]["ndcg"]:
            best = model.eval(), {"l2": l2, **facts}
    assert best is not None
    model, facts = best
    counts = {"interactions": len(kept.user), "kept_back": len(log.user) - len(kept.user)}
    ranking = {f"kept_back_ndcg@{NDCG_AT}": facts.pop("ndcg")}
    return model, {**counts, **facts, **(ranking if len(questions.answers) else {}), "tried": tried}


def _descend(
    model: SequentialRecommender,
    inputs: np.ndarray,
    targets: np.ndarray,
    questions: Questions,
    l2: float,
    rng: np.random.Generator,
    group: Group,
) -> dict[str, Any]:
    """Epochs over the windows (W, L), until `questions` are ranked no better; leaves the best epoch's weights."""
    config, device = model.config, model.device
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=l2, fused=True)
    best, best_epoch, best_weights, epoch = -math.inf, 0, copy.deepcopy(model.state_dict()), 0
    curve = []
    for epoch in range(1, config.epochs + 1):
        tell(epoch - 1, config.epochs, "epoch")
        model.train()
        order = rng.permutation(len(inputs))
        losses = []
        for first in range(0, len(order), config.batch):
            rows = np.sort(order[first : first + config.batch])
            used = (inputs[rows] >= 0).any(axis=0)  # padding is on the left, so what is used is a suffix
            own, counts = rows[group.rank :: group.world], 1
            if not len(own):  # a small last batch: some row, for nothing, so that all draw and add up alike
                own, counts = rows[:1], 0
            history, target = (torch.from_numpy(part[own][:, used]).to(device).long() for part in (inputs, targets))
            places = int((targets[rows] >= 0).sum())
            loss = next_item_losses(model, history, target, rng).sum() * counts / places
            optimizer.zero_grad()
            loss.backward()
            _add_up(model, group)
            optimizer.step()
            losses.append(loss.detach())
        # Without questions (every sequence is too short to spare an item) the last epoch is the best one.
        value = ndcg(model, questions) if len(questions.answers) else float(epoch)
        curve.append({"step": epoch, "loss": float(torch.stack(losses).mean()) * group.world, "ndcg": value})
        if value > best:
            best, best_epoch, best_weights = value, epoch, copy.deepcopy(model.state_dict())
        if epoch - best_epoch >= config.patience:
            break
    model.load_state_dict(best_weights)
    return {"epochs": epoch, "best_epoch": best_epoch, "ndcg": best, "curve": curve}


def _add_up(model: SequentialRecommender, group: Group) -> None:
    """The gradient of the whole batch, from those of its shares."""
    if group.world == 1:
        return
    for parameter in model.parameters():
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)


def next_item_losses(model: SequentialRecommender, history: Tensor, target: Tensor, rng: np.random.Generator) -> Tensor:
    """(places,) `-log softmax(<sequence, item>)` of the next item at each place; -1 is padding in both tensors.

    Over the whole catalog, or over the target and `sampled_items` others drawn for the batch: the sum over the
    catalog is then estimated by theirs, each standing for its share of the others.
    """
    places = target >= 0
    sequences = model.encode(history.masked_fill(history < 0, model.items))[places]
    target = target[places]
    size, embedding = model.config.sampled_items, model.item_embedding
    if size >= model.items:
        return F.cross_entropy(sequences @ embedding.T, target, reduction="none")
    drawn = torch.from_numpy(rng.choice(model.items, size, replace=False)).to(target.device)
    own = (sequences * embedding[target]).sum(dim=-1, keepdim=True)
    others = sequences @ embedding[drawn].T + math.log((model.items - 1) / size)
    others = others.masked_fill(drawn == target[:, None], -torch.inf)
    return F.cross_entropy(torch.cat([own, others], dim=1), torch.zeros_like(target), reduction="none")


@torch.no_grad()
def ndcg(model: SequentialRecommender, questions: Questions) -> float:
    """Mean NDCG@10 of the answers among the questions' candidates; a tie counts against the answer."""
    model.eval()
    gains = []
    for first in range(0, len(questions.answers), RANKED_AT_ONCE):
        part = slice(first, first + RANKED_AT_ONCE)
        answers = torch.from_numpy(questions.answers[part]).to(model.device)[:, None]
        sequences = model.sequence_embedding(questions.histories[part])
        if questions.candidates is None:
            scores = sequences @ model.item_embedding.T
            own = scores.gather(1, answers)
        else:
            candidates = questions.candidates[part]
            scores = model.scores(sequences, candidates)
            at = torch.from_numpy(candidates).to(answers.device) == answers
            own = scores.gather(1, at.int().argmax(dim=1, keepdim=True))
        rank = (scores >= own).sum(dim=1)  # the answer itself included
        gains.append(torch.where(rank <= NDCG_AT, 1 / torch.log2(rank + 1.0), 0.0))
    return float(torch.cat(gains).mean())
