"""Maps that a model draws for tagged images: of their own tags alone, for map_head; no label map is read."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_adapt import save_start, save_user_folder

from training import own_maps
from training.own_maps import UNKNOWN, Artist
from training.photo_tags import FALLING, SLACK, guessed_places
from training.photos import read_photos
from training.tower_folder import prepare_maps, read_broader


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return save_user_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_start(tmp_path_factory.mktemp("preset"))


@pytest.fixture(scope="module")
def artist(images, preset):
    return Artist(preset.parent / "clip", preset, read_photos(images))


def test_tags_of_an_exhaustively_tagged_image_fill_it_in_their_order() -> None:
    logs = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)).log_softmax(dim=1)
    rows = torch.linspace(0, 1, 20).repeat_interleave(20)
    shares = guessed_places(logs, rows, ["road", "sky", "car"], [], exhaustive=True)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(400))
    usual = FALLING ** torch.arange(3)
    filled = shares.mean(dim=0) / (usual / usual.sum())
    assert (filled < SLACK * 1.1).all() and (filled > 0.9 / SLACK).all()


def test_a_map_has_the_tags_of_its_image_and_what_may_be_beside_them_alone(artist, images) -> None:
    by_source = {photo.source: photo for photo in read_photos(images)}
    for source, tags in (("images/pets", 1), ("images/streets", 2)):
        labels, label_map = artist.draw(by_source[source])
        assert labels[:tags] == list(by_source[source].tags) and len(labels) == len({*labels})
        assert label_map.shape == (40, 70) and label_map.dtype == np.uint8
        assert set(np.unique(label_map)) <= {*range(len(labels)), UNKNOWN}


def test_places_that_are_not_sure_are_unknown(artist, images, monkeypatch) -> None:
    photo = read_photos(images)[-1]
    monkeypatch.setattr(own_maps, "SURE", 2.0)
    assert (artist.draw(photo)[1] == UNKNOWN).all()
    monkeypatch.setattr(own_maps, "SURE", 0.0)
    assert (artist.draw(photo)[1] < UNKNOWN).all()


def test_places_of_surroundings_that_no_tag_names_are_unknown(artist, images, monkeypatch) -> None:
    def last_wins(logs: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return torch.eye(logs.shape[1])[-1].expand(len(logs), -1)

    photo = read_photos(images)[-1]
    monkeypatch.setattr(own_maps, "guessed_places", last_wins)
    assert (artist.draw(photo)[1] == UNKNOWN).all()
    monkeypatch.setattr(artist.vocabulary, "exhaustive", {photo.source})  # then there are no others
    labels, label_map = artist.draw(photo)
    assert (label_map == len(labels) - 1).all()


def test_broad_tags_are_not_drawn_beside_what_they_cover(artist, images) -> None:
    photo = read_photos(images)[0]
    dressed = own_maps.Photo(photo.path, photo.source, ("coat", "skin", "person"), "")
    assert artist.labels(dressed)[0] == ["coat", "skin"]
    assert artist.labels(own_maps.Photo(photo.path, photo.source, ("animal",), ""))[0] == ["animal"]


def test_the_command_adds_sources_that_the_head_can_learn_from(tmp_path, images, preset, monkeypatch) -> None:
    folder = tmp_path / "own"
    options = ["--images", str(images), "--of", "streets,pets", "--count", "12", "--preset", str(preset)]
    monkeypatch.setattr(sys, "argv", ["own_maps", str(preset.parent / "clip"), str(folder), *options])
    # No label map is read: not even there.
    (images / "labels/streets/19.png").write_bytes(b"no image")
    own_maps.main()
    with (folder / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 and (folder / rows[0]["path"]).is_file()
    assert "images/streets/00.png" not in [row["path"] for row in rows]  # for measuring
    names = (folder / "labels/pets/names.txt").read_text().splitlines()
    for row in rows:
        source, name = row["path"].split("/")[1:]
        own = (folder / "labels" / source / "names.txt").read_text().splitlines()
        with Image.open(folder / "labels" / source / name) as label_map:
            found = {own[i] for i in np.unique(np.asarray(label_map)) if i != UNKNOWN}
        if source == "streets":
            assert found <= {"road", "sky"}
        else:
            assert not found & {"cat", "dog"} - {row["tags"]}
    assert {"cat", "dog", "sofa"} <= {*names}
    assert read_broader(folder / "broader.csv")["dog"] == ("puppy",)
    words, mapped, kinds = prepare_maps(folder, [(("streets",), 99), (("pets",), 99)], tmp_path, preset.parent / "clip")
    assert "puppy" in words.labels and len(mapped) == sum(map(len, kinds))


def test_what_was_stopped_leaves_nothing_behind_that_counts(tmp_path, artist, images, monkeypatch) -> None:
    pets = [photo for photo in read_photos(images) if photo.source == "images/pets"][:3]
    draw = Artist.draw

    def stopped(self: Artist, photo: own_maps.Photo) -> object:
        if photo == pets[-1]:
            raise KeyboardInterrupt
        return draw(self, photo)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Artist, "draw", stopped)
        own_maps.draw_maps(artist, pets, images, tmp_path)
    assert not (tmp_path / "captions.csv").exists() and not (tmp_path / "labels/pets").exists()
    own_maps.draw_maps(artist, pets, images, tmp_path)
    assert sorted(path.stem for path in (tmp_path / "labels/pets").glob("*.png")) == [photo.path.stem for photo in pets]
    assert not (tmp_path / "labels/pets.part").exists()


def test_only_images_with_some_tags_are_drawn_where_tags_are_given(
    tmp_path, images, preset, monkeypatch, capsys
) -> None:
    argv = ["own_maps", str(preset.parent / "clip"), str(tmp_path), "--images", str(images), "--preset", str(preset)]
    monkeypatch.setattr(sys, "argv", [*argv, "--of", "pets", "--tags", "cat,cow"])
    own_maps.main()
    with (tmp_path / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and {row["tags"] for row in rows} == {"cat"}
    for tag, message in (
        ("cat", "no images tagged with cat of streets: expected some of pets"),
        ("cow", "other --tags"),
    ):
        monkeypatch.setattr(sys, "argv", [*argv, "--of", "streets", "--tags", tag])
        with pytest.raises(SystemExit):
            own_maps.main()
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("of", "message"), [("cellars", "no tagged images of cellars: expected some of pets, streets"), ("pets", "already")]
)
def test_sources_that_are_not_there_or_already_drawn_are_named(
    of, message, tmp_path, images, preset, monkeypatch, capsys
) -> None:
    (tmp_path / "labels/pets").mkdir(parents=True)
    argv = ["own_maps", str(preset.parent / "clip"), str(tmp_path), "--images", str(images), "--of", of]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit):
        own_maps.main()
    assert message in capsys.readouterr().err
