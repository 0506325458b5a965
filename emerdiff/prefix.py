"""One pass, many tails: what the UNet computed up to the modulation layer is recorded once and answers for a batch.

No forward is copied: the UNet's own runs every time. While a recorded prefix is in use, each module that had finished
when the layer had (down blocks, mid block, earlier up blocks, and what comes before the layer in its own block) answers
with its recorded output instead of computing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from emerdiff.attention import token_offsets


@dataclass(frozen=True)
class Prefix:
    """What a pass of one latent computed up to the end of a layer. Filled by `recorded_prefix`."""

    layer: nn.Module
    outputs: dict[nn.Module, Any] = field(default_factory=dict)  # of modules as large as can be; tensors are (1, …)


@contextmanager
def recorded_prefix(unet: nn.Module, layer: nn.Module) -> Iterator[Prefix]:
    """Records the first pass inside, of one latent: every module of `unet` that finishes before the layer, and it."""
    prefix = Prefix(layer)
    again: set[nn.Module] = set()  # what runs once more after it ran before the layer cannot answer with one output

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if module in prefix.outputs:
            again.add(module)
        elif layer not in prefix.outputs:
            prefix.outputs[module] = output

    with ExitStack() as hooks:
        for module in _beside_the_way(unet, layer):
            hooks.callback(module.register_forward_hook(keep).remove)
        yield prefix
    for module in again:
        del prefix.outputs[module]


@contextmanager
def resumed_after(prefix: Prefix, offsets: Tensor, latent_hw: tuple[int, int]) -> Iterator[None]:
    """Passes inside, of B copies of the prefix's latent, begin with the layer's output plus `offsets` (B, h, w).

    As `attention.offset_output` adds them, and with the same result up to rounding.
    """
    count = len(offsets)

    def answers(output: Any) -> Any:
        return lambda *inputs, **named: _repeated(output, count)

    def offset(*inputs: Any, **named: Any) -> Tensor:
        output = prefix.outputs[prefix.layer]
        return output + token_offsets(offsets, output, latent_hw)

    with ExitStack() as replaced:
        for module, output in prefix.outputs.items():
            forward = offset if module is prefix.layer else answers(output)
            replaced.enter_context(forward_of(module, forward))
        yield


@contextmanager
def forward_of(module: nn.Module, forward: Any) -> Iterator[None]:
    """The module's forward is another one: an attribute of the instance hides the class's method."""
    hidden = module.__dict__.get("forward")  # what another tool may have put there, accelerate's hooks for one
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if hidden is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = hidden


def _beside_the_way(unet: nn.Module, layer: nn.Module) -> Iterator[nn.Module]:
    """The children of every module that contains the layer, unless they contain it as well; and the layer."""
    if unet is layer:
        yield layer
    elif any(module is layer for module in unet.modules()):
        for child in unet.children():
            yield from _beside_the_way(child, layer)
    elif isinstance(unet, nn.ModuleList):  # has no forward of its own
        yield from unet
    else:
        yield unet


def _repeated(output: Any, count: int) -> Any:
    """(1, …) tensors as (count, …) views of the same memory, in whatever tuples they come."""
    if isinstance(output, Tensor):
        return output.expand(count, *output.shape[1:])
    return tuple(_repeated(part, count) for part in output)
