"""What the guided filter does for masks: their upper bound and their borders, with it and without, on the same scenes.

    python -m benchmarks.edges [--scenes 40] [--preset toy] [--dtype bfloat16]

The filter is ours, not the paper's (emerdiff/guided.py). It is given the preset's difference maps or, as a control, the
clusters as they are: what the second gains owes nothing to modulated denoising. The bound is the mean over scenes of
the mIoU of masks that take their majority region.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from emerdiff import EmerDiff, Masks
from emerdiff.frame import resize_plane
from emerdiff.guided import guided_planes
from fusion.evaluation.metrics import boundary_f, class_counts, majority_regions, mean_iou
from ground.planes import largest_plane
from toyworld import scene

FIRST_SEED = 1_000_000
WITHIN = 2  # px between a border and a true one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--scenes", type=int, default=40)
    arguments = parser.parse_args()
    plain = EmerDiff.from_preset(arguments.preset, dtype=arguments.dtype, guided_radius=0)
    radius = EmerDiff.from_preset(arguments.preset, dtype=arguments.dtype).config.guided_radius

    rows: dict[str, list[tuple[float, float]]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.scenes):
        drawn = scene(seed)
        masks = plain.segment(drawn.image, keep_difference=True)
        clusters = upsampled_clusters(masks)
        maps = {
            "naive": largest_plane(plane.numpy() for plane in clusters),
            "naive, filtered": filtered(clusters, drawn.image, masks, radius),
            "emerdiff": masks.label_map,
            "emerdiff, filtered": filtered(differences(masks), drawn.image, masks, radius),
        }
        truth = drawn.label_map.astype(np.int32)
        for name, label_map in maps.items():
            predicted = majority_regions(label_map, truth)
            bound = float(mean_iou(class_counts(truth, predicted, len(drawn.names))))
            rows.setdefault(name, []).append((bound, boundary_f(truth, predicted, WITHIN)))
    print(f"{arguments.scenes} scenes, K = {plain.config.clusters}, windows of {radius} positions to each side")
    for name, values in rows.items():
        bound, border = np.mean(values, axis=0)
        print(f"{name:18} bound {bound:.3f}   F at {WITHIN} px {border:.3f}")


def upsampled_clusters(masks: Masks) -> list[torch.Tensor]:
    binary = torch.from_numpy(masks.low_res) == torch.arange(masks.num_masks)[:, None, None]
    return [resize_plane(plane.float(), masks.label_map.shape) for plane in binary]


def differences(masks: Masks) -> list[torch.Tensor]:
    assert masks.difference is not None
    return [torch.from_numpy(plane.astype(np.float32)) for plane in masks.difference]


def filtered(planes: list[torch.Tensor], image: np.ndarray, masks: Masks, radius: float) -> np.ndarray:
    """(H, W) int32 label map of planes (H, W) at the image's size; `radius` in positions of the clusters' grid."""
    pixels = max(1, round(radius * image.shape[0] / masks.low_res.shape[0]))
    return largest_plane(guided_planes(planes, image, image.shape[:2], pixels))


if __name__ == "__main__":
    main()
