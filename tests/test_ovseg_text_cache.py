"""Text embeddings are kept on disk: a second run encodes nothing, and whatever differs is encoded anew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_ovseg import tiny_backbone

from ground import cache
from ovseg import Label, OpenVocabSegmenter, OvsegConfig
from ovseg.backbone import Backbone

LABELS = [Label("sea", ("ocean",)), Label("sky")]


@pytest.fixture
def encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Every list of prompts that is encoded from now on, with an empty cache in tmp_path."""
    monkeypatch.setenv("EMERSEG_CACHE", str(tmp_path / "cache"))
    calls: list[Sequence[str]] = []
    encode = Backbone.encode_text

    def noted(self: Backbone, texts: Sequence[str]) -> NDArray[np.float32]:
        calls.append(texts)
        return encode(self, texts)

    monkeypatch.setattr(Backbone, "encode_text", noted)
    return calls


def segmenter(seed: int = 0, **settings: str) -> OpenVocabSegmenter:
    return OpenVocabSegmenter(tiny_backbone(seed=seed), OvsegConfig(model="tiny", **{"templates": "simple"} | settings))


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache/text").iterdir())


def test_a_second_run_encodes_nothing(encoded: list[Sequence[str]], tmp_path: Path) -> None:
    first = segmenter().encode_labels(LABELS)
    again = segmenter()  # loaded anew
    np.testing.assert_array_equal(again.encode_labels(LABELS), first)
    image = np.zeros((20, 30, 3), np.uint8)
    np.testing.assert_array_equal(again.segment(image, LABELS).text_embeddings, first)
    assert len(encoded) == 1 and len(files(tmp_path)) == 1


def test_the_rule_for_synonyms_is_no_part_of_it(encoded: list[Sequence[str]]) -> None:
    assert segmenter().encode_labels(LABELS).shape == (2, 12)
    assert segmenter(synonyms="max").encode_labels(LABELS).shape == (3, 12)
    assert len(encoded) == 1


def test_other_weights_labels_or_templates_are_encoded_anew(encoded: list[Sequence[str]]) -> None:
    first = segmenter().encode_labels(LABELS)
    assert not np.array_equal(segmenter(seed=1).encode_labels(LABELS), first)
    segmenter(templates="photo").encode_labels(LABELS)
    segmenter().encode_labels(LABELS[::-1])
    one = segmenter()
    one.backbone.model.text_projection.data[0, 0] += 1e-3
    one.encode_labels(LABELS)
    one = segmenter()
    one.backbone.model.visual.proj.data += 1  # the image tower has no part in it
    one.encode_labels(LABELS)
    assert len(encoded) == 5


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_made_anew(encoded: list[Sequence[str]], tmp_path: Path, damage: bytes | None) -> None:
    first = segmenter().encode_labels(LABELS)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    np.testing.assert_array_equal(segmenter().encode_labels(LABELS), first)
    assert len(encoded) == 2 and file.read_bytes() == whole and files(tmp_path) == [file]


def test_a_folder_that_cannot_be_written_is_no_cache(
    encoded: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMERSEG_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        segmenter().encode_labels(LABELS)
    assert len(encoded) == 2


def test_off_keeps_nothing(encoded: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMERSEG_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        segmenter().encode_labels(LABELS)
    assert len(encoded) == 2 and not list(tmp_path.iterdir())


def test_the_folder_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMERSEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder("text") == tmp_path / "emerseg/text"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache.cache_folder("text") == tmp_path / "home/.cache/emerseg/text"


def test_the_oldest_files_go(encoded: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT", 2)
    one = segmenter()
    one.encode_labels(["first"])
    (oldest,) = files(tmp_path)
    os.utime(oldest, (1, 1))
    one.encode_labels(["second"])
    one.encode_labels(["third"])
    assert len(files(tmp_path)) == 2 and oldest not in files(tmp_path)
