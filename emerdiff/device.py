"""Where the model runs and in which precision: the user's words → torch's, with "auto" resolved."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """`auto` (cuda, else mps, else cpu) or any device that torch can use here; else ValueError."""
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch is built without it
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"device {device!r} is not usable ({reason}), expected auto, cpu, cuda or mps") from None


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` (float16 on cuda and mps, float32 elsewhere) or a key of DTYPES; else ValueError."""
    if dtype == "auto":
        dtype = "float16" if device.type in ("cuda", "mps") else "float32"
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} given, expected one of auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]
