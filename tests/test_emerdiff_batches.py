from __future__ import annotations

import logging
from itertools import chain

import numpy as np
import pytest
import torch
from tiny_emerdiff import picture, tiny_backbone, tiny_config

from emerdiff import EmerDiff
from emerdiff.batches import Batches, items_at_once, largest_power, on_cpu, sent_to

# What PyTorch says on CUDA, on MPS, and of the CPU's allocator.
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


def limited(most: int, error: BaseException, seen: list[int]):
    """A call that takes at most so many items."""

    def call(part: slice) -> list[int]:
        seen.append(part.stop - part.start)
        if seen[-1] > most:
            raise error
        return list(range(part.start, part.stop))

    return call


def test_slices_cover_the_range():
    assert list(Batches(4).run(lambda part: (part.start, part.stop), 10)) == [(0, 4), (4, 8), (8, 10)]
    assert list(Batches(4).run(lambda part: part, 0)) == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20] or "MemoryError")
def test_batches_are_halved_until_they_fit(error, caplog):
    seen: list[int] = []
    batches = Batches(16)
    with caplog.at_level(logging.WARNING):
        results = list(batches.run(limited(3, error, seen), 10))
    assert list(chain(*results)) == list(range(10))
    assert seen == [10, 5, 2, 2, 2, 2, 2]
    assert "batch of 10" in caplog.text and "batch of 5" in caplog.text
    assert list(batches.run(limited(3, error, seen), 4)) == [[0, 1], [2, 3]]  # it remembers


def test_the_size_of_batches_is_a_power_of_two_that_fits():
    assert [largest_power(most) for most in (0.3, 1, 2, 3.9, 4, 60, 64)] == [1, 1, 2, 2, 4, 32, 64]


def test_half_of_a_gpus_memory_is_for_a_batch(monkeypatch):
    properties = type("Properties", (), {"total_memory": 8 * 2**30})
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
    assert items_at_once(torch.device("cuda"), 80 * 2**20) == 32
    assert items_at_once(torch.device("cuda"), 2**40) == 1
    assert items_at_once(torch.device("cpu"), 80 * 2**20) == 16


def test_a_model_counts_the_memory_of_its_own_latents(monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr("emerdiff.backbones.protocol.items_at_once", lambda device, each: asked.append(each) or 2)
    backbone = tiny_backbone()
    one_size = EmerDiff(backbone, tiny_config(batch_size=2)).segment(picture())
    assert not asked
    by_itself = EmerDiff(backbone, tiny_config(batch_size=None)).segment(picture())
    assert set(asked) == {32 * 16 * 8 * 8 * 4}  # 16 channels at 8 × 8 in float32
    np.testing.assert_array_equal(by_itself.label_map, one_size.label_map)


def test_memory_that_does_not_hold_one_item_is_an_error():
    with pytest.raises(torch.OutOfMemoryError, match="not even one trajectory fits into memory"):
        list(Batches(4).run(limited(0, ERRORS[0], []), 10))


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"):
        list(Batches(4).run(limited(0, RuntimeError("shapes do not match"), []), 10))


def test_a_segmentation_survives_a_small_memory(monkeypatch):
    backbone = tiny_backbone()
    segmenter = EmerDiff(backbone, tiny_config(batch_size=16))
    expected = segmenter.segment(picture(), keep_difference=True)
    forward, sizes = backbone.unet.forward, []

    def small(sample, *args, **kwargs):
        sizes.append(len(sample))
        if len(sample) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(backbone.unet, "forward", small)
    masks = segmenter.segment(picture(), keep_difference=True)
    assert [size for size in sizes if size > 2] == [6, 3]  # at the first timestep only
    np.testing.assert_allclose(masks.difference, expected.difference, rtol=1e-2, atol=1e-4)
    monkeypatch.setattr(backbone.unet, "forward", forward)
    hooks = sum(len(module._forward_hooks) for module in backbone.unet.modules())
    assert hooks == 0


def test_tensors_come_to_the_cpu_in_order():
    tensors = [torch.full((2, 3), float(index)) for index in range(3)]
    assert [int(tensor.sum()) for tensor in on_cpu(iter(tensors))] == [0, 6, 12]
    assert list(on_cpu([])) == []


def test_a_tensor_is_sent_in_the_others_dtype():
    sent = sent_to(torch.ones(2), torch.zeros(1, dtype=torch.float64))
    assert sent.dtype == torch.float64 and sent.tolist() == [1, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_tensors_of_a_gpu_come_to_the_cpu_in_order():
    made = (torch.full((512, 512), float(index), device="cuda") for index in range(5))
    assert [float(tensor.mean()) for tensor in on_cpu(made)] == [0, 1, 2, 3, 4]
    assert sent_to(torch.ones(2), torch.zeros(1, device="cuda")).is_cuda
