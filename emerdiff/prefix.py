"""One pass, many tails: what the denoiser computed up to the modulation layer is recorded once and answers for a batch.

No forward is copied: the denoiser's own runs every time. While a recorded prefix is in use, each module that had
finished when the layer had (of a UNet down blocks, mid block, earlier up blocks; of a transformer earlier blocks; and
what comes before the layer in its own block) answers with its recorded output instead of computing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from emerdiff.attention import with_offsets


@dataclass(frozen=True)
class Prefix:
    """What a pass of one latent computed up to the end of a layer. Filled by `recorded_prefix`."""

    layer: nn.Module
    outputs: dict[nn.Module, Any] = field(default_factory=dict)  # of modules as large as can be; tensors are (1, …)


@contextmanager
def recorded_prefix(denoiser: nn.Module, layer: nn.Module) -> Iterator[Prefix]:
    """Records the first pass inside, of one latent: what of `denoiser` finishes before the layer, and the layer."""
    prefix = Prefix(layer)
    again: set[nn.Module] = set()  # what runs once more after it ran before the layer cannot answer with one output

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if module in prefix.outputs:
            again.add(module)
        elif layer not in prefix.outputs:
            prefix.outputs[module] = output

    with ExitStack() as hooks:
        for module in _beside_the_way(denoiser, layer):
            hooks.callback(module.register_forward_hook(keep).remove)
        yield prefix
    for module in again:
        del prefix.outputs[module]


@contextmanager
def resumed_after(prefix: Prefix, offsets: Tensor, grid_hw: tuple[int, int]) -> Iterator[None]:
    """Passes inside, of B copies of the prefix's latent, begin with the layer's output plus `offsets` (B, h, w).

    As `attention.offset_output` adds them, and with the same result up to rounding.
    """
    count = len(offsets)

    def answers(output: Any) -> Any:
        return lambda *inputs, **named: _repeated(output, count)

    def offset(*inputs: Any, **named: Any) -> Any:
        return with_offsets(_repeated(prefix.outputs[prefix.layer], count), offsets, grid_hw)

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


def _beside_the_way(module: nn.Module, layer: nn.Module) -> Iterator[nn.Module]:
    """The children of every module that contains the layer, unless they contain it as well; and the layer.

    Those without weights are left out, such as embeddings of time and place: they are quick, and what they give may
    have another first dimension than the batch.
    """
    if module is layer:
        yield layer
    elif any(each is layer for each in module.modules()):
        for child in module.children():
            yield from _beside_the_way(child, layer)
    elif isinstance(module, nn.ModuleList):  # has no forward of its own
        yield from module
    elif next(module.parameters(), None) is not None:
        yield module


def _repeated(output: Any, count: int) -> Any:
    """(1, …) tensors as (count, …) views of the same memory, in whatever tuples they come."""
    if isinstance(output, Tensor):
        return output.expand(count, *output.shape[1:])
    if output is None:
        return None
    return tuple(_repeated(part, count) for part in output)
