"""Where a model runs and in which precision: the user's names → torch's, with "auto" resolved."""

from __future__ import annotations

import torch

from ground.choices import Dtype

DTYPES: dict[str, torch.dtype] = {
    Dtype.FLOAT32: torch.float32,
    Dtype.BFLOAT16: torch.bfloat16,
    Dtype.FLOAT16: torch.float16,
}


def resolve_device(device: str) -> torch.device:
    """`auto` (cuda, else mps, else cpu) or any device that torch can use here; else ValueError."""
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch is built without it
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"device is {device!r}, expected auto or a usable one of cpu, cuda, mps: {reason}") from None


def resolved(device: str, dtype: str) -> dict[str, str]:
    """Where a model runs and in which precision, by name: what decides its results. Errors as below.

    One name for all devices of a kind: "cuda" for "cuda:1".
    """
    where = resolve_device(device)
    precision = resolve_dtype(dtype, where)
    return {"device": where.type, "dtype": next(str(name) for name, known in DTYPES.items() if known == precision)}


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` (float16 on cuda and mps, float32 elsewhere) or a key of DTYPES; else ValueError."""
    if dtype == Dtype.AUTO:
        dtype = Dtype.FLOAT16 if device.type in ("cuda", "mps") else Dtype.FLOAT32
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(Dtype.values())}")
    return DTYPES[dtype]
