"""The report page: what stands in the file, and what a browser makes of it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import weakref
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fusion.formats.palette import palette
from fusion.formats.report import THUMBNAIL, ReportImage, ReportPage, thumbnails
from fusion.formats.schema import Evidence, ImageRecord, Region
from ground.files import replacing
from ovseg import Label

LABELS = [Label("cat"), Label("grass", stuff=True), Label("sky", stuff=True)]
HOSTILE = ["<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "<!--<script>", "\u2028 & \" ' \u202e"]
SIZE_HW = (40, 60)
NO_LAYERS = {"thumbnail": "", "overlay": ""}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def region(category_id=1, margin=0.5, area=100, bbox=(6, 4, 30, 20), score=0.6, share=0.7, runner_up="sky"):
    evidence = Evidence(score=score, share=share, margin=margin, runner_up=runner_up, mask_ids=[1, 2])
    return Region(
        category_id=category_id,
        segmentation={"size": list(SIZE_HW), "counts": "never in the page"},
        area=area,
        bbox=list(bbox),
        iscrowd=0,
        evidence=evidence,
    )


@pytest.fixture(scope="module")
def layers():
    """Thumbnails of a grey image whose right half is the first label."""
    label_map = np.zeros(SIZE_HW, np.int32)
    label_map[:, 30:] = 1
    return thumbnails(np.full((*SIZE_HW, 3), 128, np.uint8), label_map, palette(3))


def done(name, regions, layers, file_name=None, first_id=1, size_hw=SIZE_HW):
    record = ImageRecord(
        size_hw=list(size_hw),
        pixels="0" * 64,
        overlay_pixels="0" * 64,
        regions=regions,
        polygons=None,
        **layers,
    )
    return ReportImage(name, f"{name}.png" if file_name is None else file_name, None, record, first_id)


def failed(name, reason, file_name=None):
    return ReportImage(name, f"{name}.png" if file_name is None else file_name, reason, None)


def write_report(path, images, labels, title):
    with replacing(path) as file:
        page = ReportPage(file, labels, title)
        for image in images:
            page.add(image)
        page.close()


class Scripts(HTMLParser):
    """The scripts of a page as a browser would find them: (class, text) pairs."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "script":
            self.found.append((dict(attrs).get("class"), ""))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            kind, text = self.found[-1]
            self.found[-1] = (kind, text + data)


def data_of(path, kind):
    return [json.loads(text) for found, text in Scripts(path.read_text("utf-8")).found if found == kind]


def size_without_images(path):
    return len(re.sub(rb'(?m)^<script type="application/json" class="images">.*$', b"", path.read_bytes()))


# Thumbnails.


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((1, 1), (1, 1)), ((1, 4000), (1, 240)), ((4000, 1), (240, 1)), ((30, 50), (30, 50)), ((600, 800), (180, 240))],
)
def test_thumbnails_of_any_size_are_small_jpegs_of_one_size(size_hw, expected):
    image = np.random.default_rng(0).integers(0, 255, (*size_hw, 3), np.uint8)
    found = thumbnails(image, np.ones(size_hw, np.int32), palette(1))
    assert list(found) == ["thumbnail", "overlay"]
    for text in found.values():
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", expected[::-1])
    assert max(expected) <= THUMBNAIL


def test_an_overlay_shows_each_region_in_its_colour_where_it_is():
    label_map = np.zeros((400, 400), np.int32)
    label_map[:200, 200:] = 1
    label_map[200:] = 2
    found = thumbnails(np.zeros((400, 400, 3), np.uint8), label_map, [(200, 0, 0), (0, 0, 200)])
    overlay = np.array(Image.open(io.BytesIO(base64.b64decode(found["overlay"]))), int)
    for (y, x), color in {(60, 60): (0, 0, 0), (60, 180): (90, 0, 0), (180, 120): (0, 0, 90)}.items():
        assert np.abs(overlay[y, x] - color).max() < 12


def test_thumbnails_of_another_size_than_the_label_map_are_refused():
    with pytest.raises(ValueError, match=r"image is \(4, 4\) and the label map \(4, 5\)"):
        thumbnails(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.int32), palette(1))


# The file.


def test_the_data_says_what_the_annotations_say(tmp_path, layers):
    cat = region(2, margin=-0.1235, runner_up="cat", bbox=(1, 2, 3, 4))
    other = region(1, runner_up="a background label")
    write_report(
        tmp_path / "report.html",
        [done("a b#?%", [cat, other], layers, first_id=7), failed("c", "broken"), done("d", [], layers)],
        [Label("cat", color=(1, 2, 255)), *LABELS[1:]],
        "title",
    )
    (report,) = data_of(tmp_path / "report.html", "report")
    assert report["title"] == "title"
    assert report["labels"][0] == ["cat", "0102ff"]
    assert data_of(tmp_path / "report.html", "image") == [
        [
            "a b#?%.png",
            "overlays/a%20b%23%3F%25.png",
            None,
            [40, 60],
            7,
            [
                [2, 100, [1, 2, 3, 4], 0.6, 0.7, -0.1235, 1],
                [1, 100, [6, 4, 30, 20], 0.6, 0.7, 0.5, "a background label"],
            ],
        ],
        ["c.png", "overlays/c.png", "broken", None, 1, []],
        ["d.png", "overlays/d.png", None, [40, 60], 1, []],
    ]
    both = [layers["thumbnail"], layers["overlay"]]
    assert data_of(tmp_path / "report.html", "layers") == [both, [None, None], both]


texts = st.text(max_size=20) | st.sampled_from(HOSTILE) | st.just("\udcff")  # the last: a byte that is no text


@settings(max_examples=20, deadline=None)
@given(name=texts, label=texts, reason=texts, title=texts)
def test_whatever_the_texts_they_come_back_and_add_no_element(tmp_path_factory, name, label, reason, title):
    path = tmp_path_factory.mktemp("report") / "report.html"
    images = [done(name, [region(runner_up=label)], NO_LAYERS, file_name=name), failed(name, reason, file_name=name)]
    write_report(path, images, [Label(label)], title)
    scripts = Scripts(path.read_text("utf-8")).found
    assert [kind for kind, _ in scripts] == ["report", "image", "layers", "image", "layers", None]
    report, first, _, second = (json.loads(text) for _, text in scripts[:4])
    assert (report["title"], report["labels"][0][0]) == (title, label)
    assert (first[0], second[0], second[2]) == (name, name, reason)
    assert unquote_to_bytes(first[1]) == b"overlays/" + name.encode("utf-8", "surrogateescape") + b".png"


def test_the_same_input_gives_the_same_bytes(tmp_path, layers):
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, [done("a", [region()], layers), failed("b", "broken")], LABELS, "t")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_one_image_is_in_memory_at_a_time(tmp_path):
    made = []

    def images():
        for index in range(50):
            image = done(str(index), [region()], NO_LAYERS)
            made.append(weakref.ref(image))
            yield image
            del image
            assert sum(reference() is not None for reference in made) <= 1

    write_report(tmp_path / "report.html", images(), LABELS, "t")
    assert len(made) == 50


def test_a_report_that_cannot_be_finished_leaves_the_last_one(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("the last one")

    def images():
        yield failed("a", "broken")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(path, images(), LABELS, "t")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("report.html", "the last one")]


def test_twenty_images_of_thirty_segments_are_small(tmp_path, layers):
    labels = [Label(f"a label of some length {index}") for index in range(30)]
    rng = np.random.default_rng(0)
    segments = [region(i + 1, *rng.random(1), 123456, (1000, 1000, 2000, 1500)) for i in range(30)]
    images = [done(f"an image with a name {index}", segments, layers) for index in range(20)]
    write_report(tmp_path / "report.html", images, labels, "t")
    assert size_without_images(tmp_path / "report.html") < 100_000


def test_the_page_names_nothing_outside_itself(tmp_path):
    write_report(tmp_path / "report.html", [], LABELS, "t")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"https?:|//cdn|@import|url\(|<link[^>]+stylesheet|<script[^>]+src", page)
    assert "default-src 'none'" in page


# In a browser.


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_report(browser, tmp_path):
    """Writes a report and opens it. Afterwards: no error, no dialog and no request but for the file itself."""
    contexts, faults = [], []

    def opened(images, labels=LABELS, title="a title", viewport_wh=(1280, 800), **options):
        path = tmp_path / "report.html"
        write_report(path, images, labels, title)
        width, height = viewport_wh
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: faults.append(request.url) if is_foreign(request.url) else None)

        def is_foreign(url):
            return url != path.as_uri() and not url.startswith("data:")

        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def column(page, number):
    return page.locator(f"#rows td:nth-child({number})").all_inner_texts()


def sample(layers):
    """Three images: two with segments, one with none; and one that failed."""
    return [
        done("a10", [region(1, 0.3, area=5), region(2, 0.1, area=2000)], layers, first_id=11),
        done("a9", [region(3, 0.2, area=70, runner_up=None), region(1, -0.1, area=1, bbox=(0, 0, 6, 4))], layers),
        done("nothing", [], layers),
        failed("bad", "cannot identify image file"),
    ]


def test_the_page_opens_with_the_smallest_margin_first(open_report, layers):
    page = open_report(sample(layers), title="my images")
    assert page.title() == page.locator("h1").inner_text() == "my images"
    assert page.locator("#summary").inner_text() == "3 images · 4 segments · 3 of 3 labels found"
    assert column(page, 2) == ["−0.100", "0.100", "0.200", "0.300"]
    assert column(page, 5) == ["sky", "sky", "–", "sky"]
    assert page.locator("th[aria-sort=ascending]").inner_text().strip() == "Margin"
    assert page.locator("#label").inner_text() == "cat"
    assert page.locator("#failures").inner_text().split("\n")[0] == "1 image failed"
    assert "bad.png" in page.locator("#failures li").inner_text()
    assert "cannot identify image file" in page.locator("#failures li").inner_text()
    page.wait_for_function(
        "() => [...document.images].length == 8 && [...document.images].every((i) => i.naturalWidth == 60)"
    )


def test_hostile_texts_are_shown_as_texts(open_report, layers):
    images = [
        *(done(f"{i}", [region(i + 1, runner_up=text)], layers, file_name=text) for i, text in enumerate(HOSTILE)),
        *(failed(text, text, file_name=text) for text in HOSTILE),
    ]
    page = open_report(images, [Label(text) for text in HOSTILE], title=HOSTILE[1])
    assert page.locator("h1").text_content() == HOSTILE[1]
    for selector in ("#rows td:nth-child(1)", "#rows td:nth-child(5)", "#rows td:nth-child(7)", ".tile .name"):
        assert sorted(page.locator(selector).all_text_contents()) == sorted(HOSTILE)
    for row in page.locator("#rows tr").all():
        row.click()
        assert page.locator("#label").text_content() in HOSTILE
    assert page.locator("#failures li").all_text_contents() == [text + text for text in HOSTILE]
    assert page.locator("[onerror]").count() == 0


def test_the_table_sorts_by_every_column(open_report, layers):
    page = open_report(sample(layers))
    for name, number, expected in [
        ("Label", 1, ["cat", "cat", "grass", "sky"]),
        ("Area, px", 6, ["1", "5", "70", "2,000"]),
        ("Image", 7, ["a9.png", "a9.png", "a10.png", "a10.png"]),
        ("Margin", 2, ["−0.100", "0.100", "0.200", "0.300"]),
    ]:
        button = page.locator("thead").get_by_role("button", name=name)
        button.click()
        assert column(page, number) == expected
        button.click()
        assert column(page, number) == expected[::-1]
        assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    for name in ("Score", "Share"):
        page.locator("thead").get_by_role("button", name=name).click()
        assert page.locator("th[aria-sort=ascending]").inner_text().strip() == name


def test_labels_and_file_names_filter_images_and_segments(open_report, layers):
    page = open_report(sample(layers), [*LABELS, Label("never found")])
    chips = page.locator("#labels")
    assert chips.get_by_role("button", name="never found").is_disabled()
    chips.get_by_role("button", name="grass").click()
    assert column(page, 1) == ["grass"]
    assert page.locator(".tile:visible").count() == 1
    chips.get_by_role("button", name="sky").click()
    assert column(page, 1) == ["grass", "sky"]
    page.locator("#search").fill("A9")
    assert column(page, 1) == ["sky"]
    assert page.locator("#count").inner_text() == "1 of 4 segments"
    page.locator("#clear").click()
    assert len(column(page, 1)) == 4
    assert page.locator(".tile:visible").count() == 3
    page.locator(".tile").nth(0).click()
    page.locator("#search").fill("a9")
    assert set(column(page, 7)) == {"a9.png"}, "a search starts anew from all images"
    page.locator("#search").fill("no such image")
    assert page.locator("#empty").is_visible()


@pytest.mark.parametrize("reach", ["hover", "focus", "tap"])
def test_a_thumbnail_shows_its_overlay(open_report, layers, reach):
    sync_api = pytest.importorskip("playwright.sync_api")
    page = open_report(sample(layers), has_touch=True)
    tile = page.locator(".tile").nth(1)
    overlay = sync_api.expect(tile.locator(".overlay"))
    overlay.to_have_css("opacity", "0")
    if reach == "focus":
        page.locator(".tile").nth(0).focus()
        page.keyboard.press("Tab")
    else:
        getattr(tile, reach)()
    overlay.to_have_css("opacity", "1")


def test_an_image_filters_the_table_and_a_second_click_shows_all(open_report, layers):
    page = open_report(sample(layers))
    page.locator(".tile").nth(0).click()
    assert column(page, 7) == ["a10.png"] * 2
    assert page.locator("#place").inner_text() == "a10.png"
    assert page.locator("#label").inner_text() == "grass"
    page.locator(".tile").nth(2).click()
    assert column(page, 7) == []
    assert page.locator("#label").inner_text() == "Nothing found"
    page.locator(".tile").nth(2).click()
    assert len(column(page, 7)) == 4


def test_a_row_shows_its_image_with_a_box_around_the_segment(open_report, layers):
    page = open_report(sample(layers))
    page.locator("#rows tr").nth(1).click()
    assert page.locator(".tile[aria-current=true] .name").inner_text() == "a10.png"
    assert page.locator("#rows tr[aria-current=true]").inner_text().startswith("grass")
    assert " ".join(page.locator("#numbers").inner_text().split()) == (
        "Margin 0.100 Share 0.700 Score 0.600 Area, px 2,000 Of image 83.3 % COCO id 12"
    )
    frame = page.locator("#frame .layer").first.bounding_box()
    box = page.locator("#frame .layer .box").first.bounding_box()
    assert (box["x"] - frame["x"]) / frame["width"] == pytest.approx(6 / 60, abs=0.01)
    assert (box["y"] - frame["y"]) / frame["height"] == pytest.approx(4 / 40, abs=0.01)
    assert box["width"] / frame["width"] == pytest.approx(30 / 60, abs=0.01)
    assert box["height"] / frame["height"] == pytest.approx(20 / 40, abs=0.01)


def test_arrow_keys_go_from_row_to_row(open_report, layers):
    page = open_report(sample(layers))
    page.locator("#rows button").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#rows tr[aria-current=true] td:nth-child(2)").inner_text() == "0.200"
    page.keyboard.press("ArrowUp")
    assert page.locator("#rows tr[aria-current=true] td:nth-child(2)").inner_text() == "0.100"


def test_the_link_leads_to_the_overlay_of_an_odd_name(open_report, layers, tmp_path):
    name = "100% #1? é 日本 &amp; \\"
    (tmp_path / "overlays").mkdir()
    Image.new("RGB", (7, 5)).save(tmp_path / "overlays" / f"{name}.png")
    page = open_report([done(name, [region()], layers)])
    assert page.locator("#link").evaluate("(link) => link.href") == (tmp_path / "overlays" / f"{name}.png").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_the_table_but_never_the_page_sideways(open_report, layers, scheme):
    labels = [Label("a label " + "as long as they get " * 10), Label("x" * 200), *LABELS]
    images = [
        done(f"{i}" + "n" * 200, [region(i % 5 + 1, i / 10, runner_up=labels[i % 2].name)], layers) for i in range(10)
    ]
    images.append(failed("b" * 200, "r" * 300))
    page = open_report(images, labels, title="t" * 200, viewport_wh=(390, 844), has_touch=True, color_scheme=scheme)
    page.locator("#rows tr").first.tap()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("document.querySelector('.scroller').scrollWidth") > 390
    assert page.locator("#frame").is_visible()


@pytest.mark.parametrize("images", [[], [failed("bad", "broken")]], ids=["none", "all failed"])
def test_a_page_without_images(open_report, images):
    page = open_report(images)
    assert page.locator("#empty").is_visible()
    assert not page.locator("#viewer").is_visible()
    assert page.locator("#failures").is_visible() == bool(images)


def test_odd_sizes_and_many_labels(open_report):
    labels = [Label(f"label {index}") for index in range(300)]
    images = []
    for index, (height, width) in enumerate([(1, 1), (1, 4000), (4000, 1)]):
        small = thumbnails(np.zeros((height, width, 3), np.uint8), np.ones((height, width), np.int32), palette(1))
        whole = region(300, bbox=(0, 0, width, height))
        images.append(done(f"{index}", [whole], small, first_id=index + 1, size_hw=(height, width)))
    page = open_report(images, labels)
    for row in page.locator("#rows tr").all():
        row.click()
        assert page.locator("#label").inner_text() == "label 299"
    assert page.locator("#labels button").count() == 300
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_a_thousand_images_come_into_the_page_as_they_are_needed(open_report, layers):
    rng = np.random.default_rng(0)
    images = (
        done(f"{index}", [region(k % 3 + 1, round(rng.random(), 4)) for k in range(25)], layers)
        for index in range(1000)
    )
    page = open_report(images)
    assert page.locator("#count").inner_text() == "25,000 segments"
    assert page.locator("#rows tr").count() == 100
    assert page.locator(".tile").count() == 1000
    assert 0 < page.locator(".tile img").count() < 400
    page.locator("#more").scroll_into_view_if_needed()
    page.locator("#rows tr").nth(199).wait_for()
    margins = [float(text.replace("−", "-")) for text in column(page, 2)]
    assert margins == sorted(margins)
    page.locator("thead").get_by_role("button", name="Label").click()
    assert set(column(page, 1)) == {"cat"}
