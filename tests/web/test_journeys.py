"""What users do on the page, in a real browser: ten journeys, one of them on a phone."""

from __future__ import annotations

import json
import time
import zipfile

from test_web_edit import photo

from fusion.models.segmenter import Segmenter
from fusion.validate import validate

READY = ".es-viewer[data-ready]"


def give(page, *seeds, name="photo"):
    """Drop images, and wait until they are on the server."""
    files = [
        {"name": f"{name}{'' if seed == seeds[0] else seed}.png", "mimeType": "image/png", "buffer": photo(seed)}
        for seed in seeds
    ]
    page.locator("input[type=file]").first.set_input_files(files)
    page.get_by_text(files[-1]["name"].removesuffix(".png")).first.wait_for()
    page.wait_for_function("() => !document.querySelector('.uploading')")


def name_labels(page, text):
    page.locator("#labels input").fill(text)
    page.keyboard.press("Enter")


def segment(page):
    """Press Segment, and wait until all is done."""
    page.locator("#segment").click()
    page.locator("#status", has_text="egmented").wait_for()
    page.locator(READY).wait_for()


def status(page):
    return page.locator("#status").inner_text()


def shown(page):
    """What the viewer holds: labels, the label of every part, images."""
    return page.evaluate("() => document.querySelector('.es-viewer').view()")


def point_of(page, part):
    """A pixel of a part on the screen, (x, y)."""
    return page.evaluate("(part) => document.querySelector('.es-viewer').pointOf(part)", part)


def click_part(page, part):
    page.mouse.click(*point_of(page, part))
    page.locator(".es-card").wait_for()


def wait_for(page, condition, given=None):
    """Until a condition in JavaScript holds of `view`, what the viewer shows, and `given`."""
    view = "document.querySelector('.es-viewer').view()"
    page.wait_for_function(f"(given) => {{ const view = {view}; return {condition}; }}", arg=given)


def wait_for_ids(page, ids):
    wait_for(page, "String(view.ids) === String(given)", ids)


def download(page, folder):
    """The output folder of the zip."""
    with page.expect_download() as found:
        page.locator("#download").click()
    found.value.save_as(folder / "all.zip")
    with zipfile.ZipFile(folder / "all.zip") as archive:
        archive.extractall(folder)
    return folder / "emerseg/segmentation"


def test_an_image_and_labels_give_segments_with_their_evidence(open_page, site):
    page = open_page(site)
    assert page.locator(".es-empty").is_visible() and page.locator("#download").is_disabled()
    assert page.locator(".es-chip").all_inner_texts() == ["cat\n×", "grass\n×"]
    name_labels(page, "sky, Cat")
    assert page.locator(".es-chip .es-stuff").count() == 2  # grass, and sky by its name
    give(page, 0)
    segment(page)
    page.mouse.move(*point_of(page, 0))
    tip = page.locator(".es-tip").inner_text()
    view = shown(page)
    score, share, margin, runner_up, _, _ = view["about_regions"][view["region_of"][0]]
    assert view["labels"][view["ids"][0] - 1]["name"] in tip
    assert f"{margin:.2f}" in tip and f"{score:.2f}" in tip and (runner_up or "none") in tip
    assert f"{100 * share:.0f} %" in tip or f"{100 * share:.1f} %" in tip


def test_the_download_is_a_valid_folder(open_page, site, tmp_path):
    page = open_page(site)
    give(page, 0)
    segment(page)
    output = download(page, tmp_path)
    assert list(validate(output)) == []
    for file in ("instances.json", "panoptic/photo.png", "semantic/photo.png", "overlays/photo.png"):
        assert (output / file).is_file()
    assert (tmp_path / "emerseg/images/photo.png").read_bytes() == photo(0)


def test_other_labels_need_no_new_masks(open_page, site, monkeypatch):
    made = []
    make = Segmenter.make_masks
    monkeypatch.setattr(Segmenter, "make_masks", lambda self, *a, **k: made.append(1) or make(self, *a, **k))
    page = open_page(site)
    give(page, 11)
    segment(page)
    page.get_by_label("Remove cat").click()
    page.locator("#labels input").fill("boat")
    page.keyboard.press("Control+Enter")
    wait_for(page, "view.labels.some((label) => label.name === 'boat')")
    assert [label["name"] for label in shown(page)["labels"]] == ["grass", "boat"]
    assert made == [1]


def test_a_segment_gets_another_label_and_undo_takes_it_back(open_page, site, tmp_path):
    page = open_page(site)
    give(page, 0)
    segment(page)
    page.get_by_role("button", name="Parts").click()
    before = shown(page)["ids"]
    click_part(page, 0)
    page.get_by_label("A new label").fill("lawn [stuff]")
    page.keyboard.press("Enter")
    after = [3, *before[1:]]
    wait_for_ids(page, after)
    assert page.locator(".es-card").get_by_text("by hand").is_visible()
    page.keyboard.press("Control+z")
    wait_for_ids(page, before)
    page.get_by_role("button", name="Redo").click()
    wait_for_ids(page, after)
    output = download(page, tmp_path)
    assert list(validate(output)) == []
    instances = json.loads((output / "instances.json").read_bytes())
    lawn = [one for one in instances["annotations"] if one["category_id"] == 3]
    assert [one["evidence"]["edited"] for one in lawn] == [True] and instances["categories"][2]["isthing"] == 0


def test_a_segment_is_merged_with_its_neighbour(open_page, site):
    page = open_page(site)
    give(page, 0)
    segment(page)
    page.get_by_role("button", name="Parts").click()
    before = shown(page)["ids"]
    click_part(page, 0)
    page.locator(".es-choice", has_text="other").first.click()
    wait_for_ids(page, [0, *before[1:]])
    merge = page.locator(".es-choices").nth(1).locator(".es-choice").first
    name = merge.inner_text()
    merge.click()
    number = next(i for i, label in enumerate(shown(page)["labels"], start=1) if label["name"] == name)
    wait_for_ids(page, [number, *before[1:]])


def test_several_images_are_looked_at_one_by_one(open_page, site, tmp_path):
    page = open_page(site)
    give(page, 1, 2)
    segment(page)
    tabs = page.get_by_role("tab")
    assert tabs.all_inner_texts() == ["photo.png", "photo2.png"] and status(page).startswith("2 of 2")
    first = shown(page)["key"]
    tabs.nth(1).click()
    wait_for(page, "view.key !== given", first)
    page.get_by_role("button", name="Parts").click()
    before = shown(page)["ids"]
    click_part(page, 0)
    page.locator(".es-choice", has_text="other").first.click()
    wait_for_ids(page, [0, *before[1:]])
    tabs.nth(0).click()
    wait_for(page, "view.key === given", first)
    output = download(page, tmp_path)
    assert list(validate(output)) == [] and len(list((output / "semantic").iterdir())) == 2


def test_images_of_the_server_are_chosen_by_name(open_page, site):
    page = open_page(site)
    page.get_by_label("Images of the server").click()
    options = page.get_by_role("option")
    options.first.wait_for()
    assert [text.strip().removeprefix("✓").strip() for text in options.all_inner_texts()] == [
        "inner/two.png",
        "one.png",
    ]
    options.nth(0).click()
    page.keyboard.press("Escape")
    segment(page)
    assert shown(page)["images"] == ["two.png"]


def test_it_works_on_a_phone(open_page, site, tmp_path):
    page = open_page(site, (390, 844), has_touch=True, is_mobile=True)
    name_labels(page, "sky")
    give(page, 0)
    page.locator("#segment").tap()
    page.locator(READY).wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.locator(".es-main").scroll_into_view_if_needed()
    page.touchscreen.tap(*point_of(page, 0))
    page.locator(".es-card").wait_for()
    box = page.locator(".es-card").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.locator(".es-card .es-choice").first.tap()
    page.locator(".es-card").get_by_text("by hand").wait_for()
    page.locator(".es-undo").tap()
    page.wait_for_function("() => document.querySelector('.es-undo').disabled")
    assert list(validate(download(page, tmp_path))) == []


def test_waiting_can_be_cancelled(open_page, site, monkeypatch):
    make = Segmenter.make_masks

    def slow(self, image, seed):
        time.sleep(2)
        return make(self, image, seed)

    monkeypatch.setattr(Segmenter, "make_masks", slow)
    page = open_page(site)
    give(page, 21, 22)
    page.locator("#segment").click()
    page.get_by_text("Segmenting image 1 of 2").wait_for()
    page.locator("#cancel").click()
    page.get_by_text("Cancelled: 0 of 2 done").wait_for()
    assert page.locator("#segment").is_enabled()
    segment(page)  # and it still works
    assert shown(page)["images"] == ["photo.png", "photo22.png"]


def test_what_is_wrong_is_said_and_the_rest_goes_on(open_page, site):
    page = open_page(site)
    name_labels(page, "sky")
    page.locator("#segment").click()
    page.get_by_text("no images: drop some, or choose some").wait_for()
    files = [
        {"name": "text.png", "mimeType": "image/png", "buffer": b"<b>no image</b>"},
        {"name": "large.png", "mimeType": "image/png", "buffer": photo(3, (400, 300))},
        {"name": "good.png", "mimeType": "image/png", "buffer": photo(0)},
    ]
    page.locator("input[type=file]").first.set_input_files(files)
    page.get_by_text("good").first.wait_for()
    segment(page)
    said = status(page)
    assert "1 of 3 images segmented" in said and "text.png: not an image" in said
    assert "large.png: too large" in said and shown(page)["images"] == ["good.png"]
    page.get_by_label("Remove cat").click()
    page.get_by_label("Remove grass").click()
    page.get_by_label("Remove sky").click()
    page.locator("#segment").click()
    page.get_by_text("no labels").wait_for()


def test_names_are_text_and_the_view_has_its_tools(open_page, site):
    page = open_page(site)
    hostile = "<img src=x onerror=alert(1)>"
    name_labels(page, f"{hostile}, ${{1+1}}, {{{{name}}}}")
    give(page, 0, name="<i>photo")
    segment(page)
    assert page.locator(".es-viewer img").count() == 2
    assert [label["name"] for label in shown(page)["labels"]][2:] == [hostile, "${1+1}", "{{name}}"]
    page.get_by_role("button", name="Side by side").click()
    assert page.locator(".es-plain").is_visible()
    page.locator(".es-opacity input").fill("0")
    page.wait_for_function("() => getComputedStyle(document.querySelector('.es-fill')).opacity === '0'")
    page.locator(".es-list summary").click()
    page.locator(".es-rows .es-choice").first.click()
    assert page.locator(".es-card").is_visible()
    assert hostile in page.locator(".es-card").inner_text()
    page.keyboard.press("Escape")
    page.locator(".es-card").wait_for(state="hidden")
