"""One run, whole: what the chain of stages is computed from."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from raypref.config.base import Frozen
from raypref.config.chat import ChatConfig
from raypref.config.data import DataConfig, PromptConfig
from raypref.config.model import AdaptedModel, ModelConfig, PretrainedModel, ScratchModel
from raypref.config.recommender import BaselineConfig, ExpertConfig, Sasrec
from raypref.config.systems import SYSTEMS, SystemName
from raypref.config.training import (
    AlignConfig,
    EvaluationConfig,
    LlaraConfig,
    ResourceConfig,
    TallrecConfig,
    TrainingConfig,
)


def _a_name(text: str) -> str:
    if not text.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError(f"'{text}': letters, digits, '.', '-' and '_' only, as it becomes part of folder names")
    return text


class RunConfig(Frozen):
    """A run of raypref: data, model, fine-tuning, alignment, evaluation."""

    name: Annotated[str, AfterValidator(_a_name)] = "run"
    """A word for people; part of folder names, never of what is computed."""
    system: SystemName = "aligned"
    """What is evaluated: the aligned model; the model after SFT; the model as it comes; the recommender of `baseline`;
    the chat model of `chat`; the model fine-tuned on TALLRec's questions; or on LLaRA's hybrid prompts."""
    data: DataConfig = DataConfig()
    """From a raw log to preference examples."""
    transfer: DataConfig | None = None
    """Another data set, on whose held-out users the trained model is evaluated instead (cross-domain)."""
    prompt: PromptConfig = PromptConfig()
    """How an example becomes text."""
    model: ModelConfig = Field(default_factory=ScratchModel)
    """The backbone."""
    expert: ExpertConfig = Field(default_factory=lambda: Sasrec(l2=(1e-6,)))
    """The sequential recommender that napo, eapo and the like ask for its judgement; of no effect on the others."""
    baseline: BaselineConfig = Field(default_factory=Sasrec)
    """The recommender that system `baseline` evaluates; of no effect on the others."""
    chat: ChatConfig = ChatConfig()
    """The chat model that system `chatrec` asks; of no effect on the others."""
    tallrec: TallrecConfig = TallrecConfig()
    """What system `tallrec` is fine-tuned on, as `sft` says; of no effect on the others."""
    llara: LlaraConfig = LlaraConfig()
    """How system `llara` reads what `expert` knows of items; of no effect on the others."""
    sft: TrainingConfig = TrainingConfig()
    """Supervised fine-tuning on the preferred titles."""
    align: AlignConfig = AlignConfig()
    """Preference alignment."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured."""
    resources: ResourceConfig = ResourceConfig()
    """Hardware; changes nothing but the time."""

    @property
    def backbone(self) -> ScratchModel | PretrainedModel:
        """The model that files hold: of an adapted one what it was before, until its stage has run (`Chain.ready`)."""
        return self.model.base if isinstance(self.model, AdaptedModel) else self.model

    def with_backbone(self, model: ScratchModel | PretrainedModel) -> RunConfig:
        """The same with another one."""
        new = self.model.model_copy(update={"base": model}) if isinstance(self.model, AdaptedModel) else model
        return self.model_copy(update={"model": new})

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        c = self.data.candidates
        beside_target = c.train_future + c.train_random - 1
        if self.align.negatives > beside_target:
            raise ValueError(
                f"align.negatives = {self.align.negatives}, but an example has {beside_target} candidates beside its "
                f"target: take at most {beside_target}, or raise data.candidates.train_random"
            )
        sharded = self.resources.engine == "deepspeed" and self.resources.zero_stage == 3
        if self.align.reference_update != "none" and sharded:
            raise ValueError(
                "align.reference_update: under ZeRO 3 no worker holds whole weights to copy; take "
                "resources.zero_stage 2, or resources.engine torch"
            )
        if self.align.validations and self.align.negatives > c.eval_random:
            raise ValueError(
                f"align.negatives = {self.align.negatives}, but a validation example has {c.eval_random} candidates "
                "beside its target: take no more, raise data.candidates.eval_random, or set align.validations to 0"
            )
        if self.transfer is not None and (why := SYSTEMS[self.system].bound):
            able = ", ".join(name for name, system in SYSTEMS.items() if not system.bound)
            raise ValueError(
                f"transfer is another data set, and system = {self.system} {why}; or take system "
                f"{able}, or leave transfer out"
            )
        if self.align.reference == "base" and self.model.lora is None:
            raise ValueError(
                "align.reference = base is the model with its adapter off, but the model has none: set model.lora, or "
                "take align.reference = sft"
            )
        for stage, training in (("sft", self.sft), ("align", self.align)):
            if training.global_batch % self.resources.workers:
                raise ValueError(
                    f"{stage}.global_batch = {training.global_batch} does not divide among "
                    f"resources.workers = {self.resources.workers}"
                )
        return self
