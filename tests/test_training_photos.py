"""Training on a folder of images: what is read and left out, what tags teach, and a step from end to end."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_ovseg import save_bert, save_with_bert

from ovseg import OpenVocabSegmenter, OvsegConfig
from ovseg.backbone import load_backbone
from training import photo_clip, photo_start
from training.data import scene_cache
from training.photo_tags import TagVocabulary, expected_places, tag_losses
from training.photos import SQUARES, feature_cache, read_photos, scene_photos, squares

VISION = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": None, "image_size": 64}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """24 noise images in two sources; streets are tagged in full and have label maps."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    rows = []
    for source, tags in (("streets", "road;building;sky;tree"), ("pets", "cat")):
        (folder / "images" / source).mkdir(parents=True)
        for index in range(12):
            path = f"images/{source}/{index:02}.png"
            Image.fromarray(rng.integers(0, 256, (40, 70, 3), np.uint8)).save(folder / path)
            rows.append({"path": path, "tags": tags, "caption": f"a {tags.split(';')[index % 2 - 1]} in a photo"})
    (folder / "labels/streets").mkdir(parents=True)
    for index in range(12):
        Image.new("L", (70, 40)).save(folder / f"labels/streets/{index:02}.png")
    with (folder / "captions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "tags", "caption"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return scene_cache(tmp_path_factory.mktemp("scenes"), 0, 8)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    save_with_bert(folder, VISION)
    return folder


def test_every_tenth_image_with_a_label_map_is_left_out(images):
    photos = read_photos(images)
    names = [f"{photo.source}/{photo.path.stem}" for photo in photos]
    assert len(photos) == 22 and names == sorted(names)
    assert {"images/streets/00", "images/streets/10"}.isdisjoint(names)
    assert photos[-1].tags == ("road", "building", "sky", "tree")


def test_a_folder_without_its_table_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"captions.csv: expected a table path,tags,caption"):
        read_photos(tmp_path)
    (tmp_path / "captions.csv").write_text("file,text\na.jpg,x\n")
    with pytest.raises(ValueError, match="has the columns file, text, expected path, tags, caption"):
        read_photos(tmp_path)


def test_features_are_computed_once_and_only_used_for_their_images(images, tmp_path):
    calls = []

    def encode(rgb):
        calls.append(rgb.shape)
        places = (rgb.shape[0] // 8) * (rgb.shape[1] // 8)
        return np.full((places, 3), len(calls), np.float16), np.zeros((places, 2), np.int16), np.ones((places, 2))

    photos = read_photos(images)[:3]
    for _ in range(2):
        cache = feature_cache(tmp_path, photos, 24, 8, encode)
    assert calls == [(24, 40, 3)] * 3 and cache.grids == [(3, 5)] * 3
    assert (cache.features[cache.starts[1] : cache.starts[2]] == 2).all()
    with pytest.raises(ValueError, match="holds features of other images"):
        feature_cache(tmp_path, photos[:2], 24, 8, encode)


def test_squares_are_the_middle_and_random_places_and_only_used_for_their_images(images, tmp_path):
    made = squares(tmp_path / "a", images, 12)
    assert made.images.shape[1:] == made.validation.shape[1:] == (256, 256, 3) and len(made.validation) == 1
    assert len(made.texts) == len(made) <= 12 and all("photo" in text for text in made.texts[::3])
    photo = Image.open(read_photos(images)[0].path)
    first = np.asarray(photo.resize((256, 256), Image.Resampling.BICUBIC, (15, 0, 55, 40)))
    np.testing.assert_array_equal(made.validation[0], first)
    assert not np.array_equal(made.images[0], made.images[1])  # of one photograph
    changed = (tmp_path / "a/images.npy").stat().st_mtime_ns
    squares(tmp_path / "a", images, 12)
    assert (tmp_path / "a/images.npy").stat().st_mtime_ns == changed
    np.testing.assert_array_equal(squares(tmp_path / "b", images, 12).images, made.images)  # by whichever thread
    with pytest.raises(ValueError, match="holds squares of other images"):
        squares(tmp_path / "a", images, 4)
    assert len(squares(tmp_path / "c", images, 4)) == 4


def test_large_photographs_give_more_squares_and_small_ones_of_them_no_text(tmp_path):
    y, x = np.mgrid[:48, :48]
    Image.fromarray(np.stack([y, x, x], axis=-1).astype(np.uint8)).save(tmp_path / "1.png")
    Image.new("RGB", (20, 8)).save(tmp_path / "0.png")
    (tmp_path / "captions.csv").write_text("path,tags,caption\n0.png,sky,\n1.png,sky,\n")
    made = squares(tmp_path / "squares", tmp_path, 20, 8)
    assert len(made) == SQUARES and made.texts[0] == "sky"
    heights, widths = (made.images[..., axis].astype(int).reshape(len(made), -1) for axis in (0, 1))
    spans = np.ptp(heights, axis=1)
    assert (abs(spans - np.ptp(widths, axis=1)) <= 2).all() and spans[0] == spans.max() and spans.min() < 20
    assert {text for text, span in zip(made.texts, spans, strict=True) if span < 0.5 * spans[0]} == {""}
    mirrored = made.images[:, 4, 0, 1].astype(int) > made.images[:, 4, -1, 1]
    assert 0 < mirrored.sum() < len(made) and not mirrored[0]


def test_a_photograph_is_enlarged_twice_at_most_and_a_part_of_a_scene_three_times(images, scenes, tmp_path):
    def encode(rgb):
        places = (rgb.shape[0] // 8) * (rgb.shape[1] // 8)
        return np.zeros((places, 3), np.float16), np.zeros((places, 2), np.int16), np.ones((places, 2), np.float16)

    photo, part = read_photos(images)[0], scene_photos(tmp_path / "parts", scenes)[0]  # 40 x 70 px, a square
    cache = feature_cache(tmp_path / "free", [photo, part], 448, 8, encode)
    with Image.open(part.path) as image:
        side = round(3 * image.width / 8)
    assert cache.grids == [(10, 18), (side, side)]
    assert feature_cache(tmp_path / "bound", [photo, part], 48, 8, encode).grids == [(6, 10), (side, side)]


def test_parts_of_scenes_are_tagged_with_what_they_show(scenes, tmp_path):
    photos = scene_photos(tmp_path, scenes)
    assert len(photos) == 8 and [photo.path for photo in photos] == sorted(tmp_path.iterdir())
    assert scene_photos(tmp_path, scenes) == photos
    for index, photo in enumerate(photos):
        assert photo.tags and set(photo.tags) <= set(scenes.kinds[index])
        assert set(photo.names) <= set(scenes.names[index])
        kind_of = dict(zip(scenes.names[index], scenes.kinds[index], strict=True))
        assert tuple(dict.fromkeys(kind_of[name] for name in photo.names)) == photo.tags
        with Image.open(photo.path) as image:
            assert image.width == image.height >= 56
            part = np.asarray(image)
        assert cv2.matchTemplate(scenes.images[index], part, cv2.TM_SQDIFF).min() < 0.01 * part.size  # it is there


def test_the_shares_of_tags_stay_in_their_bounds():
    beliefs = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([4.0, 0.0, -4.0])
    low, high = torch.tensor([30.0, 12.0, 6.0]), torch.tensor([40.0, 20.0, 10.0])
    shares = expected_places(beliefs, low, high)
    torch.testing.assert_close(shares.sum(1), torch.ones(60))
    assert (shares.sum(0) >= low * 0.9).all() and (shares.sum(0) <= high * 1.1).all()
    free = expected_places(beliefs, torch.zeros(3), torch.full((3,), 60.0))
    torch.testing.assert_close(free, beliefs.softmax(1))


def test_tags_alone_find_the_places_of_what_is_in_several_images():
    """Three kinds of places, each pure; images show two of them: only their tags tell which is which."""
    kinds = torch.eye(3)
    head = torch.nn.Linear(3, 3)
    torch.nn.init.normal_(head.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    rows = torch.full((20,), 0.5)
    shown = [(0, 1), (1, 2), (2, 0)]
    for _ in range(60):
        losses = []
        for pair in shown:
            places = kinds[[pair[0]] * 12 + [pair[1]] * 8]
            logs = head(places).log_softmax(1)[:, list(pair)]
            losses.append(tag_losses(logs, rows, [f"kind {i}" for i in pair], [], exhaustive=True)[0])
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    assert head(kinds).argmax(1).tolist() == [0, 1, 2]


def test_labels_that_an_image_does_not_show(images, start):
    photos = read_photos(images)
    vocabulary = TagVocabulary(photos, load_backbone(OvsegConfig(model=f"local-dir:{start}")))
    assert vocabulary.exhaustive == {"images/streets"}
    pet, street = photos[0], photos[-1]
    rng = np.random.default_rng(0)
    tags, companions = vocabulary.draw_positives(pet, rng)
    assert tags == ["cat"] and "sofa" in companions and "cat" not in companions
    assert vocabulary.draw_positives(street, rng) == (["road", "building", "sky", "tree"], [])
    vocabulary.embeddings = torch.eye(len(vocabulary.labels))  # no two labels are near in meaning
    cat, sky, kitten = (vocabulary.index[word] for word in ("cat", "sky", "kitten"))
    assert not vocabulary.negatives(pet)[[cat, sky, kitten]].any()  # the sky may be anywhere
    negatives = vocabulary.negatives(street)
    assert not negatives[[vocabulary.index[tag] for tag in street.tags]].any()


def test_scenes_are_exhaustively_tagged_and_told_apart_by_full_names(images, scenes, start, tmp_path):
    parts = scene_photos(tmp_path, scenes)
    photos = [*read_photos(images), *parts]
    vocabulary = TagVocabulary(photos, load_backbone(OvsegConfig(model=f"local-dir:{start}")))
    vocabulary.embeddings = torch.eye(len(vocabulary.labels))
    assert "scenes" in vocabulary.exhaustive
    rng = np.random.default_rng(0)
    part = max(parts, key=lambda photo: len(photo.names))
    said = {tuple(vocabulary.draw_positives(part, rng)[0]) for _ in range(40)}
    assert said == {part.tags, part.names}
    negatives = vocabulary.negatives(part)
    own = [vocabulary.index[word] for word in (*part.tags, *part.names)]
    others = [
        vocabulary.index[name] for photo in parts for name in photo.names if name not in (*part.names, *part.tags)
    ]
    assert not negatives[own].any() and negatives[others].all()
    assert not vocabulary.negatives(photos[0])[
        [vocabulary.index[name] for name in vocabulary.full_names]
    ].any()  # photographs may show them
    assert {vocabulary.labels[i] for i in vocabulary.hard_negatives(part, part.names, rng)} > set(vocabulary.full_names)
    assert set(vocabulary.full_names).isdisjoint(
        vocabulary.labels[i] for i in vocabulary.hard_negatives(part, part.tags, rng)
    )


def test_a_kitchen_has_no_sky(images, start):
    kitchen = replace(read_photos(images)[0], tags=("kitchen",))
    vocabulary = TagVocabulary([*read_photos(images), kitchen], load_backbone(OvsegConfig(model=f"local-dir:{start}")))
    sky, oven = vocabulary.index["sky"], vocabulary.index["oven"]
    negatives = vocabulary.negatives(kitchen)
    assert negatives[sky] and not negatives[oven]
    assert sky in vocabulary.hard_negatives(kitchen, kitchen.tags, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("word", "top", "bottom"), [("sky", 0.5, 0.05), ("ceiling", 0.95, 0.05), ("grass", 0.05, 0.95), ("fence", 0.5, 0.5)]
)
def test_what_is_only_beside_may_be_the_ground_or_the_ceiling_but_no_sky_is_looked_for_above(word, top, bottom):
    rows = torch.tensor([0.0, 1.0])
    logs = torch.full((2, 2), 0.5).log()  # both words fit both places
    shares = tag_losses(logs, rows, ["cat"], [word], exhaustive=False, lift=3.0)[2]
    torch.testing.assert_close(shares, torch.tensor([top, bottom]), atol=0.05, rtol=0)


def train(images, start, folder, resume=False, scenes=None):
    schedule = replace(photo_clip.SCHEDULE, minutes=1e-6, learning_rate=0.01, warmup_steps=1)
    run, weights = folder / "photo-clip", folder / "weights"
    photo_clip.train(images, schedule, run, weights, start=start, resume=resume, size=64, scenes=scenes)


def test_a_step_of_training_gives_a_model_that_segments(images, scenes, start, tmp_path, monkeypatch):
    monkeypatch.setattr(photo_clip, "BATCH", 4)
    train(images, start, tmp_path, scenes=scenes)
    (row,) = csv.DictReader((tmp_path / "photo-clip/log.csv").open())
    assert row["step"] == "1" and all(float(value) == float(value) for value in row.values())
    trained = tmp_path / "weights/photo"
    before, after = (load_file(folder / "open_clip_model.safetensors") for folder in (start, trained))
    changed = {name for name in before if not torch.allclose(before[name].float(), after[name].float(), atol=1e-3)}
    assert changed and all("conv_head" in n or "bn2" in n or "classifier" in n or n == "logit_scale" for n in changed)
    config = OvsegConfig(model=f"local-dir:{trained}", image_size=64)
    image = np.zeros((40, 70, 3), np.uint8)
    coarse = OpenVocabSegmenter.from_config(config, device="cpu").segment(image, ["cat", "sky"])
    assert coarse.label_map.shape == (40, 70)


def test_only_an_efficientnet_can_be_trained(images, tmp_path):
    save_with_bert(tmp_path / "start", VISION | {"timm_model_name": "test_convnext", "timm_proj": "linear"})
    with pytest.raises(ValueError, match="has no conv_head, expected one of timm's EfficientNets"):
        train(images, tmp_path / "start", tmp_path)


def test_the_start_is_the_two_towers_with_centred_words(tmp_path, monkeypatch):
    import timm
    from transformers import AutoConfig, AutoModel

    save_bert(tmp_path / "text")
    torch.manual_seed(0)
    text = AutoModel.from_config(AutoConfig.from_pretrained(tmp_path / "text"))
    save_file(text.state_dict(), tmp_path / "text/model.safetensors")
    tower = timm.create_model("test_efficientnet")
    torch.save({f"other.{i}": tensor for i, tensor in enumerate(tower.state_dict().values())}, tmp_path / "image.pth")
    monkeypatch.setattr(photo_start, "TOWER", "test_efficientnet")
    monkeypatch.setattr(photo_start, "WIDTH", 16)
    monkeypatch.setattr(photo_start, "TOKENIZER_FILES", ("config.json", "tokenizer.json", "tokenizer_config.json"))
    photo_start.build(tmp_path / "image.pth", tmp_path / "text", tmp_path / "start")

    settings = json.loads((tmp_path / "start/open_clip_config.json").read_text())
    assert str(tmp_path) not in json.dumps(settings)
    backbone = load_backbone(OvsegConfig(model=f"local-dir:{tmp_path / 'start'}"))
    own = backbone.model.visual.trunk.state_dict()
    kept = {name: tensor for name, tensor in tower.state_dict().items() if not name.startswith("classifier")}
    assert all(torch.allclose(own[name].float(), kept[name].float(), atol=1e-2) for name in kept)
    vectors = photo_start.class_vectors(backbone.model, backbone.tokenizer, photo_clip.class_names()[:1000])
    assert vectors.mean((0, 1)).abs().max() < 1e-2 < vectors.abs().max()
    pixels = np.zeros((1, 3, 64, 64), np.float32)
    logits = photo_clip.teacher(backbone, tmp_path / "start")(torch.zeros(2, tower.num_features))
    torch.testing.assert_close(logits[0], tower.classifier.bias)
    assert backbone.encode_patches(pixels, "maskclip").shape[1] == 16
