"""Causal language models: built from config or loaded by name, with or without LoRA."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from raypref.config.model import BareModel, PretrainedModel, ScratchModel
from raypref.errors import UserError
from raypref.models.behaviour import attach_saved, detached, put_back, save_behaviour
from raypref.models.folders import check_model, local_folder
from raypref.models.shapes import SHAPES

if TYPE_CHECKING:  # peft takes two seconds to import, in every worker: only where there is an adapter
    from peft import PeftModel

    Policy = PreTrainedModel | PeftModel
else:
    Policy = PreTrainedModel
BEGIN, END, PAD = "<s>", "</s>", "<pad>"
SPECIAL_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
MAX_POSITIONS = 4096
logging.disable_progress_bar()  # a bar for each model that is loaded, between a command's own lines


def train_tokenizer(
    texts: Iterable[str], vocabulary: int, apart: Sequence[str | Regex] = ("\n",), join: bool = False
) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer (Llama-3's kind) of at most `vocabulary` tokens, fitted on `texts`.

    Args:
        apart: strings or patterns that share no token with what stands beside them.
        join: a token may span several words.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # A newline is a token of its own, so that a title's tokens are the same in the prompt and as the answer.
            *(pre_tokenizers.Split(text, behavior="isolated") for text in apart),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not join),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BEGIN, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        model_max_length=MAX_POSITIONS,
        split_special_tokens=True,
    )


def load_tokenizer(path: Path | str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name; one without a pad token pads with its end token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), revision=revision)
    except (OSError, ValueError) as error:
        raise _not_loadable(str(path), "tokenizer", error) from error
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end token", where=str(path), hint="take another model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build(config: BareModel, tokenizer: PreTrainedTokenizerBase) -> Policy:
    """The untrained policy: the backbone, with a fresh adapter if the config has LoRA."""
    torch.manual_seed(config.seed)
    model: Any
    if isinstance(config, ScratchModel):
        special = {name: getattr(tokenizer, name) for name in SPECIAL_TOKEN_IDS}
        model = AutoModelForCausalLM.from_config(_llama(config, len(tokenizer), **special))
    else:
        model = _load_weights(config)
    return _adapted(model, config)


def skeleton(config: BareModel, vocabulary: int) -> Policy:
    """The policy's architecture with weights that are not set: to be called where tensors have no content."""
    if isinstance(config, ScratchModel):
        model: Any = AutoModelForCausalLM.from_config(_llama(config, vocabulary))
    else:
        model = AutoModelForCausalLM.from_config(_architecture(config), dtype=_dtype(config))
        _checkpointed(model, config)
    return _adapted(model, config)


def positions(config: BareModel) -> int | None:
    """How many tokens the model was made to read at once; None where its config does not say."""
    if isinstance(config, ScratchModel):
        return MAX_POSITIONS
    found: int | None = getattr(_architecture(config).get_text_config(), "max_position_embeddings", None)
    return found


def _architecture(config: PretrainedModel) -> Any:
    if local_folder(config) is None and config.path in SHAPES:  # what weights cost is known without them
        shape = dict(SHAPES[config.path])
        return AutoConfig.for_model(shape.pop("model_type"), **shape)
    path = local_folder(config) or config.path
    try:
        return AutoConfig.from_pretrained(str(path), revision=config.revision)
    except (OSError, ValueError) as error:
        raise _not_loadable(config.path, "model", error) from error


def _adapted(model: Any, config: BareModel) -> Policy:
    """The model with a fresh adapter, if the config has LoRA."""
    if config.lora is not None:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(config.seed)
        targets = config.lora.target_modules
        model = get_peft_model(
            model,
            LoraConfig(
                r=config.lora.rank,
                lora_alpha=config.lora.alpha,
                lora_dropout=config.lora.dropout,
                target_modules=targets if isinstance(targets, str) else list(targets),
                task_type="CAUSAL_LM",
            ),
        )
    made: Policy = model
    return made


def restore(config: BareModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Policy:
    """The policy as `save` left it in `folder`, ready to be trained on.

    Raises:
        UserError: its files can't be read.
    """
    try:
        if config.lora is None:
            loader: Any = AutoModelForCausalLM
            whole: PreTrainedModel = loader.from_pretrained(
                folder, use_safetensors=True, generation_config=GenerationConfig()
            )
            _keep_special_tokens_alone(whole)
            attach_saved(whole, folder)
            return whole
        from peft import PeftModel

        base: Any = build(config.model_copy(update={"lora": None}), tokenizer)
        adapted: PeftModel = PeftModel.from_pretrained(base, folder, is_trainable=True)
        attach_saved(adapted, folder)
        return adapted
    except (OSError, ValueError, SafetensorError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        hint = f"delete {folder.parent} and run the same command again"
        raise UserError(f"a trained model can't be read: {why}", where=str(folder), hint=hint) from error


def save(model: Policy, folder: Path) -> None:
    """Weights as safetensors, the adapter alone where there is one, and what reads behavioural tokens."""
    behaviour = detached(model)
    model.save_pretrained(str(folder))
    if behaviour is not None:
        put_back(model, behaviour)
        save_behaviour(behaviour, folder)


def untie_adapted(model: Any) -> None:
    """Give the head its own table where it shares one with the embeddings and an adapter changes either of them.

    Merged into the one table, the adapter of either would act on both.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    inner = model.get_base_model()
    head, embeddings = inner.get_output_embeddings(), inner.get_input_embeddings()
    if not any(isinstance(layer, BaseTunerLayer) for layer in (head, embeddings)):
        return
    own: Any = head.get_base_layer() if isinstance(head, BaseTunerLayer) else head
    own.weight = torch.nn.Parameter(own.weight.detach().clone(), requires_grad=False)
    inner.config.get_text_config().tie_word_embeddings = inner.config.tie_word_embeddings = False


def _llama(config: ScratchModel, vocabulary: int, **special: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_value_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        **special,
    )


def _dtype(config: PretrainedModel) -> torch.dtype:
    """float32 for weights that are trained themselves: bfloat16 loses updates smaller than 1/256 of a weight."""
    held: torch.dtype = torch.float32 if config.lora is None else getattr(torch, config.dtype)
    return held


def _checkpointed(model: Any, config: PretrainedModel) -> None:
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()


def _load_weights(config: PretrainedModel) -> PreTrainedModel:
    check_model(config)
    path = str(local_folder(config) or config.path)
    loader: Any = AutoModelForCausalLM  # its types leave out the second result
    model: PreTrainedModel
    try:
        model, info = loader.from_pretrained(
            path,
            revision=config.revision,
            dtype=_dtype(config),
            use_safetensors=True,
            output_loading_info=True,
            generation_config=GenerationConfig(),
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_loadable(config.path, "model", error) from error
    if info["missing_keys"]:  # transformers would leave them random, with no more than a warning
        missing = ValueError("weights are missing: " + ", ".join(sorted(info["missing_keys"])))
        raise _not_loadable(config.path, "model", missing)
    _keep_special_tokens_alone(model)
    _checkpointed(model, config)
    return model


def _keep_special_tokens_alone(model: Any) -> None:
    """Of what a model folder says of generation keep its special tokens: how answers are found is the evaluation's.

    Penalties, lengths, beams and sampling of a chat model would act on answers, and some can't be saved again.
    """
    special = {name: getattr(model.config, name, None) for name in SPECIAL_TOKEN_IDS}
    model.generation_config = GenerationConfig(**special)


def _not_loadable(path: str, what: str, error: Exception) -> UserError:
    return UserError(
        f"the {what} can't be loaded: {str(error).splitlines()[0][:200]}",
        where=f"model.path = {path}",
        hint="check the name, log in to the hub if it is gated, or give a folder that holds the model",
    )
