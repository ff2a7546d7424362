"""How a stage is trained, and on what hardware."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raypref.config.base import Frozen, unknown_key
from raypref.config.mixture import SFT, Mixture, Part
from raypref.config.objective_switches import COLUMNS, Objective
from raypref.config.objectives import OBJECTIVE_CONFIGS, ObjectiveConfig, Recpo

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class TrainingConfig(Frozen):
    """Optimization of one stage: AdamW, cosine decay after a linear warm-up (RecPO E.3)."""

    learning_rate: Positive = 1e-5
    """Peak learning rate."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps over which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay."""
    global_batch: Count = 128
    """Examples of one optimizer step, over all workers."""
    epochs: Positive = 3.0
    """Passes over the training examples."""
    max_steps: Count | None = None
    """Stop after so many steps, however many epochs that is; the learning rate's schedule ends there."""
    clip: Positive = 1.0
    """Gradients with a greater norm are scaled down to it."""
    validations: Annotated[int, Field(ge=0)] = 4
    """How often to validate, evenly spread, the last time at the end; 0: never."""
    validation_examples: Count = 256
    """Validation examples used, at most."""
    keep: Literal["loss", "hr@1", "last"] = "loss"
    """Which weights are kept: the best validation loss, the best validation HR@1 by exact ranking, or the last."""
    seed: int = 0
    """Seed of the order of examples, of the negatives drawn and of dropout."""


class TallrecConfig(Frozen):
    """TALLRec's questions, whose answer is Yes or No."""

    negatives: Count = 1
    """Candidates of each training example beside its target that are asked about too; the answer is No."""
    seed: int = 0
    """Seed of their choice."""


class LlaraConfig(Frozen):
    """LLaRA's behavioural tokens, projected from the item embeddings of `expert`."""

    hidden: Count = 256
    """Hidden units of the projection."""
    curriculum: bool = True
    """From prompts of texts alone to hybrid ones over the training; false: hybrid ones throughout."""


class AlignConfig(TrainingConfig):
    """Preference alignment of the SFT model."""

    objective: ObjectiveConfig = Recpo()
    """The loss and its hyper-parameters."""
    objectives: dict[str, Positive] = Field(default_factory=dict)
    """A weighted sum of losses instead, e.g. {sdpo: 1, sft: 0.1}; `objective`'s hyper-parameters count for the part of
    its name, the others have their defaults; sft: the preferred title's negative log-likelihood per token."""
    negatives: Count = 3
    """K: dispreferred titles of each example, chosen anew each epoch from the prompt's own candidates."""
    negatives_from: Literal["all", "random", "rated"] = "all"
    """Which candidates are negatives: all; those that the user never met; the user's own later items of less utility
    than the target (RecPO's published code). Where there are too few, the others fill up."""
    negatives_by: Literal["draw", "utility", "hard", "self-play", "borderline"] = "draw"
    """What chooses among them: chance; the least utility (RecPO's code: sort); or the policy, from the scores of the
    step: the likeliest, a draw from its own distribution (SPRec), the nearest to the target's log-prob."""
    negatives_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the K, the share that the policy chooses; the others are drawn."""
    reference: Literal["sft", "base"] = "sft"
    """What objectives with a reference compare with: the SFT model, or the base model, its adapter off (LoRA only)."""
    reference_update: Literal["none", "ema", "replace"] = "none"
    """none: the reference stays; ema: a running mean of the policy; replace: the policy of every n-th step."""
    reference_every: Count = 100
    """Steps between two references of `replace`."""
    reference_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Share of the running mean that `ema` keeps each step."""

    @property
    def loss(self) -> Objective:
        """What is minimized: `objective`, or the mixture that `objectives` asks for."""
        if not self.objectives:
            return self.objective
        parts = []
        for name, weight in self.objectives.items():
            own = self.objective if name == self.objective.name else None
            params = None if name == SFT else own or OBJECTIVE_CONFIGS[name]()
            parts.append(Part(name=name, weight=weight, objective=params))
        return Mixture(parts=tuple(parts))

    @model_validator(mode="after")
    def _a_mixture_of_known_losses(self) -> Self:
        for name in self.objectives:
            if name not in OBJECTIVE_CONFIGS and name != SFT:
                raise ValueError(unknown_key(name, {*OBJECTIVE_CONFIGS, SFT}))
        if set(self.objectives) == {SFT}:
            raise ValueError("objectives: sft alone is no alignment; add a preference loss, or take system sft")
        if self.objectives and self.objective.name not in self.objectives and self.objective != Recpo():
            raise ValueError(
                f"objective '{self.objective.name}' is none of the mixture's ({', '.join(self.objectives)}), so its "
                "hyper-parameters would have no effect: name one of those, or leave objective out"
            )
        return self

    @model_validator(mode="after")
    def _switches_act(self) -> Self:
        if self.negatives_share != 1 and self.negatives_by in ("draw", "utility"):
            raise ValueError("negatives_share has no effect: the policy chooses no negative (negatives_by)")
        if self.reference_update != "replace" and self.reference_every != 100:
            raise ValueError("reference_every has no effect: reference_update is not 'replace'")
        if self.reference_update != "ema" and self.reference_decay != 0.99:
            raise ValueError("reference_decay has no effect: reference_update is not 'ema'")
        if self.reference_update != "none" and not self.loss.uses_reference:
            raise ValueError("reference_update has no effect: the objective reads no reference")
        if self.reference_update != "none" and self.reference == "base":
            raise ValueError("reference_update: a moving reference begins at the SFT model; take reference 'sft'")
        return self


def needs_reference(config: TrainingConfig) -> bool:
    """Whether the loss compares with a reference model that stays as it is: its log-probs are a column."""
    return isinstance(config, AlignConfig) and config.loss.uses_reference and config.reference_update == "none"


def needs_expert(config: TrainingConfig) -> bool:
    """Whether the loss reads a column that the expert fills."""
    return isinstance(config, AlignConfig) and any(COLUMNS[name] == "expert" for name in config.loss.columns)


class EvaluationConfig(Frozen):
    """What is measured on held-out users."""

    splits: tuple[
        Literal["validation", "test", "adherence", "avoidance", "aversion", "cold-user", "cold-item"], ...
    ] = ("validation", "test")
    """Which held-out sets: choose by validation, report test; the others are probes (docs/evaluation.md)."""
    max_examples: Count | None = None
    """Only the first so many of each split; none: all."""
    generate: bool = True
    """Greedy generation too (HR@1 and ValidRatio as the papers have them); it is the slow part."""
    beams: Annotated[int, Field(ge=0)] = 0
    """Width of a beam search too, for HR@5 and NDCG@5 by beam (EAPO: 5); 0: none."""
    catalog: Literal["none", "all", "unseen"] = "none"
    """Rank the whole catalog too, after prompts without a list of candidates. all: every item; unseen: without those
    that the user's history and training interactions hold. TALLRec and ChatRec can't, and are left out of it."""
    constrain: Literal["none", "candidates", "catalog"] = "none"
    """Generation too that can say nothing but a title: one of the example's candidates, or any of the catalog after a
    prompt without list; greedy, and with `beams` by beam search."""
    orders: Annotated[int, Field(ge=1)] = 1
    """Rank each list in so many orders of its candidates, the same for every method: whether answers follow the item
    or its place, and all orders as one ranking. 1: the example's own alone. Of language models with a list."""
    batch: Count = 32
    """Users at a time."""


class ResourceConfig(Frozen):
    """Hardware of each stage. Never part of an address, but for the reference's precision: it changes the time, not the
    numbers (beyond rounding).
    """

    workers: Count = 1
    """Training workers; the global batch is divided among them."""
    min_workers: Count | None = None
    """A group begins with as few where the cluster has room for no more, and grows with it up to `workers`, each time
    from its last checkpoint; none: `workers`, always."""
    cpus_per_worker: Positive = 1.0
    """Logical CPUs of a worker."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of a worker; a fraction lets trials share one."""
    threads: Count | None = None
    """Torch threads of a worker on the CPU; none: the machine's cores divided by the workers that run at once."""
    micro_batch: Count = 16
    """Examples that go through the model at once; the rest of the global batch is accumulated."""
    micro_tokens: Count | None = None
    """Instead of `micro_batch` examples, as many as fit into so many tokens, those of like length together."""
    packing: bool = True
    """Put the examples that go through the model at once into one row, without padding."""
    attention: Literal["auto", "documents", "flex", "dense"] = "auto"
    """documents: one example after the other; flex: FlexAttention under a block mask (GPU); dense: a mask of all tokens
    by all tokens; auto: documents where the model allows it, else dense."""
    compile: bool = False
    """Train through decoder layers that torch.compile has fused: fewer and larger kernels (GPU); the first steps take a
    minute more. With attention flex or dense."""
    engine: Literal["deepspeed", "torch"] = "deepspeed"
    """What runs the optimizer step."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: 1 shards the optimizer's state over the workers, 2 gradients too, 3 weights too."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on GPUs that have it, else float32. The reference's log-probs are computed in it too, and
    kept apart for each of the three."""
    keep_models: Literal["all", "best", "none"] = "all"
    """Which of a sweep's aligned models stay when their trials have ended: all, the one that is best on validation, or
    none. What was measured stays always."""
    checkpoint_every: Count = 200
    """Steps between checkpoints that a killed worker resumes from."""
    concurrent_trials: Count | None = None
    """Trials at once; none: as many as the machine or cluster holds."""
    max_failures: Annotated[int, Field(ge=0)] = 1
    """How often a failed stage is tried again from its last checkpoint."""
    hang_timeout: Positive = 1800.0
    """Seconds that a worker may take for one step with its validation and checkpoint, or for one batch of evaluation,
    before it counts as hung and is started again."""

    @model_validator(mode="after")
    def _compiled_where_one_call_attends(self) -> Self:
        if self.compile and self.attention in ("auto", "documents"):
            raise ValueError(
                f"compile: attention '{self.attention}' calls a kernel for each document, which can't be fused; take "
                "attention flex (GPU) or dense, or leave compile out"
            )
        return self

    @model_validator(mode="after")
    def _elastic_where_checkpoints_are(self) -> Self:
        if self.min_workers is None:
            return self
        if self.min_workers > self.workers:
            raise ValueError(f"min_workers = {self.min_workers} is more than workers = {self.workers}")
        if self.engine == "deepspeed" and self.zero_stage > 0:
            raise ValueError(
                f"min_workers: a checkpoint of ZeRO {self.zero_stage} fits one number of workers; take engine torch, "
                "zero_stage 0, or leave min_workers out"
            )
        return self
