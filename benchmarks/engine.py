"""What a training step costs: the published way, prefix sharing, TRL's DPOTrainer, and this engine, side by side.

All on the same model, data and batch.

    python benchmarks/engine.py                                # two cores, about eight minutes; a table on the screen
    python benchmarks/engine.py --write docs/performance       # and engine-small.json, .md and .svg there
    python benchmarks/engine.py --trace --only ours            # where a step spends its time, by torch's profiler
    python benchmarks/engine.py --limits                       # what each way needs at 135 M, 1 B and 8 B: no training
    python benchmarks/engine.py --shape 1b --lora 8 --micro 4 --copies 16 --peak-tflops 989 --alone     # on an H100
    python benchmarks/engine.py --shape 8b --lora 8 --only flex --negatives 19 --micro 2 --checkpointing

On a GPU it needs no ray or deepspeed, and trl only for its own rows. `bash benchmarks/on_gpu.sh` runs all that is
measured there.

Published: K+1 copies of each prompt, logits over the vocabulary for every token, a reference model run beside the
policy (the concatenated forward pass of the S-DPO and DPO trainers). Prefix sharing (our own statement of the idea of
dpo-prefix-sharing and flash-preference): a prompt and its titles in one row under one mask, all of the rest as usual:
every layer and the vocabulary's logits for every token, the reference's log-probs from a column. TRL:
`DPOTrainer.training_step` at K = 1, its own defaults but for gradient checkpointing, which is off for all; trl-best:
the same with the reference's log-probs precomputed (its logits are made in chunks in any case; its `padding_free` is
out of order in trl 1.16, and nothing is padded here). Ours: `compute_gradients` and `Engine.step`, as the training
loop calls them, collation included, the reference's log-probs from a column (its one pass is timed apart); flex: the
same by FlexAttention, where there is a GPU.

Each variant lives in a process of its own, so that none meets what another leaves in caches and in the allocator; the
processes take turns, a step each, after a warm-up (or, with --alone, live one after the other, where they would not fit
into a GPU's memory together); the median is given. Memory: the peak of the process, above what it held before it made
the model.

Tokens a second: tokens pushed through a model, policy's and reference's, over the seconds of a step. Share of peak
(MFU): the operations that a way needs at least, over what the machine's peak would make in that time. What is counted,
and what the limits by FLOPs and by bytes are, says `engine_limits.py`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from engine_limits import Shape, find_machine, step_bytes, step_flops
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

from raypref.config.training import AlignConfig, ResourceConfig
from raypref.models import masks
from raypref.models.layout import Rows, TitleBatch, all_candidates, title_batch
from raypref.training.batches import Collator
from raypref.training.engine import TorchEngine
from raypref.training.loop import compute_gradients
from raypref.training.micro import MicroBatches
from raypref.training.tasks import task_of

CANDIDATES = 20
NEGATIVES = (1, 3, 7, 15, 19)
PAD, END = 0, 1
RATE = 1e-5
WARM_UP = 2
COUNTED = {"trl": "published", "flex": "ours", "flex-compiled": "ours", "trl-best": "published"}
"""Whose least operations and bytes a variant is set beside: TRL's at K = 1 are the published way's (trl-best has no
reference in the loop, so a quarter less), the others need no more than ours."""
ANSWER = "raypref-benchmark "


SHAPES = {
    "small": Shape(256, 4, 8, 4, 896, 8_000, batch=4, prompt=384, title=8),
    "135m": Shape(576, 30, 9, 3, 1536, 49_152, batch=64, prompt=300, title=10),  # SmolLM2
    "1b": Shape(2048, 16, 32, 8, 8192, 128_256, batch=16, prompt=512, title=12),  # 1.2 B parameters
    "8b": Shape(4096, 32, 32, 8, 14_336, 128_256, batch=8, prompt=512, title=12, tied=False),
    "tiny": Shape(32, 2, 2, 1, 64, 300, batch=2, prompt=24, title=4),  # for the test of this script
}


@dataclass(frozen=True)
class Case:
    """What one run of the benchmark is about."""

    shape: str = "small"
    lora: int | None = None
    checkpointing: bool = False
    attention: str = "auto"
    compile: bool = False
    """Ours through decoder layers that torch.compile has fused."""
    micro: int | None = None
    """Examples that go through the model at once; none: the batch."""
    batch: int | None = None
    """Examples of a step; none: the shape's."""
    copies: int | None = None
    """Sequences (a prompt with one title) that the published way takes through the model at once, an example's at
    least; none: those of `micro` examples."""

    @property
    def sizes(self) -> Shape:
        shape = SHAPES[self.shape]
        return replace(shape, batch=self.batch or shape.batch)

    def micro_of(self, way: str, negatives: int) -> int:
        """Examples of a micro-batch, ours or that of a way with copies."""
        if way != "ours" and self.copies:
            return max(1, self.copies // (negatives + 1))
        return self.micro or self.sizes.batch


def make_model(case: Case) -> Any:
    """The same weights each time; float32, or frozen bfloat16 ones under LoRA on a GPU."""
    s, on_gpu = case.sizes, torch.cuda.is_available()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=s.vocabulary, hidden_size=s.hidden, num_hidden_layers=s.layers, num_attention_heads=s.heads,
        num_key_value_heads=s.key_value_heads, intermediate_size=s.intermediate, max_position_embeddings=4096,
        pad_token_id=PAD, eos_token_id=END, bos_token_id=2, tie_word_embeddings=s.tied,
    )  # fmt: skip
    dtype = torch.bfloat16 if on_gpu and case.lora else torch.float32
    with torch.device("cuda" if on_gpu else "cpu"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if case.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    if case.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=case.lora, lora_alpha=2 * case.lora, target_modules="all-linear"))
    return model.train()


def make_table(shape: Shape) -> pa.Table:
    """One global batch of random tokens, CANDIDATES titles each."""
    rng = np.random.default_rng(0)

    def words(n: int) -> list[int]:
        return rng.integers(3, shape.vocabulary, n).tolist()

    return pa.table(
        {
            "example": np.arange(shape.batch),
            "prompt_ids": [words(shape.prompt) for _ in range(shape.batch)],
            "title_ids": [[[*words(shape.title - 1), END] for _ in range(CANDIDATES)] for _ in range(shape.batch)],
            "target": rng.integers(0, CANDIDATES, shape.batch).astype(np.int32),
        }
    )


def sequences(shape: Shape, negatives: int) -> Tensor:
    """(B, 1 + K, L) each prompt with each of the titles that ours scores; all are of one length, so none is padded."""
    table = make_table(shape)
    chosen = Collator(negatives, 0, PAD).choose(table, 0)
    prompts, titles = table["prompt_ids"].to_pylist(), table["title_ids"].to_pylist()
    return torch.tensor([[prompt + own[c] for c in row] for prompt, own, row in zip(prompts, titles, chosen)])


def autocast() -> torch.autocast:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def sdpo_loss(policy: Tensor, reference: Tensor) -> Tensor:
    """S-DPO's loss of (B, 1 + K) log-probs at beta = 1, as `objectives/losses.py` has it."""
    rewards = policy - reference
    return -nn.functional.logsigmoid(-torch.logsumexp(rewards[:, 1:] - rewards[:, :1], dim=1)).mean()


def update(model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Clip, step, clear."""
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class Published:
    """K+1 copies of a prompt, full logits, the reference model in the loop."""

    def __init__(self, case: Case, negatives: int) -> None:
        self.model = make_model(case)
        self.reference = None if case.lora else make_model(case).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=RATE)
        self.ids = sequences(case.sizes, negatives).to(self.model.device)
        self.prompt = case.sizes.prompt
        self.micro = case.micro_of("published", negatives)
        self.tokens = self.ids.numel() * 2  # policy and reference

    def logps(self, model: Any, ids: Tensor) -> Tensor:
        """(b, 1 + K) of sequences (b, 1 + K, L)."""
        flat = ids.flatten(0, 1)
        labels = flat[:, 1:].clone()
        with autocast():
            logits = model(input_ids=flat, attention_mask=torch.ones_like(flat), use_cache=False).logits.float()
        of_label = logits[:, :-1].log_softmax(-1).gather(2, labels[:, :, None]).squeeze(2)
        scored = torch.arange(labels.shape[1], device=labels.device) >= self.prompt - 1
        return (of_label * scored).sum(1).view(ids.shape[:2])

    @torch.no_grad()
    def reference_logps(self, ids: Tensor) -> Tensor:
        if self.reference is not None:
            return self.logps(self.reference, ids)
        with self.model.disable_adapter():
            return self.logps(self.model, ids)

    def step(self) -> float:
        total = 0.0
        for ids in self.ids.split(self.micro):
            loss = sdpo_loss(self.logps(self.model, ids), self.reference_logps(ids)) * len(ids) / len(self.ids)
            loss.backward()
            total += float(loss.detach())
        update(self.model, self.optimizer)
        return total


class PrefixSharing:
    """A prompt once for all its titles, and nothing else of ours: full logits, every layer for every token."""

    def __init__(self, case: Case, negatives: int) -> None:
        self.model = make_model(case)
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=RATE, fused=True)
        on_gpu = torch.cuda.is_available()
        inner = self.model.get_base_model() if case.lora else self.model
        inner.set_attn_implementation("flex_attention" if on_gpu else "sdpa")
        table, chosen = make_table(case.sizes), Collator(negatives, 0, PAD).choose(make_table(case.sizes), 0)
        prompts, titles = table["prompt_ids"].to_pylist(), table["title_ids"].to_pylist()
        picked = [[own[c] for c in row] for own, row in zip(titles, chosen)]
        micro = case.micro_of("ours", negatives)
        rows = Rows(packed=True, multiple=128 if on_gpu else 1)
        self.parts = [
            title_batch(prompts[i : i + micro], picked[i : i + micro], PAD, rows).to(self.model.device)
            for i in range(0, len(prompts), micro)
        ]
        self.tokens = sum(part.input_ids.numel() for part in self.parts)
        with torch.no_grad():
            self.reference = [self.logps(part) for part in self.parts]  # a fresh adapter adds nothing

    def logps(self, part: TitleBatch) -> Tensor:
        """(b, 1 + K) title log-probs."""
        mask = masks.blocks(part) if part.input_ids.is_cuda else masks.dense(part)
        with autocast():
            logits = self.model(
                input_ids=part.input_ids, position_ids=part.positions, attention_mask=mask, use_cache=False
            ).logits.float()
        logps = logits.flatten(0, 1).log_softmax(-1)[part.places[part.place], part.label]
        return logps.new_zeros(part.lengths.numel()).index_add(0, part.title, logps).view(part.lengths.shape)

    def step(self) -> float:
        total = 0.0
        for part, reference in zip(self.parts, self.reference):
            loss = sdpo_loss(self.logps(part), reference) / len(self.parts)
            loss.backward()
            total += float(loss.detach())
        update(self.model, self.optimizer)
        return total


class Ours:
    """The engine, by the functions that the training loop calls."""

    def __init__(self, case: Case, negatives: int) -> None:
        micro = case.micro_of("ours", negatives)
        settings = {"name": "sdpo", "beta": 1.0}
        self.config = AlignConfig(
            objective=settings,  # type: ignore[arg-type]
            negatives=negatives, learning_rate=RATE, global_batch=case.sizes.batch,
        )  # fmt: skip
        resources = ResourceConfig(engine="torch", micro_batch=micro, attention=case.attention, compile=case.compile)  # type: ignore[arg-type]
        self.engine = TorchEngine(make_model(case), self.config, resources)
        self.collator = Collator(negatives, 0, PAD, self.engine.scorer.rows())
        self.micro = MicroBatches(micro)
        self.task = task_of(self.config)
        self.table = make_table(case.sizes)
        started = time.perf_counter()
        with torch.no_grad(), reference_weights(self.engine.model):
            logps = [
                self.engine.score(self.titles(self.table.slice(i, micro))).cpu()
                for i in range(0, case.sizes.batch, micro)
            ]
        self.reference_seconds = time.perf_counter() - started
        self.table = self.table.append_column("ref_logps", pa.array(torch.cat(logps).float().tolist()))
        self.tokens = self.collator(self.table, 0).titles.input_ids.numel()

    def titles(self, part: pa.Table) -> Any:
        return all_candidates(part, PAD, self.collator.rows).to(self.engine.device)

    def step(self) -> float:
        self.engine.train(True)
        sums = compute_gradients(self.engine, self.task, self.table, 0, self.collator, self.micro, seed=0)
        self.engine.step(RATE)
        return sums.means()["loss"]


def reference_weights(model: Any) -> Any:
    """Around a pass of the model as it was before alignment: a fresh adapter adds nothing, so this is the model."""
    return model.disable_adapter() if hasattr(model, "disable_adapter") else torch.no_grad()


class Flex(Ours):
    """The same by FlexAttention."""

    def __init__(self, case: Case, negatives: int) -> None:
        super().__init__(replace(case, attention="flex"), negatives)


class FlexCompiled(Ours):
    """The same, through compiled layers."""

    def __init__(self, case: Case, negatives: int) -> None:
        super().__init__(replace(case, attention="flex", compile=True), negatives)


class Trl:
    """TRL's DPOTrainer: chosen and rejected, each with the prompt, the reference model in the loop."""

    precomputed = False
    """The reference's log-probs are given instead."""

    def __init__(self, case: Case, negatives: int) -> None:
        import tempfile

        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

        from raypref.models.backbone import train_tokenizer

        if negatives != 1:
            raise SystemExit("TRL is compared at K = 1")
        pair = {"prompt": ["a b"], "chosen": [" c"], "rejected": [" d"]}
        with tempfile.TemporaryDirectory() as folder:
            arguments = DPOConfig(
                output_dir=folder, beta=1.0, learning_rate=RATE, gradient_checkpointing=False, report_to="none",
                per_device_train_batch_size=case.sizes.batch, bf16=torch.cuda.is_available(), disable_tqdm=True,
                precompute_ref_log_probs=self.precomputed,
            )  # fmt: skip
            self.trainer = DPOTrainer(
                model=make_model(case), ref_model=None if case.lora or self.precomputed else make_model(case),
                args=arguments, train_dataset=Dataset.from_dict(pair),
                processing_class=train_tokenizer(["a b c d"], 300),
            )  # fmt: skip
        self.trainer.create_optimizer()
        self.trainer.current_gradient_accumulation_steps = 1  # `train` sets it, which is not called here
        pairs = sequences(case.sizes, 1).transpose(0, 1).flatten(0, 1)  # chosen of all examples, then rejected
        completion = torch.zeros_like(pairs)
        completion[:, case.sizes.prompt :] = 1
        inputs = {"input_ids": pairs, "attention_mask": torch.ones_like(pairs), "completion_mask": completion}
        self.inputs = {name: tensor.to(self.trainer.accelerator.device) for name, tensor in inputs.items()}
        self.tokens = pairs.numel() * (1 if self.precomputed else 2)
        if self.precomputed:
            model = self.trainer.model.eval()
            with torch.no_grad(), autocast():
                given = {name: self.inputs[name] for name in ("input_ids", "attention_mask")}
                labels = self.inputs["input_ids"].masked_fill(self.inputs["completion_mask"] == 0, -100)
                logps = model(**given, labels=labels, fused_lm_head=True).log_probs.sum(dim=1)
            self.inputs["ref_chosen_logps"], self.inputs["ref_rejected_logps"] = logps.float().chunk(2)

    def step(self) -> float:
        model = self.trainer.model
        model.train()
        loss = self.trainer.training_step(model, dict(self.inputs))
        update(model, self.trainer.optimizer)
        return float(loss)


class TrlBest(Trl):
    """The same at its best: the reference's log-probs are columns there too."""

    precomputed = True


VARIANTS: dict[str, Callable[[Case, int], Any]] = {
    "published": Published, "prefix-sharing": PrefixSharing, "trl": Trl, "trl-best": TrlBest, "flex": Flex,
    "flex-compiled": FlexCompiled, "ours": Ours,
}  # fmt: skip


def timed(step: Callable[[], float]) -> tuple[float, float]:
    """Seconds of a step: by the wall's clock, and of this process's cores, which other work on the machine spares."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started, used = time.perf_counter(), time.process_time()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, time.process_time() - used


class Child:
    """A variant in a process of its own, which makes a step whenever it is told to."""

    def __init__(self, case: Case, negatives: int, name: str, threads: int) -> None:
        self.name = name
        command = [sys.executable, __file__, "--child", json.dumps([asdict(case), negatives, name, threads])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what: str) -> dict[str, Any]:
        """The answer to one order: warm-up, step or end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(ANSWER):  # a library may print too
                answer: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
                return answer
        raise SystemExit(f"{self.name} ended: exit code {self.process.wait()}")


def serve(case: Case, negatives: int, name: str, threads: int) -> None:
    """What a child does: it makes the variant, then obeys line by line."""
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():  # what is imported at the first step is no memory of the variant's
        VARIANTS[name](replace(case, shape="tiny", batch=None), negatives).step()
    before = held()[0]
    variant = VARIANTS[name](case, negatives)
    for line in sys.stdin:
        order = line.strip()
        if order == "step":
            wall, cpu = timed(variant.step)
            answer = {"seconds": wall, "cpu_seconds": cpu}
        elif order == "warm-up":
            answer = {"loss": [variant.step() for _ in range(WARM_UP)][-1], "tokens": variant.tokens}
            if isinstance(variant, Ours):
                answer["reference_seconds"] = round(variant.reference_seconds, 4)
        else:
            on_gpu = torch.cuda.is_available()
            answer = {"peak_mb": torch.cuda.max_memory_allocated() / 1e6 if on_gpu else held()[1] - before}
        print(f"{ANSWER}{json.dumps(answer)}", flush=True)
        if order == "end":
            return


def one_by_one(case: Case, negatives: int, names: list[str], repeats: int, threads: int) -> dict[str, dict[str, Any]]:
    """Times of a step of each variant, alone on the machine, and its peak of memory; one that fails is left out."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            found |= side_by_side(case, negatives, [name], repeats, threads)
        except SystemExit as failed:
            print(failed, flush=True)
    return found


def side_by_side(case: Case, negatives: int, names: list[str], repeats: int, threads: int) -> dict[str, dict[str, Any]]:
    """Times of a step of each variant, taking turns, and its peak of memory."""
    children = [Child(case, negatives, name, threads) for name in names]
    found = {child.name: child.ask("warm-up") for child in children}
    loss = found[names[-1]]["loss"]
    for name, answer in found.items():  # the first step's is log(1 + K) for all
        if abs(answer["loss"] - loss) > (0.1 if torch.cuda.is_available() else 1e-3) * abs(loss):
            raise SystemExit(f"{name} has another loss at step {WARM_UP} than {names[-1]}: {answer['loss']}, {loss}")
    turns = [{child.name: child.ask("step") for child in children} for _ in range(repeats)]
    for child in children:
        steps = [turn[child.name] for turn in turns]
        found[child.name] |= {
            "seconds": round(statistics.median(step["seconds"] for step in steps), 5),
            "all_seconds": [round(step["seconds"], 5) for step in steps],
            "cpu_seconds": round(statistics.median(step["cpu_seconds"] for step in steps), 5),
            "peak_mb": round(child.ask("end")["peak_mb"], 1),
        }
        child.process.wait()
    return found


def held() -> tuple[float, float]:
    """Resident memory of this process in MB: now, and its highest since it began."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(lines[key].split()[0]) * 1024 / 1e6 for key in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def run(
    case: Case, names: list[str], negatives: list[int], repeats: int, threads: int, peak_tflops: float | None,
    alone: bool = False,
) -> dict[str, Any]:  # fmt: skip
    on_gpu = torch.cuda.is_available()
    torch.set_num_threads(threads)
    machine = find_machine(torch.device("cuda" if on_gpu else "cpu"), peak_tflops)
    if on_gpu:
        torch.cuda.empty_cache()  # what the measurement took is the children's
    rows = []
    for k in negatives:
        wanted = [name for name in names if not name.startswith("trl") or k == 1]
        found = (one_by_one if alone else side_by_side)(case, k, wanted, repeats, threads)
        parts = {way: -(-case.sizes.batch // case.micro_of(way, k)) for way in ("ours", "published")}
        flops = step_flops(case.sizes, k, case.lora is not None)
        moved = step_bytes(case.sizes, k, case.lora, on_gpu, parts, case.checkpointing)
        for name in found:
            way = COUNTED.get(name, name)
            seconds = found[name]["seconds"]
            row = {"negatives": k, "variant": name, **found[name]}
            row["tokens_per_second"] = round(row["tokens"] / seconds, 1)
            row["flops"], row["bytes"] = flops[way], moved[way]
            row["tflops_per_second"] = round(flops[way] / seconds / 1e12, 4)
            row["share_of_peak"] = round(flops[way] / seconds / machine.flops_per_second, 4)
            row["seconds_by_flops"] = round(flops[way] / machine.flops_per_second, 6)
            row["seconds_by_bytes"] = round(moved[way] / machine.bytes_per_second, 6)
            rows.append(row)
            print(
                f"K={k:<3} {name:<10} limit by FLOPs {row['seconds_by_flops'] * 1e3:.1f} ms, by bytes"
                f" {row['seconds_by_bytes'] * 1e3:.1f} ms; it is at {seconds * 1e3:.1f} ms, {row['peak_mb']:.0f} MB",
                flush=True,
            )
    device = torch.cuda.get_device_name() if on_gpu else f"{threads} CPU threads"
    return {
        "case": asdict(case), "sizes": asdict(case.sizes), "device": device, "machine": platform.machine(),
        "limits": asdict(machine), "torch": torch.__version__, "repeats": repeats, "rows": rows,
        "summary": summary(rows),
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios to ours by K, and what one more negative costs: the slope over K against the step at K = 3."""
    ours = {row["negatives"]: row for row in rows if row["variant"] == "ours"}
    ratios: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["variant"] != "ours" and row["negatives"] in ours:
            own = ours[row["negatives"]]
            # the median over pairs of steps that ran one after the other
            speed = statistics.median(a / b for a, b in zip(row["all_seconds"], own["all_seconds"]))
            ratios[f"{row['variant']} K={row['negatives']}"] = {
                "time": round(speed, 2),
                "cpu_time": round(row["cpu_seconds"] / own["cpu_seconds"], 2),
                "memory": round(row["peak_mb"] / own["peak_mb"], 2),
            }
    result: dict[str, Any] = {"over_ours": ratios}
    if len(ours) > 1:
        k = np.array(sorted(ours))
        seconds = np.array([ours[i]["seconds"] for i in k])
        slope = float(np.polyfit(k, seconds, 1)[0])
        base = ours.get(3, ours[int(k[0])])["seconds"]
        result["one_more_negative"] = {"seconds": round(slope, 6), "share_of_step": round(slope / base, 4)}
    return result


def markdown(report: dict[str, Any]) -> str:
    """The table of the page."""
    titles = (
        "K", "variant", "ms a step", "tokens pushed", "tokens a second", "share of peak", "limit by FLOPs, ms",
        "limit by bytes, ms", "peak MB", "times ours", "memory, times ours",
    )  # fmt: skip
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    over = report["summary"]["over_ours"]
    for row in report["rows"]:
        ratio = over.get(f"{row['variant']} K={row['negatives']}", {"time": 1.0, "memory": 1.0})
        cells = [
            f"{row['negatives']}", row["variant"], f"{row['seconds'] * 1e3:.0f}", f"{row['tokens']:,}",
            f"{row['tokens_per_second']:,.0f}", f"{row['share_of_peak']:.1%}", f"{row['seconds_by_flops'] * 1e3:.1f}",
            f"{row['seconds_by_bytes'] * 1e3:.1f}", f"{row['peak_mb']:.0f}",
            f"{ratio['time']:.1f}", f"{ratio['memory']:.1f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def limits() -> str:
    """A table of what each way's step needs at least in bfloat16, its whole batch at once: FLOPs and bytes."""
    ways = ("published", "prefix-sharing", "ours")
    lines = ["| shape | trained | K | " + " | ".join(f"{way}, TFLOP | GB" for way in ways) + " |", "|---" * 9 + "|"]
    for name, lora, k in itertools.product(("135m", "1b", "8b"), (None, 8), (3, 15, 19)):
        flops = step_flops(SHAPES[name], k, lora is not None)
        moved = step_bytes(SHAPES[name], k, lora, True, {"ours": 1, "published": 1})
        cells = [f"{flops[way] / 1e12:.1f} | {moved[way] / 1e9:.1f}" for way in ways]
        lines.append(f"| {name} | {'all weights' if lora is None else f'LoRA {lora}'} | {k} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def trace(case: Case, negatives: int, name: str, rows: int = 14) -> str:
    """Where a warm step's time goes, by torch's profiler: a GPU's kernels, or a CPU's operations, the longest first.

    Each with its own milliseconds (what it calls not counted) and how often it ran.
    """
    from torch.profiler import ProfilerActivity, profile

    variant, on_gpu = VARIANTS[name](case, negatives), torch.cuda.is_available()
    for _ in range(WARM_UP):
        variant.step()
    wall = min(timed(variant.step)[0] for _ in range(3))
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as found:
        timed(variant.step)
    own = {
        row.key: (row.self_device_time_total if on_gpu else row.self_cpu_time_total, row.count)
        for row in found.key_averages()
        if not on_gpu or row.device_type == torch.autograd.DeviceType.CUDA
    }
    spent, count = sum(time for time, _ in own.values()) / 1e3, sum(count for _, count in own.values())
    longest = sorted(own.items(), key=lambda item: -item[1][0])[:rows]
    what = "kernels" if on_gpu else "operations"
    lines = [f"{name}, K = {negatives}: {1e3 * wall:.1f} ms a step; traced, {spent:.1f} ms in {count} {what}"]
    lines += [f"{time / 1e3:10.2f} ms {times:7d}  {key[:90]}" for key, (time, times) in longest]
    return "\n".join(lines)


def draw(report: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "raypref", "svg.fonttype": "none"})
    from matplotlib import pyplot as plt

    measures = [("seconds", "seconds a step"), ("peak_mb", "peak memory, MB")]
    figure, axes = plt.subplots(1, len(measures), figsize=(5 * len(measures), 3.4), squeeze=False)
    for axis, (key, title) in zip(axes[0], measures):
        for variant, marker in zip(VARIANTS, "os^v*D"):
            points = [(row["negatives"], row[key]) for row in report["rows"] if row["variant"] == variant]
            if points:
                axis.plot(*zip(*points), marker=marker, label=variant)
        axis.set(xlabel="K, negatives of an example", ylabel=title, yscale="log")
        axis.grid(alpha=0.3)
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--lora", type=int, help="rank of an adapter; none: all weights are trained")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    parser.add_argument("--attention", default="auto", help="of ours: auto, documents, flex or dense")
    parser.add_argument("--micro", type=int, help="examples that go through the model at once; none: the batch")
    parser.add_argument(
        "--copies", type=int, help="sequences that the published way takes at once; none: those of --micro examples"
    )
    parser.add_argument(
        "--peak-tflops", type=float, metavar="FLOAT",
        help="the machine's peak in TFLOP/s, for the share of peak: 989 for an H200, 312 for an A100 (dense bfloat16);"
        " none: the best matrix product that torch makes on it before the run",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, help="examples of a step in place of the shape's")
    parser.add_argument("--negatives", type=int, nargs="+", default=list(NEGATIVES))
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="none: all that the machine can run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="one variant's process after the other, no turns")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="for engine-SHAPE.json, .md and .svg")
    parser.add_argument("--limits", action="store_true", help="what a step needs at 135 M, 1 B and 8 B, then stop")
    parser.add_argument("--trace", action="store_true", help="where a step of --only spends its time, then stop")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fields, negatives, name, threads = json.loads(options.child)
        serve(Case(**fields), negatives, name, threads)
        return
    if options.limits:
        print(limits())
        return
    names = options.only or [name for name in VARIANTS if not name.startswith("flex") or torch.cuda.is_available()]
    case = Case(
        options.shape, options.lora, options.checkpointing, options.attention, micro=options.micro,
        batch=options.batch, copies=options.copies,
    )  # fmt: skip
    if options.trace:
        for negatives, name in itertools.product(options.negatives, names):
            print(trace(case, negatives, name), flush=True)
        return
    report = run(case, names, options.negatives, options.repeats, options.threads, options.peak_tflops, options.alone)
    print("\n" + markdown(report) + "\n" + json.dumps(report["summary"], indent=1))
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        stem = options.write / f"engine-{options.shape}{f'-lora{options.lora}' if options.lora else ''}"
        stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        stem.with_suffix(".md").write_text(markdown(report))
        draw(report, stem.with_suffix(".svg"))


if __name__ == "__main__":
    main()
