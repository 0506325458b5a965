"""Frames of videos → (H, W, 3) uint8 RGB, by their number: that of the frame among all that can be decoded, from 0.

Videos are read from the beginning, frame after frame, by OpenCV (FFmpeg): seeking lands on other frames than it was
asked for where these are coded as differences. One frame is in memory. Frames are turned as the file says.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
# Of those whose container lists its frames: others tell how many there are from the duration.
_LISTED = (".mp4", ".m4v", ".mov", ".avi")
NEEDS_EVERY = "is a video: --every 10 (every=10) takes each tenth frame of it"
_FRAME = re.compile(rf"(.+(?:{'|'.join(map(re.escape, SUFFIXES))}))#(\d{{1,9}})", re.IGNORECASE | re.DOTALL)


def is_video(path: str | Path) -> bool:
    """Whether it is named like a video."""
    return os.fspath(path).lower().endswith(SUFFIXES)


def frame_path(video: Path, number: int) -> Path:
    """What stands for a frame wherever an image has a path: /a/clip.mp4#10."""
    return Path(f"{video}#{number}")


def split_frame(path: str | Path) -> tuple[Path, int | None]:
    """(video, number) of the path of a frame; (path, None) of any other, such as a file that is really called so."""
    match = _FRAME.fullmatch(os.fspath(path))
    if match is None or os.path.lexists(path):
        return Path(path), None
    return Path(match[1]), int(match[2])


def frame_name(video: Path, number: int) -> str:
    """What the outputs of a frame are called: clip-000010."""
    return f"{video.stem}-{number:06d}"


def frames_of(video: Path, every: int) -> list[Path]:
    """The paths of frames 0, `every`, 2 `every`, … of a video, which is read to its end.

    If it cannot be read as far as it says, the first of these that cannot be is among them: reading it tells why.
    """
    readable, declared = _count(video)
    numbers = list(range(0, readable, every))
    missing = len(numbers) * every
    cut = video.suffix.lower() in _LISTED and declared - readable > max(1, declared // 100) and missing < declared
    return [frame_path(video, number) for number in (*numbers, *([missing] if cut or not readable else []))]


def _count(video: Path) -> tuple[int, int]:
    """(frames that can be decoded, frames that the file says it has)."""
    capture = _opened(video)
    readable = 0
    try:
        declared = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        while capture.grab():
            readable += 1
    finally:
        capture.release()
    return readable, declared


@dataclass
class FrameReader:
    """Reads frames, the sooner the more they are in order; one video is open at a time."""

    _video: Path | None = None
    _capture: cv2.VideoCapture | None = None
    _next: int = 0  # number of the frame that comes next

    def read(self, video: Path, number: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB. FileNotFoundError on a missing file; ValueError on a frame that cannot be read."""
        if not video.is_file():
            raise FileNotFoundError(f"no video file {video}")
        if self._capture is None or self._video != video or number < self._next:
            self.close()
            self._video, self._capture, self._next = video, _opened(video), 0
        declared = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) if self._capture.isOpened() else 0
        while self._next <= number:
            if not self._capture.grab():
                ended = self._next
                self.close()
                if ended == 0:
                    raise ValueError("cannot be read as a video: damaged, or of a kind that OpenCV cannot decode")
                raise ValueError(f"frame {number} cannot be read: {ended} of {declared} frames can be")
            self._next += 1
        _check_size(self._capture)
        read, frame = self._capture.retrieve()
        if not read or frame is None:
            raise ValueError(f"frame {number} cannot be decoded")
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB)  # type: ignore[return-value]

    def close(self) -> None:
        """Close the video."""
        if self._capture is not None:
            self._capture.release()
        self._video = self._capture = None


def _check_size(capture: cv2.VideoCapture) -> None:
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > 2 * limit:
        raise ValueError(f"too large: frames of {width} x {height} px; limit_pixels (--max-megapixels) allows more")


def _opened(video: Path) -> cv2.VideoCapture:
    _keep_quiet()
    return cv2.VideoCapture(str(video))


@cache
def _keep_quiet() -> None:
    """What is wrong with a file is said once, by us: FFmpeg writes to standard error by itself."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
