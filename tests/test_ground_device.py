"""Devices and precisions by name."""

from __future__ import annotations

import pytest
import torch

from ground.choices import Dtype
from ground.device import DTYPES, resolve_device, resolve_dtype


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_an_unusable_device_is_named_with_the_choices_and_the_reason(device):
    with pytest.raises(ValueError, match=rf"^device is '{device}', expected auto .*cpu, cuda, mps: .+") as error:
        resolve_device(device)
    assert "\n" not in str(error.value)


def test_a_device_that_is_there():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cuda", "mps", "cpu")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("cuda", torch.float16), ("mps", torch.float16), ("cpu", torch.float32)],
)
def test_auto_is_half_precision_where_it_is_fast(kind, expected):
    assert resolve_dtype("auto", torch.device(kind)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_precision_is_taken_by_name_and_by_member(dtype):
    named = {resolve_dtype(name, torch.device("cpu")) for name in (str(dtype), Dtype(dtype))}
    assert named == {getattr(torch, str(dtype))}


def test_an_unknown_precision_is_named_with_the_choices():
    with pytest.raises(ValueError, match="dtype is 'half', expected one of auto, float32, bfloat16, float16"):
        resolve_dtype("half", torch.device("cpu"))
