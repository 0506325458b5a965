"""Signs of any script on images: drawn in a font that has them, wherever it lies, and said where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw

from fusion.formats import fonts
from fusion.formats.render import draw_legend


def save_font(path, signs):
    """A font whose `signs` are squares of the whole height, and which has no other."""
    names = [".notdef", *(f"sign{number}" for number in range(len(signs)))]
    pen = TTGlyphPen(None)
    for corner, move in (((0, 0), pen.moveTo), ((0, 1000), pen.lineTo), ((1000, 1000), pen.lineTo)):
        move(corner)
    pen.lineTo((1000, 0))
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(sign): name for sign, name in zip(signs, names[1:], strict=True)})
    builder.setupGlyf({name: TTGlyphPen(None).glyph() if name == ".notdef" else square for name in names})
    builder.setupHorizontalMetrics({name: (1000, 0) for name in names})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(path)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine whose only font folder is this one."""
    monkeypatch.setattr(fonts, "_folders", lambda: [str(tmp_path), str(tmp_path / "gone")])
    caches = (fonts._files, fonts._file_with, fonts._has, fonts._font, fonts._parts, fonts._note_missing)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


def drawn(text):
    """(40, 200) bool: where `text` in fonts of 20 px is drawn."""
    image = Image.new("L", (200, 40))
    fonts.draw_text(ImageDraw.Draw(image), (0, 20), text, 20, (255,))
    return np.asarray(image) > 127


def test_a_sign_is_drawn_in_the_font_that_has_it(system, caplog):
    save_font(system / "truetype" / "some" / "Some.ttf", "犬猫")
    assert drawn("犬").sum() == 20 * 20
    assert drawn("犬猫犬").sum() == 3 * 20 * 20
    assert fonts.text_length("犬猫", 20) == 40
    assert not caplog.messages


def test_pieces_of_a_text_follow_each_other_each_in_its_font(system):
    save_font(system / "a.ttf", "犬")
    save_font(system / "b.otf", "空")
    length = fonts.text_length("ab", 20)
    assert fonts.text_length("ab犬空", 20) == length + 40
    left = round(length)
    assert drawn("ab犬空")[15, left + 2 : left + 38].all()
    assert not drawn("ab犬空")[:, left + 42 :].any()


def test_one_font_for_all_of_a_text_is_preferred(system):
    save_font(system / "first.ttf", "é")
    save_font(system / "second.ttf", "café")
    assert drawn("café").sum() == 4 * 20 * 20


def test_fonts_for_plain_text_come_first_and_stand_ins_not_at_all(system):
    for name in ("LastResort-Regular.ttf", "Zapf.ttf", "NotoSans-BoldItalic.ttf", "sub/NotoSansCJK-Regular.ttc"):
        save_font(system / name, "犬")
    (system / "readme.txt").touch()
    assert [path.rsplit("/", 1)[1] for path in fonts._files()] == [
        "NotoSansCJK-Regular.ttc",
        "Zapf.ttf",
        "NotoSans-BoldItalic.ttf",
    ]


def test_what_no_font_has_is_said_once(system, caplog):
    (system / "broken.ttf").write_bytes(b"no font")
    for _ in range(3):
        assert drawn("犬 \u200b猫").any()
    assert caplog.messages == ["no font on this machine has 犬猫, which is drawn as boxes: install one, such as Noto"]


def test_latin_letters_stay_in_pillows_own_font(system, caplog):
    before = drawn("wine glass")
    save_font(system / "NotoSans-Regular.ttf", "wine glass")
    for cached in (fonts._files, fonts._parts):
        cached.cache_clear()
    np.testing.assert_array_equal(drawn("wine glass"), before)
    assert not caplog.messages


def test_the_legend_shows_labels_of_any_script(system):
    save_font(system / "a.ttf", "犬猫空")
    image = np.zeros((300, 300, 3), np.uint8)
    entries = [(name, (255, 0, 0)) for name in ("犬", "猫", "空")]
    legend = draw_legend(image, entries, np.zeros((300, 300), bool))
    assert (legend == 255).all(axis=2).sum() == 3 * 10 * 10  # squares of 10 px, white
