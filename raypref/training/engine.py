"""What turns a loss into a step: DeepSpeed with its ZeRO stages, or plain torch with DDP.

Both give the same step: gradients are those of the loss over the global batch, however it is cut into micro-batches and
workers. The loop passes each micro-batch's share of that loss; scaling for averaging back ends is an engine's business.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raypref.config.training import ResourceConfig, TrainingConfig
from raypref.models import backbone
from raypref.models.layout import TitleBatch
from raypref.models.precision import autocast
from raypref.models.scoring import TitleScorer
from raypref.training.allocator import keep_freed_memory
from raypref.uncollected import uncollected

ADAM_BETAS = (0.9, 0.999)


class Engine(Protocol):
    """A policy being trained on one worker of a group."""

    device: torch.device
    rank: int
    world: int
    scorer: TitleScorer
    layout: str
    """How checkpoints are laid out: an engine loads those of its own layout only."""

    def trained(self) -> dict[str, nn.Parameter]:
        """The weights that are trained, by name."""

    def score(self, batch: TitleBatch) -> Tensor:
        """(B, C) title log-probs, float32."""

    def accumulating(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around a micro-batch's forward and backward pass; `last` of the step?"""

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of this micro-batch's share of the global loss."""

    def step(self, learning_rate: float) -> Tensor | float:
        """Clip, update, clear; returns the global gradient norm before clipping, which may still be on its way."""

    def train(self, training: bool) -> None:
        """Dropout on or off."""

    def save_state(self, folder: Path) -> None:
        """Everything needed to go on (collective)."""

    def load_state(self, folder: Path) -> None: ...

    def export(self, folder: Path) -> None:
        """The weights as a Hugging Face folder (collective; rank 0 writes)."""

    def close(self) -> None:
        """Let go of the model's memory: the process may train another."""


def make_engine(model: backbone.Policy, training: TrainingConfig, resources: ResourceConfig) -> Engine:
    """The engine that `resources.engine` names, around `model`."""
    engines: dict[str, Callable[[backbone.Policy, TrainingConfig, ResourceConfig], Engine]]
    engines = {"deepspeed": DeepSpeedEngine, "torch": TorchEngine}
    return engines[resources.engine](model, training, resources)


class _Base:
    def __init__(self, model: backbone.Policy, resources: ResourceConfig) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        self.device = (
            torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
        )
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model = model
        self.scorer = TitleScorer(model, resources.attention).to(self.device)
        if resources.compile:
            self.scorer.compile_layers()
        self.autocast = autocast(resources, self.device)

    def trained(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}


class TorchEngine(_Base):
    """AdamW and, with several workers, DistributedDataParallel."""

    def __init__(self, model: backbone.Policy, training: TrainingConfig, resources: ResourceConfig) -> None:
        super().__init__(model, resources)
        self.layout = "torch"
        self.clip = training.clip
        self.optimizer = torch.optim.AdamW(
            self.trained().values(),
            lr=training.learning_rate,
            betas=ADAM_BETAS,
            weight_decay=training.weight_decay,
            fused=True,  # one kernel for all weights
        )
        self.module: nn.Module = self.scorer
        if self.world > 1:
            self.module = nn.parallel.DistributedDataParallel(self.scorer)

    def score(self, batch: TitleBatch) -> Tensor:
        with self.autocast:
            logps: Tensor = self.module(batch) if torch.is_grad_enabled() else self.scorer(batch)
            return logps

    def backward(self, loss: Tensor, last: bool) -> None:
        torch.autograd.backward(loss * self.world)  # DDP averages over workers

    @contextlib.contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        with contextlib.nullcontext() if last or self.world == 1 else self.module.no_sync():  # type: ignore[operator]
            yield

    def step(self, learning_rate: float) -> Tensor | float:
        norm: Tensor = nn.utils.clip_grad_norm_(self.trained().values(), self.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def train(self, training: bool) -> None:
        self.module.train(training)

    def save_state(self, folder: Path) -> None:
        if self.rank == 0:
            state = {"weights": dict(self.trained()), "optimizer": self.optimizer.state_dict()}
            torch.save(state, folder / "state.pt")

    def load_state(self, folder: Path) -> None:
        state = torch.load(folder / "state.pt", map_location=self.device, weights_only=True)
        with torch.no_grad():
            for name, parameter in self.trained().items():
                parameter.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])

    def export(self, folder: Path) -> None:
        if self.rank == 0:
            backbone.save(self.model, folder)

    def close(self) -> None:
        self.optimizer.state.clear()


class DeepSpeedEngine(_Base):
    """DeepSpeed (Rajbhandari et al., 2020): ZeRO 0 to 3, also on the CPU over gloo."""

    def __init__(self, model: backbone.Policy, training: TrainingConfig, resources: ResourceConfig) -> None:
        super().__init__(model, resources)
        if self.device.type == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"  # read when deepspeed is first imported
        os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
        with uncollected():
            import deepspeed

        # An all-reduce for inference that DeepSpeed would compile here and now: minutes, and a compiler, for nothing.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        os.environ.setdefault("LOCAL_RANK", "0")
        self.alone = not dist.is_initialized()
        if self.alone:  # DeepSpeed wants a group even where it is one process
            os.environ.update(RANK="0", WORLD_SIZE="1")
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        micro = min(resources.micro_batch, training.global_batch // self.world)
        config: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": micro,
            "gradient_accumulation_steps": -(-(training.global_batch // self.world) // micro),
            "gradient_clipping": training.clip,
            "zero_optimization": {"stage": resources.zero_stage},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 1 << 30,
            "optimizer": {
                "type": "AdamW",
                "params": {
                    "lr": training.learning_rate,
                    "betas": list(ADAM_BETAS),
                    "weight_decay": training.weight_decay,
                    "torch_adam": True,
                },
            },
        }
        self.zero_stage = resources.zero_stage
        self.layout = f"DeepSpeed ZeRO-{self.zero_stage}"
        if self.zero_stage > 0:  # each worker holds a part of the optimizer's state
            self.layout += f" on {self.world} worker(s)"
        self.module, self.optimizer, _, _ = deepspeed.initialize(
            model=self.scorer,
            model_parameters=list(self.trained().values()),
            config=config,
            dist_init_required=False,
        )

    def score(self, batch: TitleBatch) -> Tensor:
        with self.autocast:
            logps: Tensor = self.module(batch)
            return logps

    @contextlib.contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        self.module.set_gradient_accumulation_boundary(last)  # its own count knows one number of micro-batches only
        yield

    def backward(self, loss: Tensor, last: bool) -> None:
        self.module.backward(loss * self.world, scale_wrt_gas=False)  # DeepSpeed averages over workers

    def step(self, learning_rate: float) -> Tensor | float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        # Stage 0 clips without telling the norm; the gradients, whole on every worker, are gone after the step.
        gradients = [p.grad for p in self.trained().values() if p.grad is not None] if self.zero_stage == 0 else []
        norm = nn.utils.get_total_norm(gradients) if gradients else None
        self.module.step()
        found: Tensor | float = self.module.get_global_grad_norm() if norm is None else norm
        return found

    def train(self, training: bool) -> None:
        self.module.train(training)

    def save_state(self, folder: Path) -> None:
        self.module.save_checkpoint(str(folder), tag="state")

    def load_state(self, folder: Path) -> None:
        found, _ = self.module.load_checkpoint(str(folder), tag="state")
        if found is None:  # DeepSpeed says it in a log line only
            raise FileNotFoundError(f"no DeepSpeed checkpoint lies at {folder / 'state'}")

    def export(self, folder: Path) -> None:
        import deepspeed

        parameters = list(self.model.parameters())
        with deepspeed.zero.GatheredParameters(parameters, enabled=self.zero_stage == 3):
            if self.rank == 0:
                backbone.save(self.model, folder)

    def close(self) -> None:
        import deepspeed

        self.module.destroy()  # its hooks on gradients hold the model, in a circle that Python's collector can't see
        if self.alone:  # Ray ends torch's group too, but DeepSpeed would go on with what it holds of it
            deepspeed.comm.destroy_process_group()
