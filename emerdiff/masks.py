"""`Masks`, what the package hands over: class-agnostic masks of one image, and their .npz file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from emerdiff.affinity import Affinity, TiledAffinity

from ground.arrays import check_array, check_indices
from ground.files import replacing

# Name → dtype and number of axes.
_ARRAYS: dict[str, tuple[type[np.generic], int]] = {
    "label_map": (np.int32, 2),
    "low_res": (np.int32, 2),
    "features": (np.float32, 2),
    "difference": (np.float16, 3),
    "affinity": (np.uint8, 3),
}
_OPTIONAL = ("difference", "affinity")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time stamp of every member: the same masks give the same bytes
# What a file may hold at most, so that a small one cannot ask for all memory when it is unpacked.
_MAX_MEMBERS = 64
_MAX_METADATA = 2**16  # bytes of one value
_MAX_FEATURES = 2**26  # values
_MAX_AFFINITY = 2**26  # values
_MIN_LOW_RES = 2**20  # positions, or as many as the image has pixels if these are more

Scalar = str | int | float | bool


@dataclass(frozen=True, eq=False)
class Masks:
    """An image split into K masks. Raises ValueError for shapes, dtypes or indices that do not fit."""

    label_map: NDArray[np.int32]  # (H, W), 0 … K−1, at the image's own size
    low_res: NDArray[np.int32]  # (h, w), 0 … K−1, the masks that it was refined from
    features: NDArray[np.float32]  # (K, C), mean feature vector of each mask
    # (K, H, W), if it was asked for: d^i = ‖I⁻ − I⁺‖ (RGB spans 0..1), blurred and weighted by locality as the config
    # says, resized bilinearly to the image; of latents, or the share of each mask by affinity, if the config says so.
    # Never what the guided filter and areas make of it: `label_map` is its argmax without these only.
    difference: NDArray[np.float16] | None = None
    # Of the image's positions in the UNet, if it was asked for. `save` writes one of features; one of attentions is too
    # large to be kept, and so are those of tiles.
    affinity: Affinity | TiledAffinity | None = None

    def __post_init__(self) -> None:
        for name, (dtype, ndim) in _ARRAYS.items():
            if name != "affinity" and getattr(self, name) is not None:
                check_array(f"Masks.{name}", getattr(self, name), dtype, ndim)
        for name in ("label_map", "low_res"):
            check_indices(f"Masks.{name}", getattr(self, name), 2, self.num_masks)
        if self.difference is not None:
            expected = (self.num_masks, *self.label_map.shape)
            if self.difference.shape != expected:
                raise ValueError(f"Masks.difference has shape {self.difference.shape}, expected {expected}")

    @property
    def num_masks(self) -> int:
        """K. A mask may have lost all its pixels to others in the label map."""
        return len(self.features)

    def to_bytes(self, **metadata: Scalar) -> bytes:
        """What `save` writes."""
        whole = io.BytesIO()
        self._write(whole, metadata)
        return whole.getvalue()

    def save(self, path: Path, **metadata: Scalar) -> None:
        """Writes a compressed .npz with `metadata` as scalars beside the arrays.

        The file appears whole or not at all, and is on disk then; the same content gives the same bytes.
        """
        with replacing(Path(path)) as whole:
            self._write(whole, metadata)

    def _write(self, whole: IO[bytes], metadata: Mapping[str, Scalar]) -> None:
        closeness = getattr(self.affinity, "closeness", None)  # torch.uint8
        kept = {name: getattr(self, name) for name in _ARRAYS}
        kept["affinity"] = None if closeness is None else closeness.cpu().numpy()
        arrays = {name: array for name, array in kept.items() if array is not None}
        if taken := sorted(set(metadata) & set(_ARRAYS)):
            raise ValueError(f"metadata {taken[0]!r} has the name of an array of Masks, expected another name")
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as file:
            for name, value in {**arrays, **metadata}.items():
                member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
                member.compress_type = zipfile.ZIP_DEFLATED
                with file.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asarray(value), allow_pickle=False)

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        size_hw: tuple[int, int] | None = None,
        difference: bool = True,
        affinity: bool = True,
    ) -> Masks:
        """Masks from a file that `save` wrote; FileNotFoundError if there is none, ValueError if it is another file.

        Headers are compared with each other before anything is unpacked, and with `size_hw`, the size of the image,
        where that is known; else the limit of `ground.images.limit_pixels` holds. Without `difference` and `affinity`
        these are left out.
        """
        left_out = {name for name, kept in (("difference", difference), ("affinity", affinity)) if not kept}
        with _opened(path) as members:
            _check_headers({name: members[name] for name in _ARRAYS if name in members}, size_hw)
            arrays: dict[str, Any] = {
                name: members[name].read() for name in _ARRAYS if name in members.keys() - left_out
            }
            if "affinity" in arrays:
                arrays["affinity"] = _affinity(arrays["affinity"])
            return cls(**arrays)

    @staticmethod
    def load_metadata(path: Path) -> dict[str, Scalar]:
        """The metadata that `save` was given; errors as in `load`."""
        with _opened(path) as members:
            return {name: member.read().item() for name, member in members.items() if name not in _ARRAYS}


def _affinity(closeness: NDArray[np.uint8]) -> Affinity:
    import torch

    from emerdiff.affinity import WindowAffinity

    return WindowAffinity(torch.from_numpy(closeness))


@dataclass(frozen=True)
class _Member:
    """An array of a file: its header, and the way to its data."""

    file: zipfile.ZipFile
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> NDArray[Any]:
        with self.file.open(self.info) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            # The checksum is compared where the member ends.
            stream.read(1)
        return array


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, _Member]]:
    """The arrays and metadata in a file by name, nothing but their headers read; errors as in `Masks.load`."""
    try:
        with zipfile.ZipFile(path) as file:
            infos = file.infolist()
            if len(infos) > _MAX_MEMBERS:
                raise ValueError(f"it holds {len(infos)} members, expected {_MAX_MEMBERS} at most")
            members = {info.filename.removesuffix(".npy"): _member(file, info) for info in infos}
            for name, member in members.items():
                if name not in _ARRAYS and (member.shape or member.info.file_size > _MAX_METADATA):
                    raise ValueError(f"{name} has shape {member.shape}, expected a small scalar")
            yield members
    except FileNotFoundError:
        raise FileNotFoundError(f"no masks at {path}") from None
    except MemoryError:
        raise
    # Archives that are cut, altered, or of another kind altogether raise almost anything.
    except Exception as error:
        raise ValueError(f"{path} is not a file written by Masks.save, or damaged: {error}") from error


def _member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    """Checks that the header is that of an array, and that the array is as long as the archive says."""
    if not info.filename.endswith(".npy") or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"member {info.filename!r} is no array that numpy writes")
    with file.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"{info.filename} is of version {version}, expected (1, 0)")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        length = stream.tell() + prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=1) < 1 or length != info.file_size:
        raise ValueError(f"{info.filename} says {dtype} {shape}, which is not what follows")
    return _Member(file, info, shape, dtype)


def _check_headers(headers: Mapping[str, _Member], size_hw: tuple[int, int] | None) -> None:
    """ValueError unless arrays of these headers can be masks of one image, of `size_hw` if that is given."""
    for name, (dtype, ndim) in _ARRAYS.items():
        if name not in headers:
            if name not in _OPTIONAL:
                raise ValueError(f"it holds no {name}")
        elif headers[name].dtype != dtype or len(headers[name].shape) != ndim:
            raise ValueError(f"{name} is {headers[name].dtype} {headers[name].shape}")
    shape = headers["label_map"].shape
    if size_hw is not None and shape != size_hw:
        raise ValueError(f"it has {shape[1]} x {shape[0]} px, expected {size_hw[1]} x {size_hw[0]}")
    if size_hw is None and Image.MAX_IMAGE_PIXELS is not None and prod(shape) > 2 * Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"it has {shape[1]} x {shape[0]} px: limit_pixels (--max-megapixels) allows more")
    limits = {"low_res": max(prod(shape), _MIN_LOW_RES), "features": _MAX_FEATURES, "affinity": _MAX_AFFINITY}
    for name, limit in limits.items():
        if name in headers and prod(headers[name].shape) > limit:
            raise ValueError(f"{name} has shape {headers[name].shape}, expected {limit} values at most")
    expected = (headers["features"].shape[0], *shape)
    if "difference" in headers and headers["difference"].shape != expected:
        raise ValueError(f"difference has shape {headers['difference'].shape}, expected {expected}")
