"""What each way to masks costs on the same scenes, measured in turn in one run, as ratios to the exact EmerDiff.

    python -m benchmarks.masks [--clusters 4] [--rounds 3] [--preset mini]

`reference` is the method as the paper writes it (tests/reference_emerdiff.py): one trajectory at a time, every softmax
computed anew, the unmodulated pass repeated for each. `emerdiff` gives the same planes up to rounding. Run it from the
root of the repository.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from emerdiff import EmerDiff, grid_masks, slic_masks
from emerdiff.frame import frame_size, to_frame
from tests.reference_emerdiff import reference_differences
from toyworld import scene

FIRST_SEED = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--clusters", type=int, default=4, help="K; the reference takes long for many")
    parser.add_argument("--rounds", type=int, default=3, help="scenes, one a round")
    arguments = parser.parse_args()
    model = EmerDiff.from_preset(arguments.preset, clusters=arguments.clusters)

    seconds: dict[str, list[float]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.rounds):
        for name, call in _calls(model, scene(seed).image).items():
            start = time.perf_counter()
            call()
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    exact = np.array(seconds["emerdiff"])
    print(f"{arguments.rounds} scenes, K = {arguments.clusters}, {torch.get_num_threads()} threads")
    for name, times in seconds.items():
        ratio = median(np.array(times) / exact)  # round by round: a drift of the machine's speed falls out
        print(f"{name:10} {median(times):8.2f} s   {ratio:8.3f} x emerdiff")


def _calls(model: EmerDiff, image: np.ndarray) -> dict[str, Callable[[], object]]:
    config, backbone = model.config, model.backbone

    @torch.inference_mode()
    def reference() -> object:
        size_hw = frame_size(image.shape[:2], config.image_size, backbone.side_multiple)
        clean = backbone.encode(to_frame(image, size_hw))
        processors = backbone.unet.attn_processors
        try:
            low_res = torch.from_numpy(model.naive(image).low_res)
            return reference_differences(backbone, clean, low_res, list(model.timesteps), config, 0)
        finally:
            backbone.unet.set_attn_processor(processors)

    return {
        "grid": lambda: grid_masks(image, config.clusters),
        "slic": lambda: slic_masks(image, config.clusters),
        "naive": lambda: model.naive(image),
        "emerdiff": lambda: model.segment(image),
        "reference": reference,
    }


if __name__ == "__main__":
    main()
