"""The packages that the training set is made from: name, kind and licence of each, and how to get them."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """A package of Debian 12 or of npm, which holds images or names."""

    name: str
    kind: str  # debian or npm
    what: str  # what is taken from it, and under which licence


PACKAGES = (
    Package("sweethome3d-furniture", "debian", "models: CC-BY-3.0, CC0-1.0"),
    Package("openclipart-png", "debian", "drawings: public domain"),
    Package("openclipart-svg", "debian", "names and licences of the drawings"),
    Package("fonts-noto-color-emoji", "debian", "emoji: OFL-1.1"),
    Package("lomiri-wallpapers-16.04", "debian", "photographs: CC-BY-4.0, CC0-1.0"),
    Package("wordnet-base", "debian", "nouns: WordNet licence"),
    Package("@lobehub/fluent-emoji-3d", "npm", "emoji: MIT"),
    Package("emoji-datasource", "npm", "names of the emoji: MIT"),
    Package("@pmndrs/assets", "npm", "panoramas: CC0-1.0"),
    Package("blender-data", "debian", "panoramas: CC0-1.0"),
)


def fetch(folder: Path) -> None:
    """Downloads and unpacks what is not yet in `folder`, each package into a folder of its name.

    Uses apt-get and dpkg-deb, and npm, without installing anything. RuntimeError if a package cannot be had.
    """
    for package in PACKAGES:
        target = folder / package.name
        if target.is_dir():
            continue
        part = folder / f"{package.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        log.info("fetching %s (%s)", package.name, package.what)
        if package.kind == "debian":
            _run(["apt-get", "download", package.name], part)
            archive = next(part.glob("*.deb"))
            _run(["dpkg-deb", "-x", archive.name, "."], part)
        else:
            _run(["npm", "pack", package.name], part)
            archive = next(part.glob("*.tgz"))
            with tarfile.open(archive) as packed:
                packed.extractall(part, filter="data")
        archive.unlink()
        part.rename(target)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"{' '.join(command)} failed: {lines[-1]}")
