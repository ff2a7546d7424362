"""Which stages a run consists of, what each depends on, and the address that follows from it.

    prepare -> tokenize -> expert -> sft -> reference -> align -> evaluate
    prepare -> features -> try, for each penalty -> tune -> fit -> evaluate                     (a baseline)
    prepare -> tokenize -> sft -> evaluate                                 (sft; tallrec, whose tokens are questions)
    prepare -> tokenize -> expert -> sft -> evaluate                                                          (llara)
    prepare -> tokenize                   -> evaluate     (of another data set, with the tokenizer of the first; tallrec
                                                           needs its examples alone)

A stage's address is a hash of its own part of the config and of its inputs' addresses, so a change anywhere gives new
addresses from there on and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from raypref.config import RunConfig
from raypref.config.data import DataConfig
from raypref.config.loading import dump
from raypref.config.model import PretrainedModel
from raypref.config.objectives import Custom
from raypref.config.training import needs_expert, needs_reference
from raypref.data.sources.files import find, items_file
from raypref.models.folders import SHIPPED, local_folder
from raypref.stages.identity import model_identity, source_identity
from raypref.store import Address, Store, digest

# Raise a stage's number when a change to its code changes what it writes: old outputs are then left alone.
VERSIONS = {
    "prepare": 3,
    "tokenize": 3,
    "expert": 2,
    "sft": 1,
    "reference": 1,
    "align": 1,
    "features": 1,
    "try": 1,
    "tune": 2,
    "fit": 2,
    "evaluate": 2,
}


@dataclass(frozen=True)
class Stage:
    """One step of a run: what it is computed from."""

    kind: str
    """prepare, tokenize, expert, sft, reference, align, features, try, tune, fit or evaluate."""
    name: str
    """For people; not part of the hash."""
    config: Mapping[str, Any]
    """The part of the run's config that this stage reads, JSON-ready."""
    inputs: Mapping[str, Stage] = field(default_factory=dict)

    @cached_property
    def address(self) -> Address:
        content = {
            "stage": self.kind,
            "version": VERSIONS[self.kind],
            "config": self.config,
            "inputs": {name: stage.address.key for name, stage in self.inputs.items()},
        }
        return Address(self.kind, self.name, digest(content))

    def input_paths(self, store: Store) -> dict[str, Path]:
        return {name: store.path(stage.address) for name, stage in self.inputs.items()}


@dataclass(frozen=True)
class Chain:
    """All stages of one run, in their order."""

    config: RunConfig
    shared: tuple[Stage, ...]
    """What the trials of a sweep have in common."""
    own: tuple[Stage, ...]
    """What a trial runs itself, in one group of workers: the last evaluates, the one before it trains."""

    def __iter__(self) -> Iterator[Stage]:
        return iter((*self.shared, *self.own))

    @property
    def prepare(self) -> Stage:
        return self.shared[0]

    @property
    def evaluate(self) -> Stage:
        return self.own[-1]

    @property
    def trained(self) -> Stage:
        """The stage that leaves what is evaluated; the evaluation itself where nothing is trained."""
        return self.own[0]


@dataclass(frozen=True)
class AlignedChain(Chain):
    """The chain of an aligned model, its stages by name."""

    tokenize: Stage
    expert: Stage | None
    """None where the objective reads no column of the expert's."""
    sft: Stage
    evaluate_sft: Stage
    reference: Stage | None
    """None where the objective compares with no reference."""
    align: Stage


def chain(config: RunConfig) -> Chain:
    """The stages of a run. Reads source files and local weights to hash them, and refuses what can't be loaded."""
    if config.system == "aligned":
        return aligned_chain(config)
    name, whole = config.name, dump(config)
    prepare = prepare_stage(config)
    evaluation = _evaluation(whole)
    if config.system == "baseline":
        return _baseline_chain(config, prepare, whole["baseline"], evaluation)
    if config.system == "chatrec":
        asked = {name: whole["chat"][name] for name in ("url", "model", "system", "max_tokens")}
        content = {"splits": evaluation["splits"], "max_examples": evaluation["max_examples"]}
        content |= {"chat": asked, "prompt": whole["prompt"]}
        return Chain(config, (prepare,), (Stage("evaluate", name, content, {"prepare": prepare}),))
    model = model_identity(config)
    if config.system == "tallrec":
        return _tallrec_chain(config, whole, model, prepare)
    if config.system == "llara":
        return _llara_chain(config, whole, model, prepare)
    data = {"prepare": prepare, "tokenize": _tokenize(config, whole, model, prepare)}
    evaluated, elsewhere = _evaluated(config, whole, model, data)
    shared = (*data.values(), *elsewhere)
    if config.system == "zero-shot":
        return Chain(config, shared, (Stage("evaluate", name, {**evaluation, "model": model}, evaluated),))
    sft = Stage("sft", name, {"model": model, "training": whole["sft"]}, data)
    return Chain(config, shared, (sft, Stage("evaluate", f"{name}-sft", evaluation, {**evaluated, "model": sft})))


def aligned_chain(config: RunConfig) -> AlignedChain:
    """The stages of an aligned model."""
    if isinstance(config.align.objective, Custom):
        from raypref.objectives.custom import custom_objective  # torch; other objectives need none here

        custom_objective(config.align.objective)  # it may be missing or broken
    name, whole = config.name, dump(config)
    prepare = prepare_stage(config)
    model = model_identity(config)
    tokenize = _tokenize(config, whole, model, prepare)
    data = {"prepare": prepare, "tokenize": tokenize}
    sft = Stage("sft", name, {"model": model, "training": whole["sft"]}, data)
    expert = reference = None
    policy = {**data, "sft": sft}
    if needs_reference(config.align):
        compared: dict[str, Any] = {"splits": ["train", "validation"], "model": config.align.reference}
        if config.resources.precision != "auto":  # log-probs of one precision are no reference in another
            compared["precision"] = config.resources.precision
        reference = Stage("reference", name, compared, policy)
    if needs_expert(config.align):
        expert = _expert(config, whole, prepare)
    optional = {"reference": reference, "expert": expert}
    align_inputs = policy | {key: stage for key, stage in optional.items() if stage is not None}
    align = Stage("align", name, {"training": whole["align"]}, align_inputs)
    evaluation = _evaluation(whole)
    evaluated, elsewhere = _evaluated(config, whole, model, data)
    evaluate_sft = Stage("evaluate", f"{name}-sft", evaluation, {**evaluated, "model": sft})
    shared = (prepare, tokenize, *elsewhere, expert, sft, evaluate_sft, reference)
    return AlignedChain(
        config=config,
        shared=tuple(stage for stage in shared if stage is not None),
        own=(align, Stage("evaluate", name, evaluation, {**evaluated, "model": align})),
        tokenize=tokenize,
        expert=expert,
        sft=sft,
        evaluate_sft=evaluate_sft,
        reference=reference,
        align=align,
    )


def _baseline_chain(
    config: RunConfig, prepare: Stage, recommender: dict[str, Any], evaluation: dict[str, Any]
) -> Chain:
    """The stages of a baseline. Several penalties are tried once, with seed 0; each seed then takes the best."""
    name, inputs = config.name, {"prepare": prepare}
    if recommender["recommender"] == "morec":
        encoder = model_identity(config.model_copy(update={"model": config.model.model_copy(update={"lora": None})}))
        inputs["features"] = Stage("features", name, {"model": encoder}, {"prepare": prepare})
    shared = list(inputs.values())
    penalties = recommender.get("l2", ())
    if len(penalties) > 1:
        tried = {f"{l2:g}": {**recommender, "seed": 0, "l2": [l2]} for l2 in penalties}
        tries = {l2: Stage("try", name, {"recommender": content}, dict(inputs)) for l2, content in tried.items()}
        inputs["tune"] = Stage("tune", name, {"l2": penalties}, tries)
        shared += [*tries.values(), inputs["tune"]]
    fit = Stage("fit", config.name, {"recommender": recommender}, inputs)
    evaluate = Stage("evaluate", config.name, _of_scores(evaluation), {"prepare": prepare, "fit": fit})
    return Chain(config, tuple(shared), (fit, evaluate))


def _tallrec_chain(config: RunConfig, whole: dict[str, Any], model: dict[str, Any], prepare: Stage) -> Chain:
    """The stages of TALLRec: fine-tuned on questions, whose answer is Yes or No, instead of on titles."""
    asked = _tokenize(config, whole, model, prepare, {"questions": whole["tallrec"]})
    sft = Stage("sft", f"{config.name}-tallrec", {"model": model, "training": whole["sft"]}, {"tokenize": asked})
    elsewhere = () if config.transfer is None else (prepare_stage(data_config(config, transfer=True)),)
    inputs = {"prepare": (prepare, *elsewhere)[-1], "questions": asked, "model": sft}  # questions are asked as it goes
    evaluate = Stage("evaluate", f"{config.name}-tallrec", _of_scores(_evaluation(whole)), inputs)
    return Chain(config, (prepare, asked, *elsewhere), (sft, evaluate))


def _llara_chain(config: RunConfig, whole: dict[str, Any], model: dict[str, Any], prepare: Stage) -> Chain:
    """The stages of LLaRA: fine-tuned on prompts with behavioural tokens, which are made from the expert."""
    tokenize = _tokenize(config, whole, model, prepare, {"behaviour": True})
    expert = _expert(config, whole, prepare)
    data = {"prepare": prepare, "tokenize": tokenize}
    content = {"model": model, "training": whole["sft"], "llara": whole["llara"]}
    sft = Stage("sft", f"{config.name}-llara", content, {**data, "expert": expert})
    evaluate = Stage("evaluate", f"{config.name}-llara", _evaluation(whole), {**data, "model": sft})
    return Chain(config, (prepare, tokenize, expert), (sft, evaluate))


def _expert(config: RunConfig, whole: dict[str, Any], prepare: Stage) -> Stage:
    judged = {"recommender": whole["expert"], "splits": ["train", "validation"]}
    return Stage("expert", config.name, judged, {"prepare": prepare})


def _of_scores(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The part that counts where candidates are scored and nothing is generated."""
    return {k: v for k, v in evaluation.items() if k not in ("generate", "beams")}


def prepare_stage(config: RunConfig) -> Stage:
    """The stage that reads the source and cuts the examples."""
    content = {**dump(config)["data"], "source": source_identity(config)}
    if config.data.target == "next":
        content["adherence"] = "liked"  # once it took disliked targets too; with `recpo` targets there are none
    return Stage("prepare", config.name, content)


def _tokenize(
    config: RunConfig,
    whole: dict[str, Any],
    model: dict[str, Any],
    prepare: Stage,
    form: Mapping[str, Any] | None = None,
) -> Stage:
    vocabulary = {k: model[k] for k in ("kind", "vocabulary", "content", "path", "revision") if k in model}
    content = {"prompt": whole["prompt"], "tokenizer": vocabulary, **(form or {})}
    return Stage("tokenize", config.name, content, {"prepare": prepare})


def _evaluated(
    config: RunConfig, whole: dict[str, Any], model: dict[str, Any], data: dict[str, Stage]
) -> tuple[dict[str, Stage], tuple[Stage, ...]]:
    """Examples and tokens that are evaluated, and the stages that make them where they are of another data set."""
    if config.transfer is None:
        return data, ()
    prepare = prepare_stage(data_config(config, transfer=True))
    tokens = _tokenize(config, whole, model, prepare, {"held_out": True})
    tokenize = Stage("tokenize", tokens.name, tokens.config, {"prepare": prepare, "vocabulary": data["tokenize"]})
    return {"prepare": prepare, "tokenize": tokenize}, (prepare, tokenize)


def data_config(config: RunConfig, transfer: bool) -> RunConfig:
    """`config` with the data set that is evaluated in place of the one that is trained on, if there is one."""
    if not transfer or config.transfer is None:
        return config
    return config.model_copy(update={"data": config.transfer, "transfer": None})


def _evaluation(whole: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in whole["evaluation"].items() if k != "batch"}


def located(config: RunConfig) -> RunConfig:
    """`config` with absolute paths of source and model: Ray's processes have working directories of their own.

    Raises:
        UserError: there is no such source.
    """
    model = config.model
    update: dict[str, Any] = {"data": _located(config.data)}
    if config.transfer is not None:
        update["transfer"] = _located(config.transfer)
    if isinstance(model, PretrainedModel) and model.path != SHIPPED and (folder := local_folder(model)) is not None:
        model = model.model_copy(update={"path": str(folder.absolute())})
    return config.model_copy(update={**update, "model": model})


def _located(data: DataConfig) -> DataConfig:
    source = data.source
    if isinstance(path := getattr(source, "path", None), Path):
        found = find(path, source.kind, getattr(source, "files", ()))
        update: dict[str, Any] = {"path": found.absolute()}
        if (items := getattr(source, "items", None)) is not None:
            update["items"] = items_file(items, found).absolute()
        source = source.model_copy(update=update)
    return data.model_copy(update={"source": source})
