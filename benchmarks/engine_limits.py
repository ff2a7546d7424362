"""What a training step must do at least, and what the machine can do: the limits beside the times of `engine.py`.

A way's limit by FLOPs is `step_flops` over the machine's peak, its limit by bytes `step_bytes` over its bandwidth. Both
count what the way as such needs, so ours, prefix sharing alone and the published one have limits of their own. Left
out, which only makes them lower: norms, the adapter's own products, the gradients of activations, the operations of
what is computed twice (checkpointing, the head's chunks), and what a kernel writes and reads on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

FLOAT32, BFLOAT16 = 4, 2
UPDATE = 24
"""Bytes of AdamW for each trained weight: weight, first and second moment, in float32, each read and written."""


@dataclass(frozen=True)
class Shape:
    """A Llama from its config, and a batch for it."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    batch: int
    prompt: int
    title: int
    """Tokens of a title, end token included."""
    tied: bool = True
    """Whether the head is the embedding."""

    @property
    def key_width(self) -> int:
        """Of a layer's keys, and of its values."""
        return self.key_value_heads * self.hidden // self.heads

    @property
    def keys(self) -> int:
        """Weights of a layer's projections to keys and values."""
        return 2 * self.hidden * self.key_width

    @property
    def rest(self) -> int:
        """A layer's other weights: queries, output, feed-forward."""
        return 2 * self.hidden * self.hidden + 3 * self.hidden * self.intermediate

    @property
    def head(self) -> int:
        return self.hidden * self.vocabulary

    @property
    def weights(self) -> int:
        return self.layers * (self.keys + self.rest) + self.head * (1 if self.tied else 2)

    def adapter(self, rank: int) -> int:
        """Weights of LoRA on all of a layer's linear modules: rank x (in + out) for each."""
        attention = 4 * self.hidden + 2 * (self.hidden + self.key_width)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))

    def document(self, titles: int) -> int:
        """Tokens of a prompt and its titles; a title's end token is no input."""
        return self.prompt + titles * (self.title - 1)

    def places(self, titles: int) -> int:
        """Those of them that predict a title's token."""
        return 1 + titles * (self.title - 1)


def step_flops(shape: Shape, negatives: int, lora: bool) -> dict[str, float]:
    """Floating-point operations of a step, the least that each way needs, attention over allowed pairs included.

    2 for each weight and token forward, as much again for the gradient of inputs and, where weights are trained, of
    weights. Attention multiplies two inputs, and both get a gradient, with an adapter too. Ours: the last layer's
    queries, output and feed-forward at places alone, but all of its keys and values. Prefix sharing: all layers and the
    head for every token of the same document. Published: a forward pass of the reference beside it.
    """
    s, titles = shape, negatives + 1
    passes = 4 if lora else 6
    document, places = s.document(titles), s.places(titles)
    prompt_pairs = s.prompt * (s.prompt + 1) / 2
    inputs = s.title - 1
    title_pairs = titles * (inputs * s.prompt + inputs * (inputs + 1) / 2)
    products = (s.layers - 1) * document * (s.keys + s.rest) + document * s.keys + places * (s.rest + s.head)
    pairs = (s.layers - 1) * (prompt_pairs + title_pairs) + s.prompt + title_pairs
    length = s.prompt + s.title
    copy_products = length * (s.layers * (s.keys + s.rest) + s.head)
    copy_pairs = s.layers * length * (length + 1) / 2
    pair = 2 * s.hidden  # multiply-adds: scores and values
    shared_products = document * (s.layers * (s.keys + s.rest) + s.head)
    shared_pairs = s.layers * (prompt_pairs + title_pairs)
    return {
        "ours": s.batch * (passes * products + 6 * pair * pairs),
        "prefix-sharing": s.batch * (passes * shared_products + 6 * pair * shared_pairs),
        "published": s.batch * titles * ((passes + 2) * copy_products + (6 + 2) * pair * copy_pairs),
    }


def step_bytes(
    shape: Shape, negatives: int, lora: int | None, half: bool, parts: dict[str, int], checkpointing: bool = False
) -> dict[str, float]:
    """Bytes that a step of each way moves between memory and processor at least, if no cache holds any of it.

    - Weights: read in the forward and in the backward pass of each micro-batch (and once more where layers are run
      again); by the published way's reference once. Of an embedding that is not the head: some rows, left out.
    - Gradients, float32: written by each micro-batch, read by each but the first, then for the norm and the update.
    - Optimizer: `UPDATE`.
    - Saved activations, written once and read once. A layer's are the inputs of its norms, products, attention and
      activation function: 6 hidden-wide (two residuals, two norms, queries, attended), keys and values, 3
      feed-forward-wide. Then the final norm's input and output. The last layer's of ours are those of its keys and
      values for all tokens, the rest at places.
    - Logits, float32, written once and read once; of the reference too.

    Args:
        lora: rank of the adapter; none: all weights are trained.
        half: bfloat16 activations, and bfloat16 weights under an adapter; else float32.
        parts: micro-batches of a step, ours (prefix sharing's too) and the published way's.
    """
    s, titles = shape, negatives + 1
    read = (s.layers * (s.keys + s.rest) + s.head) * (BFLOAT16 if half and lora else FLOAT32)
    trained = s.adapter(lora) if lora else s.weights
    per_value = BFLOAT16 if half else FLOAT32
    early, late = 2 * s.hidden + 2 * s.key_width, 4 * s.hidden + 3 * s.intermediate  # up to keys and values; past them
    final, logits = 2 * s.hidden, s.vocabulary * FLOAT32

    def of_weights(part: int, reference: int) -> float:
        gradients = part + (part - 1) + 2
        return part * (2 + checkpointing + reference) * read + trained * (gradients * FLOAT32 + UPDATE)

    document, places = s.document(titles), s.places(titles)
    saved = (s.layers - 1) * document * (early + late) + document * early + places * (late + final)
    length = s.prompt + s.title
    token = s.layers * (early + late) + final
    shared, copy = document * token, length * token
    return {
        "ours": of_weights(parts["ours"], 0) + 2 * s.batch * (saved * per_value + places * logits),
        "prefix-sharing": of_weights(parts["ours"], 0) + 2 * s.batch * (shared * per_value + document * logits),
        "published": of_weights(parts["published"], 1)
        + 2 * s.batch * titles * (copy * per_value + 2 * length * logits),
    }


@dataclass(frozen=True)
class Machine:
    """What a step's time is set beside."""

    flops_per_second: float
    peak: str
    """Where that is from."""
    bytes_per_second: float
    bandwidth: str


def find_machine(device: torch.device, peak_tflops: float | None, seconds: float = 2.0) -> Machine:
    """The peak that is given, or else the attainable one; the bandwidth of a large copy. Measured on torch's threads.

    Args:
        seconds: about how long to measure each.
    """
    dtype, sizes, mb = torch.float32, (512, 1024, 2048), 256
    if device.type == "cuda":
        dtype, sizes, mb = torch.bfloat16, (4096, 8192, 16_384), 2048
    if peak_tflops is not None:
        peak, told = peak_tflops * 1e12, "given by --peak-tflops"
    else:
        peak = max(_product(device, dtype, size, seconds / len(sizes)) for size in sizes)
        told = f"measured: best product of square {dtype} matrices, {sizes[0]} to {sizes[-1]} wide"
    values = mb * 1_000_000 // FLOAT32
    source, target = (torch.ones(values, device=device) for _ in range(2))
    copied = 2 * values * FLOAT32 / _best(device, lambda: target.copy_(source), seconds / 2)
    return Machine(peak, told, copied, f"measured: best copy of {mb} MB, each byte read and written")


def _product(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> float:
    """FLOP/s of the best product of two square matrices."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * size**3 / _best(device, lambda: torch.mm(a, b, out=out), seconds)


def _best(device: torch.device, work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of at least three runs, after one that is not counted."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 4 or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])
