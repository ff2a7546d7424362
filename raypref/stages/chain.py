"""Which stages a run consists of, what each depends on, and the address that follows from it.

    prepare -> tokenize -> expert -> sft -> reference -> align -> evaluate
    prepare -> features -> try, for each penalty -> tune -> fit -> evaluate                     (a baseline)
    prepare -> tokenize -> sft -> evaluate                                 (sft; tallrec, whose tokens are questions)
    prepare -> tokenize -> expert -> sft -> evaluate                                                          (llara)
    prepare -> adapt -> tokenize -> ...                                                           (an adapted model)
    prepare -> tokenize                   -> evaluate     (of another data set, with the tokenizer of the first; tallrec
                                                           needs its examples alone)

A stage's address is a hash of its own part of the config and of its inputs' addresses, so a change anywhere gives new
addresses from there on and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raypref.config import RunConfig
from raypref.config.custom_objective import Custom
from raypref.config.data import DataConfig
from raypref.config.loading import dump
from raypref.config.model import PretrainedModel
from raypref.config.training import needs_expert, needs_reference
from raypref.data.sources.files import find, items_file
from raypref.models.folders import SHIPPED, local_folder
from raypref.models.gguf_source import gguf_model, made
from raypref.stages.adapt import adapted
from raypref.stages.baseline import baseline_stages
from raypref.stages.evaluate import EVALUATE, evaluation_of, of_scores
from raypref.stages.expert import expert_stage
from raypref.stages.identity import model_identity, prompt_identity, section_identity
from raypref.stages.prepare import data_config, prepare_stage
from raypref.stages.reference import reference_stage
from raypref.stages.stage import AlignedChain, Chain, Stage
from raypref.stages.tokenize import tokenize_stage
from raypref.stages.train import ALIGN, SFT
from raypref.storage.store import Store


def chain(config: RunConfig) -> Chain:
    """The stages of a run. Reads source files and local weights to hash them, and refuses what can't be loaded."""
    return SYSTEMS[config.system](config)


def aligned_chain(config: RunConfig) -> AlignedChain:
    """The stages of an aligned model."""
    if isinstance(config.align.objective, Custom):
        from raypref.objectives.custom import custom_objective  # torch; other objectives need none here

        custom_objective(config.align.objective)  # it may be missing or broken
    name, whole, model = config.name, dump(config), model_identity(config)
    data = _tokenized(config, whole, model)
    prepare, tokenize = data["prepare"], data["tokenize"]
    sft = Stage(SFT, name, {"model": model, "training": whole["sft"]}, data)
    policy = {**data, "sft": sft}
    reference = reference_stage(config, policy) if needs_reference(config.align) else None
    expert = expert_stage(config, whole, prepare) if needs_expert(config.align) else None
    optional = {"reference": reference, "expert": expert}
    align_inputs = policy | {key: stage for key, stage in optional.items() if stage is not None}
    align = Stage(ALIGN, name, {"training": section_identity(whole, "align")}, align_inputs)
    evaluation = evaluation_of(whole)
    evaluated, elsewhere = _evaluated(config, whole, model, data)
    evaluate_sft = Stage(EVALUATE, f"{name}-sft", evaluation, {**evaluated, "model": sft})
    shared = (*data.values(), *elsewhere, expert, sft, evaluate_sft, reference)
    return AlignedChain(
        config=config,
        shared=tuple(stage for stage in shared if stage is not None),
        own=(align, Stage(EVALUATE, name, evaluation, {**evaluated, "model": align})),
        tokenize=tokenize,
        expert=expert,
        sft=sft,
        evaluate_sft=evaluate_sft,
        reference=reference,
        align=align,
    )


def _sft_chain(config: RunConfig) -> Chain:
    """The stages of a model after fine-tuning, without alignment."""
    whole, model = dump(config), model_identity(config)
    data = _tokenized(config, whole, model)
    evaluated, elsewhere = _evaluated(config, whole, model, data)
    sft = Stage(SFT, config.name, {"model": model, "training": whole["sft"]}, data)
    evaluate = Stage(EVALUATE, f"{config.name}-sft", evaluation_of(whole), {**evaluated, "model": sft})
    return Chain(config, (*data.values(), *elsewhere), (sft, evaluate))


def _zero_shot_chain(config: RunConfig) -> Chain:
    """The stages of a model as it comes."""
    whole, model = dump(config), model_identity(config)
    data = _tokenized(config, whole, model)
    evaluated, elsewhere = _evaluated(config, whole, model, data)
    evaluate = Stage(EVALUATE, config.name, {**evaluation_of(whole), "model": model}, evaluated)
    return Chain(config, (*data.values(), *elsewhere), (evaluate,))


def _baseline_chain(config: RunConfig) -> Chain:
    """The stages of a baseline."""
    whole, prepare = dump(config), prepare_stage(config)
    shared, fit = baseline_stages(config, whole, prepare)
    evaluate = Stage(EVALUATE, config.name, of_scores(evaluation_of(whole)), {"prepare": prepare, "fit": fit})
    return Chain(config, shared, (fit, evaluate))


def _chatrec_chain(config: RunConfig) -> Chain:
    """The stages of a chat model that is asked, and not trained."""
    whole, prepare = dump(config), prepare_stage(config)
    content: dict[str, Any] = {name: evaluation_of(whole)[name] for name in ("splits", "max_examples")}
    content["chat"] = {name: whole["chat"][name] for name in ("url", "model", "system", "max_tokens")}
    content["prompt"] = prompt_identity(whole)
    return Chain(config, (prepare,), (Stage(EVALUATE, config.name, content, {"prepare": prepare}),))


def _tallrec_chain(config: RunConfig) -> Chain:
    """The stages of TALLRec: fine-tuned on questions, whose answer is Yes or No, instead of on titles."""
    whole, model = dump(config), model_identity(config)
    data = _tokenized(config, whole, model, {"questions": whole["tallrec"]})
    learned = {name: stage for name, stage in data.items() if name == "adapt"}
    prepare, asked = data["prepare"], data["tokenize"]
    inputs = {"tokenize": asked, **learned}
    sft = Stage(SFT, f"{config.name}-tallrec", {"model": model, "training": whole["sft"]}, inputs)
    elsewhere = () if config.transfer is None else (prepare_stage(data_config(config, transfer=True)),)
    inputs = {  # questions are asked as it goes
        "prepare": (prepare, *elsewhere)[-1],
        "questions": asked,
        "model": sft,
        **learned,
    }
    evaluate = Stage(EVALUATE, f"{config.name}-tallrec", of_scores(evaluation_of(whole)), inputs)
    return Chain(config, (*data.values(), *elsewhere), (sft, evaluate))


def _llara_chain(config: RunConfig) -> Chain:
    """The stages of LLaRA: fine-tuned on prompts with behavioural tokens, which are made from the expert."""
    whole, model = dump(config), model_identity(config)
    data = _tokenized(config, whole, model, {"behaviour": True})
    expert = expert_stage(config, whole, data["prepare"])
    content = {"model": model, "training": whole["sft"], "llara": whole["llara"]}
    sft = Stage(SFT, f"{config.name}-llara", content, {**data, "expert": expert})
    evaluate = Stage(EVALUATE, f"{config.name}-llara", evaluation_of(whole), {**data, "model": sft})
    return Chain(config, (*data.values(), expert), (sft, evaluate))


SYSTEMS: dict[str, Callable[[RunConfig], Chain]] = {
    "aligned": aligned_chain,
    "sft": _sft_chain,
    "zero-shot": _zero_shot_chain,
    "baseline": _baseline_chain,
    "chatrec": _chatrec_chain,
    "tallrec": _tallrec_chain,
    "llara": _llara_chain,
}


def _tokenized(
    config: RunConfig, whole: dict[str, Any], model: dict[str, Any], form: dict[str, Any] | None = None
) -> dict[str, Stage]:
    """The examples that are trained on, their tokens, and the model that learns from them, if it is adapted first."""
    prepare = prepare_stage(config)
    inputs = {"prepare": prepare, **adapted(config, whole, prepare)}
    return {**inputs, "tokenize": tokenize_stage(config, whole, model, inputs, form)}


def _evaluated(
    config: RunConfig, whole: dict[str, Any], model: dict[str, Any], data: dict[str, Stage]
) -> tuple[dict[str, Stage], tuple[Stage, ...]]:
    """Examples and tokens that are evaluated, and the stages that make them where they are of another data set."""
    if config.transfer is None:
        return data, ()
    prepare = prepare_stage(data_config(config, transfer=True))
    inputs = {"prepare": prepare, "vocabulary": data["tokenize"]}
    tokenize = tokenize_stage(config, whole, model, inputs, {"held_out": True})
    return {**data, "prepare": prepare, "tokenize": tokenize}, (prepare, tokenize)


def located(config: RunConfig) -> RunConfig:
    """`config` with absolute paths of source and model: Ray's processes have working directories of their own.

    Raises:
        UserError: there is no such source.
    """
    model = config.backbone
    update: dict[str, Any] = {"data": _located(config.data)}
    if config.transfer is not None:
        update["transfer"] = _located(config.transfer)
    if isinstance(model, PretrainedModel) and model.path != SHIPPED and (folder := local_folder(model)) is not None:
        model = model.model_copy(update={"path": str(folder.absolute())})
    return config.model_copy(update=update).with_backbone(model)


def with_model(config: RunConfig, root: str | Path, make: bool) -> RunConfig:
    """`config` with its model's folder, where that comes as a GGUF file; `make`: fetched and converted if needed.

    `root` is opened where the model comes so, and else left alone.
    """
    model = config.backbone
    if not isinstance(model, PretrainedModel) or (gguf := gguf_model(model.path)) is None:
        return config
    store = Store(root)
    if not make and not store.done(gguf.address):
        return config
    return config.with_backbone(model.model_copy(update={"path": str(made(gguf, store))}))


def _located(data: DataConfig) -> DataConfig:
    source = data.source
    if isinstance(path := getattr(source, "path", None), Path):
        found = find(path, source.kind, getattr(source, "files", ()))
        update: dict[str, Any] = {"path": found.absolute()}
        if (items := getattr(source, "items", None)) is not None:
            update["items"] = items_file(items, found).absolute()
        source = source.model_copy(update=update)
    return data.model_copy(update={"source": source})
