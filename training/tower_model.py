"""The image tower by itself: from an open_clip local-dir, at a finer stride, and back into one."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovseg.conv import dense_locations, make_finer
from ovseg.fetch import CONFIG_FILE, WEIGHTS_FILE
from training.photo_clip import CLASSIFIER_FILE

STRIDE = 16  # px per location of the feature map
HEAD = ("conv_head", "bn2", "classifier")  # of an EfficientNet
_VISUAL, _SCALE = "visual.", "logit_scale"


class Tower(nn.Module):
    """The image tower and the factor on its cosines."""

    def __init__(self, visual: TimmModel, logit_scale: Tensor) -> None:
        super().__init__()
        self.visual, self.logit_scale = visual, nn.Parameter(logit_scale)

    def freeze_trunk(self) -> None:
        """Let the head alone learn. ValueError if there is no head as that of EfficientNet."""
        trunk = self.visual.trunk
        if missing := [name for name in HEAD if not hasattr(trunk, name)]:
            raise ValueError(f"the image tower has no {missing[0]}, expected one of timm's EfficientNets")
        trunk.requires_grad_(False)
        for name in HEAD:
            getattr(trunk, name).requires_grad_(True)

    def train(self, mode: bool = True) -> Tower:
        """Norms keep the statistics of the pretrained tower: drawings and photographs would mix theirs."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, P, C) float32 unit embeddings of the places, row by row; `pixels` (B, 3, H, W) normalised."""
        dense = dense_locations(self.visual, pixels).flatten(2).mT
        return F.normalize(dense.float(), dim=-1)

    @property
    def scale(self) -> Tensor:
        return self.logit_scale.exp().clamp(max=60)


def load_tower(folder: Path, stride: int = STRIDE) -> Tower:
    """The tower of an open_clip local-dir, of whose weights only the image tower's need be there.

    ValueError if it is no convolutional tower of timm, or has no such stride.
    """
    config = json.loads((folder / CONFIG_FILE).read_text())["model_cfg"]
    vision = config["vision_cfg"]
    if "timm_model_name" not in vision:
        raise ValueError(f"the image tower of {folder} is none of timm's, expected a convolutional one")
    visual = TimmModel(
        vision["timm_model_name"],
        embed_dim=config["embed_dim"],
        image_size=vision["image_size"],
        pool=vision.get("timm_pool", "avg"),
        proj=vision.get("timm_proj", "linear"),
    )
    state = load_file(folder / WEIGHTS_FILE)
    visual.load_state_dict({k.removeprefix(_VISUAL): v.float() for k, v in state.items() if k.startswith(_VISUAL)})
    make_finer(visual, stride)
    return Tower(visual, state[_SCALE].float()).eval()


def preprocessing(folder: Path) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the RGB values in 0..1, (3, 1, 1) each."""
    config = json.loads((folder / CONFIG_FILE).read_text())["preprocess_cfg"]
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    return mean, std


class Teacher:
    """pixels → (B, P, K) probabilities of the names at each place, by the tower as it is or by its own classifier."""

    def __init__(self, tower: Tower, start: Path, names: Tensor) -> None:
        self.visual = deepcopy(tower.visual).requires_grad_(False)
        self.scale, self.names = tower.scale.detach().clone(), names
        classifier = start / CLASSIFIER_FILE
        self.classifier = load_file(classifier, device=str(names.device)) if classifier.is_file() else None

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        if self.classifier is None:
            places = F.normalize(dense_locations(self.visual, pixels).flatten(2).mT.float(), dim=-1)
            return (self.scale * places @ self.names.T).float().softmax(dim=-1)
        features = self.visual.trunk.forward_features(pixels).flatten(2).mT
        weight, bias = (self.classifier[name].to(features.dtype) for name in ("weight", "bias"))
        return F.linear(features, weight, bias).float().softmax(dim=-1)


def save(tower: Tower, start: Path, folder: Path) -> None:
    """Write the local-dir `start` with this image tower, in float16, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = load_file(start / WEIGHTS_FILE)
    state |= {f"{_VISUAL}{name}": tensor for name, tensor in tower.visual.state_dict().items()}
    state[_SCALE] = tower.scale.log()
    state = {name: tensor.detach().half().cpu().contiguous() for name, tensor in state.items()}
    save_file(state, folder / "new.tmp", metadata={"format": "pt"})
    (folder / "new.tmp").replace(folder / WEIGHTS_FILE)
    for path in start.iterdir():
        if path.suffix in (".json", ".txt"):
            shutil.copyfile(path, folder / path.name)


def put_together(tower: Path, start: Path, output: Path) -> None:
    """The local-dir `start` with the image tower of the local-dir `tower`, whose text tower may be missing."""
    save(load_tower(tower), start, output)


def save_overlay(model: Path, base: Path, file: Path) -> None:
    """Write into `file` what differs in the local-dir `model` from the local-dir `base`: an `ovseg.overlay` of it.

    ValueError if the two are not of one architecture.
    """
    new, own = (load_file(folder / WEIGHTS_FILE) for folder in (model, base))
    _check_alike(model, new, base, own)
    differing = {
        name: tensor.contiguous() for name, tensor in new.items() if not torch.equal(tensor.float(), own[name].float())
    }
    save_file(differing, file, metadata={"format": "pt"})


def fold(base: Path, file: Path, output: Path) -> None:
    """Write the local-dir `base` with the overlay `file` laid over it into the new folder `output`.

    ValueError if the overlay has weights that `base` has not, or in another shape.
    """
    own, new = load_file(base / WEIGHTS_FILE), load_file(file)
    if unfit := sorted(name for name, tensor in new.items() if name not in own or own[name].shape != tensor.shape):
        raise ValueError(f"{file} has weights that {base} has not, or in another shape: {', '.join(unfit[:3])}")
    shutil.copytree(base, output)
    save_file(
        {name: tensor.contiguous() for name, tensor in (own | new).items()}, output / WEIGHTS_FILE, {"format": "pt"}
    )


def average(first: Path, second: Path, share: float, output: Path) -> None:
    """Write the model that lies `share` of the way from one local-dir to another into the new folder `output`.

    Both were trained on from one start: averages of such weights often know what either knows (model soups, Wortsman
    et al., ICML 2022). ValueError if the two are not of one architecture.
    """
    own, other = (load_file(folder / WEIGHTS_FILE) for folder in (first, second))
    _check_alike(first, own, second, other)
    shutil.copytree(first, output)
    between = {
        name: tensor if torch.equal(tensor.float(), other[name].float()) else _lerp(tensor, other[name], share)
        for name, tensor in own.items()
    }
    save_file({name: tensor.contiguous() for name, tensor in between.items()}, output / WEIGHTS_FILE, {"format": "pt"})


def _lerp(tensor: Tensor, other: Tensor, share: float) -> Tensor:
    return torch.lerp(tensor.float(), other.float(), share).to(tensor.dtype)


def _check_alike(first: Path, own: dict[str, Tensor], second: Path, other: dict[str, Tensor]) -> None:
    if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in other.items()}:
        raise ValueError(
            f"{first} and {second} differ in architecture, expected a model that was trained on from another"
        )
