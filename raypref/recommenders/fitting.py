"""Fitting a sequential recommender: cross-entropy of each next item, Adam, stopped when it ranks no better."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raypref.config.recommender import ExpertConfig
from raypref.errors import UserError
from raypref.recommenders.log import Questions, TrainingLog
from raypref.recommenders.recommender import SequentialRecommender

NDCG_AT = 10
RANKED_AT_ONCE = 256  # questions whose scores of the whole catalog are held at a time


def fit(
    kind: type[SequentialRecommender], log: TrainingLog, config: ExpertConfig, device: torch.device
) -> tuple[SequentialRecommender, dict[str, Any]]:
    """A recommender fitted on `log`, and facts for the manifest.

    The same seed on the same device with as many threads gives the same weights.

    Raises:
        UserError: no user of the log has two interactions.
    """
    kept, questions = log.sample(config.share, config.seed).keep_back(config.seed)
    inputs, targets = kept.windows(config.max_length)
    if len(inputs) == 0:
        raise UserError(
            "the expert has nothing to learn from: no user has two training interactions",
            where="data, expert.share",
            mend="take more data, or a greater share",
        )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout knows no generator
        torch.manual_seed(config.seed)
        model = kind(config, log.items).to(device)
        facts = _descend(model, inputs, targets, questions, np.random.default_rng([config.seed, 3]))
    return model.eval(), {"interactions": len(kept.user), "kept_back": len(questions.answers), **facts}


def _descend(
    model: SequentialRecommender,
    inputs: np.ndarray,
    targets: np.ndarray,
    questions: Questions,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Epochs over the windows (W, L), until `questions` are ranked no better; leaves the best epoch's weights."""
    config, device = model.config, model.embedding.weight.device
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.l2)
    best, best_epoch, best_weights, epoch = -math.inf, 0, copy.deepcopy(model.state_dict()), 0
    for epoch in range(1, config.epochs + 1):
        model.train()
        order = rng.permutation(len(inputs))
        for first in range(0, len(order), config.batch):
            rows = np.sort(order[first : first + config.batch])
            used = (inputs[rows] >= 0).any(axis=0)  # padding is on the left, so what is used is a suffix
            history, target = (torch.from_numpy(part[rows][:, used]).to(device).long() for part in (inputs, targets))
            loss = next_item_loss(model, history, target, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        # Without questions (every sequence is too short to spare an item) the last epoch is the best one.
        value = ndcg(model, questions) if len(questions.answers) else float(epoch)
        if value > best:
            best, best_epoch, best_weights = value, epoch, copy.deepcopy(model.state_dict())
        if epoch - best_epoch >= config.patience:
            break
    model.load_state_dict(best_weights)
    found = {f"kept_back_ndcg@{NDCG_AT}": best} if len(questions.answers) else {}
    return {"epochs": epoch, "best_epoch": best_epoch, **found}


def next_item_loss(model: SequentialRecommender, history: Tensor, target: Tensor, rng: np.random.Generator) -> Tensor:
    """Mean over all places of `-log softmax(<sequence, item>)` of the next item; -1 is padding in both tensors.

    Over the whole catalog, or over the target and `sampled_items` others drawn for the batch: the sum over the
    catalog is then estimated by theirs, each standing for its share of the others.
    """
    places = target >= 0
    sequences = model.encode(history.masked_fill(history < 0, model.items))[places]
    target = target[places]
    size = model.config.sampled_items
    if size >= model.items:
        return F.cross_entropy(sequences @ model.item_embedding.T, target)
    drawn = torch.from_numpy(rng.choice(model.items, size, replace=False)).to(target.device)
    own = (sequences * model.embedding(target)).sum(dim=-1, keepdim=True)
    others = sequences @ model.embedding(drawn).T + math.log((model.items - 1) / size)
    others = others.masked_fill(drawn == target[:, None], -torch.inf)
    return F.cross_entropy(torch.cat([own, others], dim=1), torch.zeros_like(target))


@torch.no_grad()
def ndcg(model: SequentialRecommender, questions: Questions) -> float:
    """Mean NDCG@10 of the answers among the whole catalog; a tie counts against the answer."""
    model.eval()
    gains = []
    for first in range(0, len(questions.answers), RANKED_AT_ONCE):
        part = slice(first, first + RANKED_AT_ONCE)
        answers = torch.from_numpy(questions.answers[part]).to(model.embedding.weight.device)
        scores = model.sequence_embedding(questions.histories[part]) @ model.item_embedding.T
        rank = (scores >= scores.gather(1, answers[:, None])).sum(dim=1)  # the answer itself included
        gains.append(torch.where(rank <= NDCG_AT, 1 / torch.log2(rank + 1.0), 0.0))
    return float(torch.cat(gains).mean())
