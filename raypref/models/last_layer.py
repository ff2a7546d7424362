"""The last decoder layer, computed only where its output is read.

Past the last layer only the places that predict a title's token matter, a few of every hundred tokens; the others are
needed there as keys and values alone. So its queries, its output projection and its feed-forward block, most of the
layer's work, are skipped for them. The output there is not the model's, and nobody reads it.

It is done by hooks on the layer's own modules, whose names Llama, Qwen, Mistral and Gemma share; a model without these
names computes all of its last layer. They act only while the decoder is given `titles`, so generation is untouched.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from raypref.models.attention import ONLY_PLACES

MARK = "raypref_last_layer"


def only_places(decoder: nn.Module) -> bool:
    """Teach a decoder's last layer to skip what is not read; whether it could be taught. Once is enough."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        return False
    layer = layers[-1]
    if hasattr(layer, MARK):
        return True
    attention, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    if not (hasattr(attention, "q_proj") and hasattr(attention, "o_proj") and hasattr(mlp, "down_proj")):
        return False
    assert isinstance(attention, nn.Module)
    assert isinstance(mlp, nn.Module)
    setattr(layer, MARK, _Hooks(attention, [attention.q_proj, attention.o_proj, mlp]))  # type: ignore[list-item]
    setattr(attention, ONLY_PLACES, True)
    return True


class _Hooks:
    """Gathers the places before each of some modules and scatters its output after it."""

    def __init__(self, attention: nn.Module, modules: list[nn.Module]) -> None:
        self.places: Tensor | None = None
        # The attention runs before the block that follows it, also when a checkpointed layer is run again.
        attention.register_forward_pre_hook(self._begin, with_kwargs=True)
        for module in modules:
            module.register_forward_pre_hook(self._gather)
            module.register_forward_hook(self._scatter)

    def _begin(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        titles = kwargs.get("titles")
        self.places = None if titles is None else titles.places
        self.shape = None if titles is None else titles.input_ids.shape

    def _gather(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.places is None:
            return None
        states: Tensor = args[0]
        return (states.flatten(0, 1)[self.places], *args[1:])

    def _scatter(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if self.places is None or self.shape is None:
            return None
        rows, length = self.shape
        whole = output.new_zeros(rows * length, output.shape[-1])
        return whole.index_copy(0, self.places, output).view(rows, length, -1)
