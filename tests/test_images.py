"""Image files of every common kind, written by the test itself, are read as a viewer would show them."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features

from ground import images
from ground.images import as_rgb, decode_image, read_image, reads_heif

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


# How a viewer turns an image, by its EXIF orientation.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
# (suffix, how it is stored, modes that can be stored so)
STORED = [
    ("jpg", {"quality": 95}, "RGB L CMYK YCbCr"),
    ("mpo", {"quality": 95}, "RGB L"),
    ("png", {}, "RGB RGBA L LA P 1 I;16"),
    ("webp", {"lossless": True}, "RGB RGBA L"),
    ("avif", {}, "RGB RGBA L"),
    ("heic", {}, "RGB RGBA L"),
    ("tif", {}, "RGB RGBA L LA P 1 CMYK LAB I;16"),
    ("tif", {"big_tiff": True}, "RGB L I;16"),
    ("tif", {"compression": "tiff_lzw"}, "RGB RGBA L LA P 1 CMYK YCbCr LAB I;16"),
    ("tif", {"compression": "tiff_adobe_deflate", "strip_size": 1000}, "RGB L I;16"),
    ("tif", {"compression": "jpeg"}, "RGB L YCbCr"),
    ("tif", {"compression": "group4"}, "1"),
]
PRODUCT = [(suffix, stored, mode) for suffix, stored, modes in STORED for mode in modes.split()]


def in_mode(mode):
    """RGB, 40 wide and 30 high, as a PIL image of that mode."""
    image = Image.fromarray(RGB)
    if mode == "I;16":
        return Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)
    if mode == "LAB":
        profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(RGB[::-1, ::-1, 0]))
    return image.convert(mode)


@pytest.mark.parametrize(("suffix", "stored", "mode"), PRODUCT, ids=str)
def test_every_orientation_of_every_mode_and_format(tmp_path, suffix, stored, mode):
    if (suffix == "avif" and not features.check("avif")) or (suffix == "heic" and not reads_heif()):
        pytest.skip(f"this Pillow knows no {suffix}")
    read = {}
    for orientation in TURNS:
        path = tmp_path / f"{orientation}.{suffix}"
        exif = Image.Exif()
        exif[0x0112] = orientation
        settings = {"tiffinfo": {0x0112: orientation}} if suffix == "tif" else {"exif": exif.tobytes()}
        in_mode(mode).save(path, **settings, **stored)
        read[orientation] = read_image(path)
        np.testing.assert_array_equal(read_image(str(path)), read[orientation])
        np.testing.assert_array_equal(decode_image(path.read_bytes()), read[orientation])
        # Pillow turns these when it decodes them, however they were opened.
        upright = read[orientation if suffix in ("tif", "heic") else 1]
        with Image.open(path) as lazy, Image.open(io.BytesIO(path.read_bytes())) as from_memory:
            np.testing.assert_array_equal(as_rgb(lazy), upright)
            np.testing.assert_array_equal(as_rgb(from_memory), upright)
            assert lazy.filename == str(path)
    for orientation, turn in TURNS.items():
        np.testing.assert_array_equal(read[orientation], turn(read[1]))
    if mode in ("RGB", "YCbCr", "LAB"):
        assert_close(read[1], RGB, tolerance=32)


def exif_of(orientation, *entries):
    """Bytes of EXIF with that orientation among `entries` of (tag, type, count, four bytes)."""
    tags = sorted([*entries, (0x0112, 3, 1, struct.pack("<HH", orientation, 0))])
    packed = b"".join(struct.pack("<HHI4s", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + packed + bytes(4) + b"not numbers at all" * 3


# What cameras and editors write and Pillow cannot write again, or not even read.
ODD_TAGS = {
    "ResolutionUnit as RATIONAL": (296, 5, 1, struct.pack("<I", 40)),
    "ResolutionUnit as text": (296, 2, 2, b"a\0\0\0"),
    "XResolution as text": (282, 2, 20, struct.pack("<I", 40)),
    "Artist as DOUBLE": (315, 12, 1, struct.pack("<I", 40)),
    "ImageDescription longer than the file": (270, 2, 2**31, struct.pack("<I", 40)),
    "Make of an unknown type": (271, 99, 5, b"abcd"),
    "Exif folder nowhere": (34665, 4, 1, b"\xff\xff\xff\xff"),
    "GPS folder in the text": (34853, 4, 1, struct.pack("<I", 40)),
}


def save_with_exif(path, exif, orientation):
    """RGB in a file of that suffix, with `exif` as it is; of a TIFF they are the tags beside its own."""
    image = Image.fromarray(RGB)
    if path.suffix == ".tif":
        tags = [struct.unpack_from("<HHI4s", exif, 10 + 12 * i) for i in range(struct.unpack_from("<H", exif, 8)[0])]
        numbers = (282, 296, 34665, 34853)  # the others are text
        odd = {tag[0]: 1 if tag[0] in numbers else "?" for tag in tags if tag[0] != 0x0112}
        image.save(path, tiffinfo={0x0112: orientation, 700: b"?"} | odd)
        data = bytearray(path.read_bytes())
        start = struct.unpack_from("<I", data, 4)[0]
        for at in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
            for tag in tags:
                if struct.unpack_from("<H", data, at)[0] == tag[0] != 0x0112:
                    struct.pack_into("<HHI4s", data, at, *tag)
        path.write_bytes(data)
    elif path.suffix == ".avif":
        # Pillow writes no EXIF that it cannot read: put it in the place of one of the same length.
        plain = Image.Exif()
        plain[0x0112] = orientation
        plain[0x010E] = "x" * (len(exif) - 46)
        image.save(path, exif=plain)
        data = path.read_bytes()
        at = data.rindex(b"MM\0*")
        path.write_bytes(data[:at] + exif + data[at + len(exif) :])
    elif path.name == "text.png":
        info, data = PngImagePlugin.PngInfo(), b"Exif\0\0" + exif
        info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
        image.save(path, pnginfo=info)
    else:
        image.save(path, exif=b"Exif\0\0" + exif if path.suffix == ".jpg" else exif)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "text.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("odd", ODD_TAGS)
def test_metadata_that_pillow_cannot_take_changes_no_pixel(tmp_path, name, odd):
    path = tmp_path / name
    save_with_exif(path, exif_of(6, ODD_TAGS[odd]), 6)
    assert_close(read_image(path), np.rot90(RGB, -1), tolerance=24 if name in ("a.jpg", "a.webp") else 0)


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"garbage" * 9, exif_of(9), exif_of(0), b"MM\0*\xff\xff\xff\xff"])
@pytest.mark.parametrize("name", ["a.png", "text.png", "a.webp"])
def test_garbage_for_exif_is_no_orientation(tmp_path, name, exif):
    path = tmp_path / name
    save_with_exif(path, exif, 1)
    assert_close(read_image(path), RGB, tolerance=24)


def test_the_orientation_of_xmp_counts_where_exif_gives_none(tmp_path):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    path = saved(tmp_path / "a.webp", Image.fromarray(RGB), xmp=xmp, lossless=True)
    assert_close(read_image(path), np.rot90(RGB))
    path = saved(tmp_path / "b.webp", Image.fromarray(RGB), xmp=xmp, exif=exif_of(1), lossless=True)
    assert_close(read_image(path), RGB)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 3_000_000)),
        chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b"y" * 3_000_000)),
        chunk(b"iCCP", b"large\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"zTXt", b"k\0\7??"),
        chunk(b"iCCP", b"k\0\7??"),
        chunk(b"gAMA", b""),
        chunk(b"pHYs", b"1"),
        chunk(b"tEXt", b"a\0b")[:-1] + b"?",
    ],
    ids=lambda extra: f"{extra[4:8].decode()}, {len(extra)} bytes",
)
def test_a_png_with_long_or_damaged_metadata_is_read(tmp_path, extra):
    path = saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif_of(6))
    data = path.read_bytes()
    path.write_bytes(data[:33] + extra + data[33:])
    assert_close(read_image(path), np.rot90(RGB, -1))


def test_a_jpeg_with_damaged_segments_is_read(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB), exif=b"Exif\0\0" + exif_of(6), quality=95)
    data, good = path.read_bytes(), read_image(path)
    for segment in (b"\xff\xe0\0\x07JFIF\0", b"\xff\xe2\0\x0eICC_PROFILE\0", b"\xff\xed\0\x13Photoshop 3.0\0\x388B"):
        path.write_bytes(data[:2] + segment + data[2:])
        np.testing.assert_array_equal(read_image(path), good)


def swapping_profile():
    """An ICC profile of RGB whose red is sRGB's green, and the other way round."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)


def grey_profile():
    """An ICC profile of grey whose light is the 1.8th power of the values."""
    tags = [
        (b"desc", b"desc" + bytes(4) + struct.pack(">I", 2) + b"g\0" + bytes(78)),
        (b"wtpt", b"XYZ " + bytes(4) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)),
        (b"kTRC", b"curv" + bytes(4) + struct.pack(">IH", 1, round(1.8 * 256))),
    ]
    table, body = b"", b""
    for name, data in tags:
        table += name + struct.pack(">2I", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytes(8) + bytes([2, 0x10, 0, 0]) + b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    data = head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(data)) + data[4:]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_colours_of_an_icc_profile_become_srgb(tmp_path, name):
    lossless = {"lossless": True} if name == "a.webp" else {"quality": 95, "subsampling": 0} if name == "a.jpg" else {}
    path = saved(tmp_path / name, Image.fromarray(RGB), icc_profile=swapping_profile(), **lossless)
    expected = RGB[..., [1, 0, 2]]
    assert_close(read_image(path), expected, tolerance=24 if name == "a.jpg" else 2)
    with Image.open(path) as image:
        np.testing.assert_array_equal(as_rgb(image), read_image(path))


def test_colours_of_an_icc_profile_with_transparency_and_palette(tmp_path):
    image = in_mode("RGBA")
    path = saved(tmp_path / "a.png", image, icc_profile=swapping_profile())
    red, green, blue, alpha = image.split()
    expected = as_rgb(Image.merge("RGBA", (green, red, blue, alpha)))
    assert_close(read_image(path), expected, tolerance=2)
    few = Image.fromarray(RGB).quantize(20)
    path = saved(tmp_path / "p.png", few, icc_profile=swapping_profile())
    assert_close(read_image(path), np.asarray(few.convert("RGB"))[..., [1, 0, 2]], tolerance=2)


@pytest.mark.parametrize("deep", [False, True])
def test_grey_of_an_icc_profile_becomes_srgb(tmp_path, deep):
    grey = np.arange(256, dtype=np.uint16)[None]
    image = Image.fromarray(grey * 257 if deep else grey.astype(np.uint8))
    path = saved(tmp_path / "a.png", image, icc_profile=grey_profile())
    light = (grey / 255) ** 1.8
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert_close(read_image(path), np.repeat((255 * srgb).round().astype(np.uint8)[..., None], 3, axis=2), tolerance=2)


def test_a_profile_that_says_srgb_or_nothing_that_fits_changes_no_pixel(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, profile in enumerate([srgb, b"no profile", srgb[:200], grey_profile()]):
        path = saved(tmp_path / f"{number}.png", Image.fromarray(RGB), icc_profile=profile)
        assert_close(read_image(path), RGB)
    path = saved(tmp_path / "a.tif", in_mode("CMYK"), icc_profile=srgb)
    assert_close(read_image(path), np.asarray(in_mode("CMYK").convert("RGB")))


TWELVE = (RGB.astype(np.uint16) * 16)[..., 0]  # 12 bits in words of 16: at most 3744


def with_sbit(path, bits):
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk(b"sBIT", bytes(bits)) + data[33:])
    return path


def grey_of(samples, bits):
    return np.repeat(np.round(samples / ((2**bits - 1) / 255)).astype(np.uint8)[..., None], 3, axis=2)


def test_fewer_bits_in_words_of_16_are_scaled_by_what_the_file_or_the_user_says(tmp_path, caplog):
    path = saved(tmp_path / "a.png", Image.fromarray(TWELVE))
    assert_close(read_image(path, bits=12), grey_of(TWELVE, 12))
    assert not caplog.records
    assert_close(read_image(path), grey_of(TWELVE, 16))
    assert f"{path}: no 16-bit sample is above {TWELVE.max()}: if they hold 12 bits, say --bits 12" in caplog.text
    caplog.clear()
    assert_close(read_image(with_sbit(path, [12])), grey_of(TWELVE, 12))
    assert not caplog.records
    # As the standard wants it, and most writers do: scaled to 16 bits already.
    full = saved(tmp_path / "b.png", Image.fromarray(TWELVE * 16))
    assert_close(read_image(with_sbit(full, [12])), grey_of(TWELVE * 16, 16))
    with pytest.raises(ValueError, match=r"b.png: .* a sample is 59904, more than 12 bits can hold"):
        read_image(full, bits=12)


def test_colours_of_fewer_bits_keep_all_of_them(tmp_path, caplog):
    deep = RGB.astype(np.uint16) * 16 + 5
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), deep[..., ::-1])  # OpenCV writes blue first
    expected = np.round(deep / (4095 / 255)).astype(np.uint8)
    assert_close(read_image(path, bits=12), expected)
    assert not caplog.records
    assert_close(read_image(path), np.round(deep / 257), tolerance=0)
    assert "--bits 12" in caplog.text
    assert_close(read_image(with_sbit(path, [12, 12, 12])), expected)
    assert_close(read_image(saved(tmp_path / "8.png", Image.fromarray(RGB)), bits=12), RGB)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg", "ppm"])
def test_a_dark_image_of_8_bits_is_a_dark_image(tmp_path, caplog, suffix):
    path = saved(tmp_path / f"a.{suffix}", Image.new("RGB", (40, 30), (5, 5, 5)))
    for bits in (None, 12):
        assert_close(read_image(path, bits), np.full((30, 40, 3), 5, np.uint8))
    assert not caplog.messages


def test_dark_colours_of_a_16_bit_tiff_are_read(tmp_path):
    samples = np.full((4, 6, 3), 4000, ">u2")
    tags = [(256, 6), (257, 4), (258, 16), (259, 1), (262, 2), (273, 8), (277, 3), (278, 4), (279, samples.nbytes)]
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    path = tmp_path / "a.tif"
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8 + samples.nbytes) + samples.tobytes() + directory + bytes(4))
    assert_close(read_image(path), np.full((4, 6, 3), 15, np.uint8))


def test_a_tiff_of_12_bits_a_sample_is_no_dark_one(tmp_path):
    samples = np.arange(0, 4096, 64, dtype=np.uint16).reshape(4, 16)
    pairs = samples.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1).astype("u1")
    tags = [(256, 16), (257, 4), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 4), (279, packed.size)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + packed.size) + packed.tobytes() + directory + bytes(4))
    assert_close(read_image(path), grey_of(samples, 12))
    with Image.open(path) as image:
        assert_close(as_rgb(image), grey_of(samples, 12))


def test_the_transparent_sample_of_16_bit_grey_is_laid_on_white(tmp_path):
    samples = np.array([[0, 40000, 65535, 40001]], np.uint16)
    path = saved(tmp_path / "a.png", Image.fromarray(samples), transparency=40000)
    assert read_image(path)[0, :, 0].tolist() == [0, 255, 255, 156]


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


def test_the_bytes_of_a_deep_png_are_read_as_the_file(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), (RGB[..., ::-1].astype(np.uint16) * 16))
    for bits in (None, 12):
        np.testing.assert_array_equal(decode_image(path.read_bytes(), bits), read_image(path, bits))
    data = path.read_bytes()
    with_sbit(path, (12, 12, 12))
    np.testing.assert_array_equal(decode_image(path.read_bytes()), read_image(path))
    eps = saved(tmp_path / "a.eps", Image.fromarray(RGB)).read_bytes()  # for which Pillow would start Ghostscript
    for damaged in (data[: len(data) // 2], b"none", eps):
        with pytest.raises(ValueError, match=r"^image: (cannot be decoded|not an image)"):
            decode_image(damaged)


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


def test_heic_needs_an_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "reads_heif", lambda: False)
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    with pytest.raises(ValueError, match=r"a\.heic: not an image.*pip install 'emerseg\[heic\]'"):
        read_image(path)


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
    assert (as_rgb(Image.new(mode, (2, 3), 0)) == 255).all()


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
