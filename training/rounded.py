"""A text tower in half the space: its large matrices as numbers of 8 bits, which any reader of safetensors loads.

    python -m training.rounded FOLDER OUTPUT

FOLDER is an open_clip local-dir with a text tower of Hugging Face. The embeddings of its words and the matrices of its
layers become float8 (E4M3: four significant bits; Micikevicius et al., arXiv 2209.05433), from which torch fills a
model of any precision, so that no code is needed to read them. All else stays as it is: the projections, which were
trained here, biases, norms and the image tower.

The layers' matrices are rounded column by column, and what a column is off is made up for by those that are still to be
rounded, as far as the inputs of the layer allow (GPTQ, Frantar et al., ICLR 2023). The inputs are those of the names of
ImageNet's thousand classes, bare and in the templates of photographs. What rounding does to the embeddings of these
names as labels is printed.
"""

from __future__ import annotations

import argparse
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovseg.backbone import Backbone, load_backbone
from ovseg.config import OvsegConfig
from ovseg.fetch import WEIGHTS_FILE, checked_folder
from ovseg.prompts import fill
from ovseg.templates import TEMPLATES
from training.photo_clip import class_names

TOWER = "text.transformer."
SMALLEST = 2**16  # numbers of a matrix that is worth it
FORMAT = torch.float8_e4m3fn
LIMIT = torch.finfo(FORMAT).max
# Of the mean second moment of a layer's inputs: what keeps directions that no text has from being free.
DAMPING = 0.01


@dataclass(frozen=True)
class Difference:
    """How far embeddings of texts are off after rounding: cosines between before and after, and between two texts."""

    texts: int
    mean_cosine: float  # of a text before and after
    least_cosine: float
    mean_change: float  # of the cosine of two texts, in absolute numbers
    largest_change: float


def rounded(state: dict[str, Tensor], moments: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model, by name, with the large matrices of its text tower in float8.

    `moments`: of the inputs of layers, by the names of their weights (see `input_moments`); matrices without are
    rounded to the nearest. ValueError if there are no large ones, or if they hold numbers that float8 cannot.
    """
    matrices = [name for name, own in state.items() if name.startswith(TOWER) and own.ndim == 2]
    large = [name for name in matrices if state[name].numel() >= SMALLEST]
    if not large:
        raise ValueError(f"no matrices {TOWER}… of {SMALLEST} numbers or more: expected a text tower of Hugging Face")
    if beyond := [name for name in large if not state[name].float().abs().max() <= LIMIT]:
        raise ValueError(f"{beyond[0]} has numbers beyond {LIMIT:g}, expected weights that float8 can hold")
    return state | {
        name: compensated(state[name], moments[name]) if name in moments else nearest(state[name]) for name in large
    }


def nearest(weights: Tensor) -> Tensor:
    """The nearest numbers in float8."""
    return weights.float().clamp(-LIMIT, LIMIT).to(FORMAT)


def compensated(weights: Tensor, moments: Tensor) -> Tensor:
    """(D, C) float8 for which the outputs of a layer are near those of `weights` (D, C), on inputs of `moments` (C, C).

    `moments` is the sum of x xᵀ over the inputs x.
    """
    damped = moments.double() + DAMPING * moments.diagonal().mean() * torch.eye(len(moments), dtype=torch.float64)
    # Row i tells by how much the columns behind i are to move for what column i is off.
    spread = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    rest, made = weights.double().clone(), []
    for column, row in enumerate(spread):
        made.append(nearest(rest[:, column]))
        off = (rest[:, column] - made[-1].double()) / row[column]
        rest[:, column + 1 :] -= off[:, None] * row[column + 1 :]
    return torch.stack([each.float() for each in made], dim=1).to(FORMAT)


def input_moments(backbone: Backbone, texts: Sequence[str]) -> dict[str, Tensor]:
    """The sums of x xᵀ (float64) over the inputs of each large linear layer of the text tower, for all tokens of texts.

    By the names of the layers' weights in the model.
    """
    found: dict[str, Tensor] = {}
    tower = backbone.model.text.transformer

    def note(name: str, inputs: Tensor) -> None:
        rows = inputs.flatten(0, -2).double()
        found[name] = found.get(name, torch.zeros(())) + rows.T @ rows

    layers = {f"{TOWER}{name}.weight": each for name, each in tower.named_modules() if isinstance(each, nn.Linear)}
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs[0]))
        for name, layer in layers.items()
        if layer.weight.numel() >= SMALLEST
    ]
    tokens = backbone.tokenizer(list(texts))
    lengths = (tokens != backbone.model.text.config.pad_token_id).sum(dim=1)
    try:
        with torch.inference_mode():
            for length in lengths.unique():  # so that there is no padding, which no embedding sees
                backbone.model.encode_text(tokens[lengths == length][:, :length])
    finally:
        for handle in handles:
            handle.remove()
    return found


def round_folder(folder: Path, output: Path, names: Sequence[str]) -> None:
    """Write the local-dir `folder` with its text tower `rounded`, by the inputs of `names`, into the new `output`."""
    templates = TEMPLATES["photo"]
    in_turn = [fill(templates[index % len(templates)], name) for index, name in enumerate(names)]
    moments = input_moments(_backbone(folder), [*in_turn, *names])
    state = rounded(load_file(folder / WEIGHTS_FILE), moments)
    shutil.copytree(folder, output)
    save_file({name: own.contiguous() for name, own in state.items()}, output / WEIGHTS_FILE, {"format": "pt"})


def compared(before: Path, after: Path, names: Sequence[str]) -> Difference:
    """How far the embeddings of `names` as labels, by the models of two local-dirs, are apart."""
    old, new = (embedded(folder, names) for folder in (before, after))
    cosines = (old * new).sum(axis=1)
    changes = np.abs(new @ new.T - old @ old.T)
    return Difference(
        len(names), float(cosines.mean()), float(cosines.min()), float(changes.mean()), float(changes.max())
    )


def embedded(folder: Path, names: Sequence[str]) -> np.ndarray:
    """(N, C) float32 unit embeddings of names: the means over the templates of photographs, as labels have them."""
    templates = TEMPLATES["photo"]
    prompts = [fill(template, name) for name in names for template in templates]
    means = _backbone(folder).encode_text(prompts).reshape(len(names), len(templates), -1).mean(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def megabytes(folder: Path) -> tuple[float, float]:
    """MB of the weights of a local-dir on disk, and in a wheel, which deflates them."""
    data = (folder / WEIGHTS_FILE).read_bytes()
    return len(data) / 1e6, len(zlib.compress(data, 6)) / 1e6


def _backbone(folder: Path) -> Backbone:
    return load_backbone(OvsegConfig(model=f"local-dir:{folder}"), device="cpu", dtype="float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an open_clip local-dir, as photo-clip and tower write it")
    parser.add_argument("output", type=Path, help="a new folder")
    arguments = parser.parse_args()
    if arguments.output.exists():
        parser.error(f"{arguments.output} is there already: expected the name of a new folder")
    try:
        round_folder(checked_folder(arguments.folder), arguments.output, class_names())
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    for folder in (arguments.folder, arguments.output):
        print(f"{folder}: {{:.1f}} MB, deflated {{:.1f}} MB".format(*megabytes(folder)))
    print(compared(arguments.folder, arguments.output, class_names()))


if __name__ == "__main__":
    main()
