"""Image files of every common kind, written by the test itself, are read as a viewer would show them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from ground.images import as_rgb, read_image

GRADIENT = np.stack(np.meshgrid(np.arange(40) * 6, np.arange(30) * 8), axis=-1).astype(np.uint8)  # 30 x 40 x 2
RGB = np.concatenate([GRADIENT, np.full((30, 40, 1), 77, np.uint8)], axis=-1)


def saved(path, image, **settings):
    image.save(path, **settings)
    return path


def assert_close(image, expected, tolerance=0):
    assert image.shape == expected.shape
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - expected.astype(int)).max() <= tolerance


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm"])
def test_lossless_files_are_read_exactly(tmp_path, name):
    assert_close(read_image(saved(tmp_path / name, Image.fromarray(RGB))), RGB)


@pytest.mark.parametrize(("name", "settings"), [("a.jpg", {"quality": 95}), ("a.webp", {"quality": 95})])
def test_lossy_files_are_read_about_right(tmp_path, name, settings):
    assert_close(read_image(saved(tmp_path / name, Image.fromarray(RGB), **settings)), RGB, tolerance=24)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_rotation_is_applied(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    assert_close(read_image(path), turn(RGB))


def test_exif_rotation_of_a_jpeg(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB), exif=exif, quality=95, subsampling=0)
    assert_close(read_image(path), np.rot90(RGB, -1), tolerance=12)


def test_transparency_is_laid_on_white(tmp_path):
    alpha = np.full((30, 40, 1), 255, np.uint8)
    alpha[:10] = 0
    alpha[10:20] = 51  # a fifth
    path = saved(tmp_path / "a.png", Image.fromarray(np.concatenate([RGB, alpha], axis=-1)))
    expected = RGB.astype(float)
    expected[:10] = 255
    expected[10:20] = 0.2 * RGB[10:20] + 0.8 * 255
    assert_close(read_image(path), expected.round(), tolerance=1)


def test_palette_with_a_transparent_entry(tmp_path):
    drawn = Image.new("P", (4, 2), 1)
    drawn.putpalette([10, 20, 30, 40, 50, 60])
    drawn.putpixel((0, 0), 0)
    image = read_image(saved(tmp_path / "a.png", drawn, transparency=0))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[1, 1].tolist() == [40, 50, 60]


def test_grey_and_black_and_white(tmp_path):
    grey = RGB[..., 0]
    assert_close(read_image(saved(tmp_path / "l.png", Image.fromarray(grey))), np.repeat(grey[..., None], 3, axis=2))
    bits = Image.fromarray(grey > 100)
    assert_close(read_image(saved(tmp_path / "1.png", bits)), np.repeat((grey > 100)[..., None] * np.uint8(255), 3, 2))
    with_alpha = Image.merge("LA", [Image.fromarray(grey), Image.new("L", (40, 30), 0)])
    assert (read_image(saved(tmp_path / "la.png", with_alpha)) == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    deep = np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), deep)
    expected = np.repeat(np.round(deep / 257).astype(np.uint8)[..., None], 3, axis=2)
    assert_close(read_image(path), expected)


def test_16_bit_colour_is_scaled_not_clipped(tmp_path):
    deep = RGB.astype(np.uint16) * 257
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), deep[..., ::-1])  # OpenCV writes blue first
    assert_close(read_image(path), RGB, tolerance=1)


def test_cmyk_jpeg(tmp_path):
    drawn = Image.fromarray(RGB).convert("CMYK")
    assert_close(read_image(saved(tmp_path / "a.jpg", drawn, quality=95)), RGB, tolerance=24)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (40, 30), color) for color in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (read_image(path) == (200, 0, 0)).all()


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file .*gone\.jpg"):
        read_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_truncated_file_is_an_error_with_path_and_reason(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(RGB))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a\.{suffix}: (cannot be decoded|not an image)"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_image_is_an_error(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png: "):
        read_image(path)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ValueError, match="too large"):
        read_image(saved(tmp_path / "a.png", Image.fromarray(RGB)))


def test_floating_point_pixels_are_refused(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.ones((3, 3), np.float32)))
    with pytest.raises(ValueError, match="floating-point"):
        read_image(path)


def test_arrays_are_taken_as_they_are():
    assert as_rgb(RGB) is RGB


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "YCbCr"])
def test_pil_images_without_transparency_are_converted(mode):
    image = Image.fromarray(RGB).convert(mode)
    assert_close(as_rgb(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_pil_images_are_laid_on_white(mode):
    assert (as_rgb(Image.new("RGBA", (2, 3), (0, 0, 0, 0)).convert(mode)) == 255).all()


def test_deep_pil_images_are_scaled():
    deep = np.linspace(0, 65535, 12).reshape(3, 4).astype(np.uint16)
    expected = np.repeat(np.round(deep / 257).astype(np.uint8)[..., None], 3, axis=2)
    assert_close(as_rgb(Image.fromarray(deep)), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "image is NoneType, expected a PIL.Image"),
        ("a.png", "image is str, expected a PIL.Image"),
        (RGB[..., 0], r"array \(30, 40\) uint8, expected \(H, W, 3\)"),
        (np.zeros((3, 4, 4), np.uint8), r"array \(3, 4, 4\) uint8, expected"),
        (RGB.astype(float), r"array \(30, 40, 3\) float64, expected"),
        (np.zeros((0, 3, 3), np.uint8), r"array \(0, 3, 3\) uint8, expected"),
        (Image.new("I;16", (0, 3)), "PIL image of 0x3 px, expected at least 1x1"),
        (Image.new("F", (5, 3)), "floating-point"),
        (Image.fromarray(np.full((2, 2), 70000, np.int32)), "70000 are outside the 16 bits"),
    ],
)
def test_anything_else_is_an_error_in_one_line(image, message):
    with pytest.raises(ValueError, match=message) as error:
        as_rgb(image)
    assert "\n" not in str(error.value)


def test_every_package_takes_an_image_alike():
    """Transparency counts as white and 16 bits are scaled, whoever is asked."""
    from tiny_emerdiff import tiny_backbone, tiny_config
    from tiny_ovseg import tiny_backbone as tiny_clip_backbone

    from emerdiff import EmerDiff, grid_masks, slic_masks
    from ovseg import OpenVocabSegmenter, OvsegConfig

    emerdiff = EmerDiff(tiny_backbone(), tiny_config())
    ovseg = OpenVocabSegmenter(tiny_clip_backbone(), OvsegConfig(model="local-dir:tiny", image_size=32))
    alpha = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1)))
    transparent = Image.fromarray(RGB)
    transparent.putalpha(alpha)
    deep = Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)
    for given in (transparent, deep):
        rgb = as_rgb(given)
        for makes in (emerdiff.naive, lambda image: slic_masks(image, 5), lambda image: grid_masks(image, 5)):
            np.testing.assert_array_equal(makes(given).features, makes(rgb).features)
        labels = ["cat", "sky"]
        np.testing.assert_array_equal(ovseg.segment(given, labels).logits, ovseg.segment(rgb, labels).logits)
