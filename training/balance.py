"""Labels that vary alike: a CLIP's two projections, rewritten so that no label wins for varying more than others.

    python -m training.balance FOLDER OUTPUT --images IMAGES [--power 0.25] [--count 800]

What is often seen in training, such as roads and walls, gets logits that vary widely from place to place; they win
where nothing fits, and lose where they ought to win. With S the covariance of the embeddings of all places, the logits
of a label t have the variance tᵀ S t. A = S^power, put after the text tower, and its inverse, put after the image
tower, leave their product as it is, but for the length that the text's embedding is divided by: labels that vary more
count less. Both are linear, so that the result is a plain open_clip model.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from ground.images import read_image
from ovseg import OpenVocabSegmenter
from ovseg.fetch import CONFIG_FILE, WEIGHTS_FILE
from training.photo_clip import class_names
from training.photos import read_photos

# Directions that vary less than this share of the mean count as if they varied so much.
FAINTEST = 0.1
PLACES = 30  # of each image
# Of the model: what is put after its towers.
_TEXT, _IMAGE = "text.proj.weight", ("visual.trunk.classifier.weight", "visual.trunk.classifier.bias")


def balancing(embeddings: NDArray[np.float32], power: float) -> tuple[Tensor, Tensor]:
    """A = S^power and its inverse, (C, C) float64 each, S the covariance of `embeddings` (N, C)."""
    values, vectors = torch.linalg.eigh(torch.cov(torch.from_numpy(embeddings).double().T))
    spreads = (values.clamp(min=0) + FAINTEST * values.mean()) ** power
    return (vectors * spreads) @ vectors.T, (vectors / spreads) @ vectors.T


def balance(folder: Path, output: Path, images: Sequence[Path], power: float) -> None:
    """Write the model of `folder` into the new folder `output`, balanced by the places of `images`.

    The factor on its cosines is changed so that logits of usual labels vary as they did. ValueError if the image tower
    of `folder` does not end as that of the preset mini.
    """
    state = load_file(folder / WEIGHTS_FILE)
    if any(name not in state for name in _IMAGE):
        raise ValueError(f"{folder} has no {_IMAGE[0]}: expected the image tower of the preset mini, as trained")
    before = places(folder, images)
    transform, inverse = balancing(before, power)
    projection = transform @ state[_TEXT].double() if _TEXT in state else transform
    state[_TEXT] = projection.to(state[_IMAGE[0]].dtype)
    for name in _IMAGE:
        state[name] = (inverse @ state[name].double()).to(state[name].dtype)
    shutil.copytree(folder, output)
    settings = json.loads((folder / CONFIG_FILE).read_text())
    settings["model_cfg"]["text_cfg"]["hf_proj_type"] = "linear"
    (output / CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, output / WEIGHTS_FILE, {"format": "pt"})
    varied = [spread_of_logits(*pair) for pair in ((folder, before), (output, places(output, images)))]
    state["logit_scale"] = state["logit_scale"] + float(np.log(varied[0] / varied[1]))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, output / WEIGHTS_FILE, {"format": "pt"})


def places(folder: Path, images: Sequence[Path]) -> NDArray[np.float32]:
    """(N, C) unit embeddings of some places of each image, as the preset mini sees them at the tower's own stride."""
    model, rng = _segmenter(folder), np.random.default_rng(0)
    found = []
    for path in images:
        embeddings = model.segment(read_image(path), ["thing"]).embeddings  # C x h x w
        rows = embeddings.reshape(len(embeddings), -1).T
        found.append(rng.permutation(rows)[:PLACES])
    return np.concatenate(found)


def spread_of_logits(folder: Path, embeddings: NDArray[np.float32]) -> float:
    """Standard deviation over `embeddings` (N, C) of the cosines with usual labels, the mean over these."""
    usual = sorted({name.casefold() for name in class_names()})
    cosines = embeddings @ _segmenter(folder).encode_labels(usual).T  # N x L
    return float(cosines.std(axis=0).mean())


def _segmenter(folder: Path) -> OpenVocabSegmenter:
    settings = {"model": f"local-dir:{folder}", "output_stride": None}
    return OpenVocabSegmenter.from_preset("mini", device="cpu", dtype="float32", **settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an open_clip local-dir, as photo-clip writes it")
    parser.add_argument("output", type=Path, help="a new folder")
    parser.add_argument("--images", type=Path, required=True, help="as for the trainers: a folder with captions.csv")
    parser.add_argument("--power", type=float, default=0.25, help="0 changes nothing; at 0.5 all labels vary alike")
    parser.add_argument("--of", default="", help="sources of these alone, as NAME,NAME (default: all)")
    parser.add_argument("--count", type=int, default=800, help="images to look at")
    arguments = parser.parse_args()
    if not (arguments.folder / WEIGHTS_FILE).is_file():
        parser.error(f"{arguments.folder} has no {WEIGHTS_FILE}: expected an open_clip local-dir")
    if arguments.output.exists():
        parser.error(f"{arguments.output} is there already: expected the name of a new folder")
    sources = [name for name in arguments.of.split(",") if name]
    photos = [photo for photo in read_photos(arguments.images) if not sources or Path(photo.source).name in sources]
    if not photos:
        parser.error(f"no images of {arguments.of} in {arguments.images}: expected sources, as its folders are named")
    drawn = np.random.default_rng(0).permutation(len(photos))[: arguments.count]
    balance(arguments.folder, arguments.output, [photos[i].path for i in drawn], arguments.power)


if __name__ == "__main__":
    main()
