"""`Masks`, what the package hands over: class-agnostic masks of one image, and their .npz file."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from emerdiff.affinity import Affinity

from ground.files import replacing

_ARRAYS = ("label_map", "low_res", "features", "difference")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time stamp of every member: the same masks give the same bytes
# What numpy and zipfile raise on files that are cut, altered, or of another kind altogether.
_DAMAGE = (OSError, ValueError, RuntimeError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)

Scalar = str | int | float | bool


@dataclass(frozen=True, eq=False)
class Masks:
    """An image split into K masks. Raises ValueError for shapes, dtypes or indices that do not fit."""

    label_map: NDArray[np.int32]  # (H, W), 0 … K−1, at the image's own size
    low_res: NDArray[np.int32]  # (h, w), 0 … K−1, the masks that it was refined from
    features: NDArray[np.float32]  # (K, C), mean feature vector of each mask
    # (K, H, W), if it was asked for: d^i = ‖I⁻ − I⁺‖ (RGB spans 0..1), blurred and weighted by locality as the config
    # says, resized bilinearly to the image; of latents, or the share of each mask by affinity, if the config says so.
    # Never what the guided filter makes of it: `label_map` is its argmax without that filter only.
    difference: NDArray[np.float16] | None = None
    # Of the image's positions in the UNet, if it was asked for; not in the file that `save` writes.
    affinity: Affinity | None = None

    def __post_init__(self) -> None:
        _check("label_map", self.label_map, np.int32, 2)
        _check("low_res", self.low_res, np.int32, 2)
        _check("features", self.features, np.float32, 2)
        for name, indices in (("label_map", self.label_map), ("low_res", self.low_res)):
            low, high = int(indices.min()), int(indices.max())
            if low < 0 or high >= self.num_masks:
                raise ValueError(f"Masks.{name} holds {low}..{high}, expected within 0..{self.num_masks - 1}")
        if self.difference is not None:
            _check("difference", self.difference, np.float16, 3)
            if self.difference.shape != (self.num_masks, *self.label_map.shape):
                expected = (self.num_masks, *self.label_map.shape)
                raise ValueError(f"Masks.difference has shape {self.difference.shape}, expected {expected}")

    @property
    def num_masks(self) -> int:
        """K. A mask may have lost all its pixels to others in the label map."""
        return len(self.features)

    def save(self, path: Path, **metadata: Scalar) -> None:
        """Writes a compressed .npz with `metadata` as scalars beside the arrays.

        The file appears whole or not at all, and the same content gives the same bytes.
        """
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        if taken := sorted(set(metadata) & set(_ARRAYS)):
            raise ValueError(f"metadata {taken[0]!r} has the name of an array of Masks, expected another name")
        with replacing(Path(path)) as whole, zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as file:
            for name, value in {**arrays, **metadata}.items():
                member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
                member.compress_type = zipfile.ZIP_DEFLATED
                with file.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asarray(value), allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> Masks:
        """Masks from a file that `save` wrote; FileNotFoundError if there is none, ValueError if it is another file."""
        arrays = _read(path)
        if missing := [name for name in _ARRAYS[:3] if name not in arrays]:
            raise ValueError(f"{path} holds no {missing[0]}, expected a file written by Masks.save")
        known: dict[str, Any] = {name: arrays[name] for name in _ARRAYS if name in arrays}
        return cls(**known)

    @staticmethod
    def load_metadata(path: Path) -> dict[str, Scalar]:
        """The metadata that `save` was given; errors as in `load`."""
        return {name: value.item() for name, value in _read(path).items() if name not in _ARRAYS}


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"no masks at {path}") from None
    except _DAMAGE as error:
        raise ValueError(f"{path} is not a file written by Masks.save, or damaged: {error}") from error


def _check(name: str, array: NDArray[Any], dtype: type[np.generic], ndim: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != ndim or array.size == 0:
        given = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"Masks.{name} is {given}, expected a non-empty {ndim}-D {np.dtype(dtype).name} array")
