"""Too little memory, said in words that help."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from raypref.errors import UserError

ALLOCATOR_TEXTS = ("can't allocate memory", "Cannot allocate memory", "CUDA out of memory")


@contextlib.contextmanager
def memory_faults(where: str) -> Iterator[None]:
    """Turns a failed allocation, on a GPU or in the machine's memory, into a UserError; lets any other error through.

    A process that the kernel or Ray kills for its memory has no time for this: its death is told of as a death.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and not any(text in str(error) for text in ALLOCATOR_TEXTS):
            raise
        why = (str(error).strip() or "an allocation failed").splitlines()[0][:200]
        hint = (
            "lower resources.micro_batch (or evaluation.batch), set model.gradient_checkpointing, or take a larger GPU"
        )
        raise UserError(f"out of memory: {why}", where=where, hint=hint) from error
