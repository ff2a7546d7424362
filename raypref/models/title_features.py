"""What a language model makes of titles: a vector each, for recommenders that read texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 64


@torch.no_grad()
def title_features(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, titles: Sequence[str], batch: int = BATCH
) -> np.ndarray:
    """(titles, width) float32: of each title the mean of the last hidden states over its own tokens.

    Special tokens that the tokenizer puts around it are read but not counted. A title without tokens has 0.
    """
    encoder: Any = model.base_model  # without the language-model head
    encoder.eval()
    features = np.zeros((len(titles), model.config.get_text_config().hidden_size), dtype=np.float32)
    order = np.argsort([len(title) for title in titles], kind="stable")  # those of like length together
    for first in range(0, len(order), batch):
        part = order[first : first + batch]
        coded = tokenizer(
            [titles[i] for i in part],
            padding=True,
            padding_side="right",
            return_special_tokens_mask=True,
            split_special_tokens=True,
            return_tensors="pt",
        ).to(model.device)
        own = (1 - coded.pop("special_tokens_mask")) * coded["attention_mask"]
        if own.shape[1] == 0:
            continue
        states = encoder(input_ids=coded["input_ids"], attention_mask=coded["attention_mask"]).last_hidden_state
        total = (states.float() * own[..., None]).sum(dim=1)
        features[part] = (total / own.sum(dim=1, keepdim=True).clamp(min=1)).cpu().numpy()
    return features
