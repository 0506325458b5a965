"""Threads and processes: what several threads get from one model is what one thread gets, and a fork is refused."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_emerdiff import picture, save_folder, tiny_backbone, tiny_config
from tiny_ovseg import VIT_B16_SHAPED, save_with_bert

import emerdiff.backbone
import ovseg.backbone
from emerdiff import EmerDiff
from ground.turns import Turns, loaded_alone
from ovseg import OpenVocabSegmenter, OvsegConfig

LABELS = ["cat", "grass", "sky"]
SIZES = [(64, 64), (45, 70), (64, 96), (33, 47)]


@pytest.fixture(scope="module")
def diffusion() -> EmerDiff:
    return EmerDiff(tiny_backbone(), tiny_config())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A diffusion model, and a CLIP whose tokenizer is one of Hugging Face."""
    folder = tmp_path_factory.mktemp("models")
    save_with_bert(folder / "clip", VIT_B16_SHAPED["vision_cfg"])
    return save_folder(folder / "sd", "sd1"), folder / "clip"


@pytest.fixture(scope="module")
def clip(folders: tuple[Path, Path]) -> OpenVocabSegmenter:
    return OpenVocabSegmenter.from_config(OvsegConfig(model=f"local-dir:{folders[1]}", image_size=64), device="cpu")


def in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(work, range(count)))


def assert_equal(found: list[Any], expected: list[Any], *fields: str) -> None:
    for one, other in zip(found, expected, strict=True):
        for field in fields:
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_several_threads_get_the_masks_that_one_gets(diffusion: EmerDiff) -> None:
    def masks(index: int) -> Any:
        image = picture(*SIZES[index % 4])
        return diffusion.naive(image, seed=index) if index % 3 == 2 else diffusion.segment(image, seed=index)

    expected = [masks(index) for index in range(8)]
    assert_equal(in_threads(masks, 8), expected, "label_map", "low_res", "features")


def test_several_threads_get_the_coarse_maps_that_one_gets(clip: OpenVocabSegmenter) -> None:
    def coarse(index: int) -> Any:
        return clip.segment(picture(*SIZES[index % 4]), LABELS[: 2 + index % 2])

    expected = [coarse(index) for index in range(16)]
    assert_equal(in_threads(coarse, 16), expected, "label_map", "logits", "text_embeddings")


def test_several_threads_load_whole_models_and_leave_the_precision(folders: tuple[Path, Path]) -> None:
    def dtypes(index: int) -> set[torch.dtype]:
        if index % 2:
            return {emerdiff.backbone.load_backbone(folders[0], device="cpu", dtype="float16").unet.dtype}
        config = OvsegConfig(model=f"local-dir:{folders[1]}")
        parameters = ovseg.backbone.load_backbone(config, device="cpu").model.parameters()
        return {tensor.dtype for tensor in parameters if tensor.device.type == "cpu"}

    assert in_threads(dtypes, 6) == [{torch.float32}, {torch.float16}] * 3
    assert torch.get_default_dtype() == torch.float32


def test_a_load_that_fails_leaves_the_precision() -> None:
    with pytest.raises(ValueError, match="no"), loaded_alone():
        torch.set_default_dtype(torch.float16)
        raise ValueError("no")
    assert torch.get_default_dtype() == torch.float32


def test_the_noise_is_float32_whatever_the_precision_of_modules_being_made(diffusion: EmerDiff) -> None:
    expected = diffusion.segment(picture(), seed=1)
    try:
        torch.set_default_dtype(torch.float64)
        found = diffusion.segment(picture(), seed=1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_equal([found], [expected], "label_map", "features")


def test_pickled_models_do_the_same_with_turns_of_their_own(diffusion: EmerDiff, clip: OpenVocabSegmenter) -> None:
    other = pickle.loads(pickle.dumps(diffusion))
    assert other.turns is other.backbone.turns is not diffusion.turns
    assert_equal([other.segment(picture())], [diffusion.segment(picture())], "label_map", "features")
    other = pickle.loads(pickle.dumps(clip))
    assert_equal([other.segment(picture(), LABELS)], [clip.segment(picture(), LABELS)], "label_map", "logits")


def test_one_thread_at_a_time_and_the_same_one_again() -> None:
    turns, inside = Turns(), threading.Event()
    with turns, turns:
        waiting = threading.Thread(target=lambda: turns.__enter__() or inside.set())
        waiting.start()
        assert not inside.wait(0.05)
    waiting.join()
    assert inside.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_is_told_so_at_once(diffusion: EmerDiff, clip: OpenVocabSegmenter) -> None:
    def refused(call: Callable[[], object]) -> bool:
        try:
            call()
        except RuntimeError as error:
            return "loaded before its process was forked: load it in the worker" in str(error)
        return False

    child = os.fork()
    if child == 0:
        calls = [lambda: diffusion.segment(picture()), lambda: diffusion.naive(picture())]
        calls += [lambda: clip.segment(picture(), LABELS), lambda: clip.encode_labels(LABELS)]
        os._exit(0 if all(map(refused, calls)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
