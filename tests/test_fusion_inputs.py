"""Files, folders and globs: what is found, in which order, and what its outputs are called."""

from __future__ import annotations

import io
import os
from itertools import count
from pathlib import Path

import pytest

from fusion.runs import search
from fusion.runs.inputs import common_names, find_images, name_outputs


@pytest.fixture
def photos(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.dat", ".hidden.png", "sub/c.webp", "sub/.thumbs/d.png", "out/overlays/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_folders_are_searched_at_any_depth_in_order(photos):
    assert names(find_images([photos]), photos) == ["a.PNG", "b.jpg", "out/overlays/a.png", "sub/c.webp"]


def test_outputs_are_never_taken_for_inputs_unless_named(photos):
    outside = [photos / "out/overlays"]
    assert names(find_images([photos], outside=outside), photos) == ["a.PNG", "b.jpg", "sub/c.webp"]
    assert names(find_images([photos / "*" / "*"], outside=outside), photos) == ["sub/c.webp"]
    named = photos / "out/overlays/a.png"
    assert find_images([named], outside=outside) == [named]


@pytest.fixture
def other_run(tmp_path_factory):
    """The output folder of another run, elsewhere."""
    folder = tmp_path_factory.mktemp("elsewhere") / "run"
    (folder / "overlays").mkdir(parents=True)
    (folder / "overlays" / "z.png").touch()
    (folder / "y.png").touch()
    (folder / "journal.jsonl").write_text('{"config_hash":"0","folder":"/"}\n')
    return folder


@pytest.mark.parametrize("mark", ["journal.jsonl", "run.json"])
def test_a_folder_of_a_run_is_never_searched_whatever_it_is_called(photos, mark):
    (photos / "old").mkdir()
    (photos / "old" / "x.png").touch()
    assert "old/x.png" in names(find_images([photos]), photos)
    (photos / "old" / mark).write_text('{"config_hash": "0"}\n')
    assert "old/x.png" not in names(find_images([photos]), photos)
    with pytest.raises(ValueError, match="no images in"):
        find_images([photos / "o*d" / "*.png"])
    with pytest.raises(ValueError, match="no images in"):
        find_images([photos / "old"])
    assert names(find_images([photos / "old" / "x.png"]), photos) == ["old/x.png"]
    (photos / "old" / mark).write_text('{"lr": 0.1, "epochs": 3}\n')  # of another program
    assert "old/x.png" in names(find_images([photos]), photos)


@pytest.mark.parametrize("link", ["folder", "subfolder", "file"])
def test_outputs_are_known_through_links(photos, other_run, link):
    before = names(find_images([photos]), photos)
    target = {"folder": other_run, "subfolder": other_run / "overlays", "file": other_run / "overlays" / "z.png"}[link]
    (photos / "linked.png").symlink_to(target)
    assert names(find_images([photos, photos / "**" / "*.png"]), photos) == before
    if link != "file":
        with pytest.raises(ValueError, match="no images in"):
            find_images([photos / "linked.png"])


def test_the_output_folder_is_known_by_its_real_path(photos, tmp_path_factory):
    alias = tmp_path_factory.mktemp("alias") / "photos"
    alias.symlink_to(photos)
    for outside in (alias / "out" / "overlays", photos / "out" / "overlays"):
        for given in (alias, photos):
            assert [path.name for path in find_images([given], outside=[outside])] == ["a.PNG", "b.jpg", "c.webp"]


def test_images_may_lie_in_the_very_folder_that_is_written_to(photos):
    (photos / "journal.jsonl").write_text('{"config_hash":"0","folder":"/"}\n')
    outside = [photos / "overlays"]
    assert "b.jpg" in names(find_images([photos], outside=outside), photos)
    with pytest.raises(ValueError, match="no images in"):
        find_images([photos], outside=[photos / "elsewhere" / "overlays"])


def test_files_come_in_the_order_given_whatever_their_suffix_and_once(photos):
    given = [photos / "notes.dat", photos / "b.jpg", photos]
    assert names(find_images(given), photos)[:3] == ["notes.dat", "b.jpg", "a.PNG"]
    assert len(find_images(given)) == len(set(find_images(given))) == 5


def test_globs_are_expanded(photos):
    assert names(find_images([str(photos / "*.jpg"), str(photos / "s*")]), photos) == ["b.jpg", "sub/c.webp"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(tmp_path):
    (tmp_path / "a[1].png").touch()
    assert names(find_images([tmp_path / "a[1].png"]), tmp_path) == ["a[1].png"]


@pytest.mark.parametrize("given", ["gone.jpg", "*.tiff"])
def test_what_matches_nothing_is_missing(photos, given):
    with pytest.raises(FileNotFoundError, match=given.replace("*", r"\*")):
        find_images([photos / given])


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no images in"):
        find_images([tmp_path])


def test_two_files_of_one_stem_get_distinct_names():
    paths = [Path("/x/a.jpg"), Path("/y/a.png"), Path("/z/A.jpg"), Path("/z/a-2.jpg"), Path("/z/b.jpg")]
    assert [file.name for file in name_outputs(paths, {})] == ["a", "a-3", "A-4", "a-2", "b"]


def test_known_names_stay_and_are_not_given_twice():
    known = {"/x/a.jpg": "a", "/gone/b.jpg": "b"}
    paths = [Path("/y/a.jpg"), Path("/x/a.jpg"), Path("/new/b.jpg")]
    assert [file.name for file in name_outputs(paths, known)] == ["a-2", "a", "b-2"]


def test_many_files_of_one_stem_are_named_in_one_pass(monkeypatch):
    tried = []
    monkeypatch.setattr(
        "fusion.runs.inputs.itertools.count", lambda start: map(lambda n: tried.append(n) or n, count(start))
    )
    paths = [Path(f"/clip{number:05}/frame.png") for number in range(2000)]
    named = [file.name for file in name_outputs(paths, {})]
    assert named == ["frame", *(f"frame-{number}" for number in range(2, 2001))]
    assert len(tried) < 2 * len(paths)


def test_a_name_of_dots_alone_leads_nowhere():
    assert [file.name for file in name_outputs([Path("/x/..png"), Path("/x/...png")], {})] == ["..png", "...png"]


def test_no_two_known_images_share_a_name():
    known = {"/x/a.jpg": "a", "/y/b.jpg": "A", "/z/c.jpg": "c"}
    assert [file.name for file in name_outputs(map(Path, known), known)] == ["a", "b", "c"]


def test_file_names_are_relative_to_what_holds_them_all():
    assert common_names(["/p/x/a.jpg", "/p/x/sub/b.jpg"]) == ["a.jpg", "sub/b.jpg"]
    assert common_names(["/p/x/a.jpg", "/p/y/a.jpg"]) == ["x/a.jpg", "y/a.jpg"]
    assert common_names(["/p/x/a.jpg"]) == ["a.jpg"]
    assert common_names([]) == []


@pytest.mark.parametrize("form", ["@", ".txt", "-"])
def test_lists_of_inputs(photos, form, monkeypatch):
    monkeypatch.chdir(photos)
    lines = f"b.jpg\n\n  sub  \n{photos}/*.PNG\n"
    path = Path("list.txt" if form == ".txt" else "list")
    path.write_text(lines, encoding="utf-8-sig")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))  # with a byte-order mark
    given = {"@": "@list", ".txt": "list.txt", "-": "-"}[form]
    assert names(find_images([given]), photos) == ["b.jpg", "sub/c.webp", "a.PNG"]


def test_bad_lists_say_what_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="is empty: expected an image, folder or glob a line"):
        find_images([tmp_path / "empty.txt"])
    with pytest.raises(ValueError, match=r"cannot be read: .*No such file"):
        find_images([f"@{tmp_path}/none"])


def test_links_and_their_loops_lead_to_each_file_once(photos):
    (photos / "loop").symlink_to(photos)
    (photos / "also.jpg").symlink_to(photos / "b.jpg")
    found = names(find_images([photos, str(photos / "**" / "*.jpg")]), photos)
    assert found == ["a.PNG", "also.jpg", "out/overlays/a.png", "sub/c.webp"]


def test_linked_folders_are_searched_after_the_others_and_once(photos, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "deep").mkdir()
    for name in ("e.jpg", "deep/f.png"):
        (elsewhere / name).touch()
    (photos / "aa").symlink_to(photos / "sub")  # a second way
    (photos / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(photos)
    (elsewhere / "deep" / "again").symlink_to(elsewhere)
    (photos / "sub" / "up").symlink_to(photos.parent)
    (photos / "nowhere").symlink_to(photos / "gone")
    expected = ["a.PNG", "b.jpg", "linked/deep/f.png", "linked/e.jpg", "out/overlays/a.png", "sub/c.webp"]
    assert names(find_images([photos]), photos) == expected
    assert names(find_images([photos / "**" / "*.[jpw]*"]), photos) == [path for path in expected if "PNG" not in path]
    assert names(find_images([photos / "**"]), photos) == expected


def test_globs_do_not_run_in_circles(photos):
    for name in "xyz":
        (photos / name).symlink_to(photos)  # 3 ** 40 ways to go round
    assert names(find_images([photos / "**" / "*.jpg"]), photos) == ["b.jpg"]


def test_a_linked_output_folder_is_not_searched(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    (output / "overlays").mkdir()
    (output / "overlays" / "x.png").touch()
    (photos / "results").symlink_to(output)
    assert "results/overlays/x.png" not in names(find_images([photos], outside=[output / "overlays"]), photos)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "pbm", "JFIF", "pnm", "dib"])
def test_less_common_names_of_images_count(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").touch()
    assert len(find_images([tmp_path])) == 1


def test_one_line_says_what_was_left_out_and_why(photos, monkeypatch, caplog):
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("private"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(search, "reads_heif", lambda: False)
    (photos / "private").mkdir()
    for name in ("IMG_1.HEIC", "sub/IMG_2.heif", "raw.cr2", "sub/notes.dat", "LICENSE"):
        (photos / name).touch()
    found = find_images([photos, photos / "sub", photos / "notes.dat"])
    assert names(found, photos) == ["a.PNG", "b.jpg", "out/overlays/a.png", "sub/c.webp", "notes.dat"]
    assert caplog.messages == [
        "skipped: 4 files whose suffix is no image's (.dat, none, .cr2); "
        "2 files in HEIC (pip install 'emerseg[heic]' reads them); "
        f"the folder {photos}/private, which cannot be read (Permission denied)"
    ]
    (photos / "phone").mkdir()
    (photos / "phone" / "a.heic").touch()
    with pytest.raises(ValueError, match=r"no images in .*phone: .*skipped: .*1 file in HEIC \(pip install"):
        find_images([photos / "phone"])


def test_heic_counts_where_it_can_be_read(tmp_path, monkeypatch, caplog):
    (tmp_path / "a.heic").touch()
    monkeypatch.setattr(search, "reads_heif", lambda: True)
    assert names(find_images([tmp_path]), tmp_path) == ["a.heic"]
    assert not caplog.messages


def test_the_files_of_the_run_itself_are_not_mentioned(photos, caplog):
    (photos / "out" / "run.json").touch()
    (photos / "notes.dat").unlink()
    find_images([photos], outside=[photos / "out" / "overlays"])
    assert not caplog.messages


def test_files_whose_names_look_like_syntax(tmp_path, monkeypatch):
    """As a shell expands `*`."""
    monkeypatch.chdir(tmp_path)
    given = ["~a.png", "~root.png", "@a.png", "[1].png", "*.png", "a?.png", "-.png"]
    for name in given:
        Path(name).touch()
    assert names(find_images(given), tmp_path) == given
    assert names(find_images(["@a.png"]), tmp_path) == ["@a.png"]
    Path("list").write_text("\n".join(given))
    assert names(find_images(["@list"]), tmp_path) == given
    Path("folder.txt").mkdir()
    Path("folder.txt/a.png").touch()
    assert names(find_images(["folder.txt"]), tmp_path) == ["folder.txt/a.png"]


def test_the_home_folder_is_meant_where_there_is_no_such_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").touch()
    assert find_images(["~/a.png"]) == find_images(["~/*.png"]) == [tmp_path / "a.png"]
    with pytest.raises(FileNotFoundError, match=r"no file or folder ~nobody\.png"):
        find_images(["~nobody.png"])


@pytest.mark.parametrize(
    "pattern",
    ["trip [2024]/*.png", "*/trip [2024]/*.png", "trip [2024]/**/*.png", "trip [[]2024]/*", "trip [2024]/[ab].png"],
)
def test_brackets_in_folders_that_exist_are_no_wildcards(tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "old" / "trip [2024]" if pattern.startswith("*/") else tmp_path / "trip [2024]"
    folder.mkdir(parents=True)
    (folder / "a.png").touch()
    assert find_images([pattern]) == [folder / "a.png"]


def test_a_missing_line_of_a_list_is_an_image_that_fails_and_the_rest_goes_on(photos, monkeypatch, caplog):
    monkeypatch.chdir(photos)
    (photos / "empty").mkdir()
    lines = "b.jpg\ngone.jpg\n*.tiff\nempty\na.PNG\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert names(find_images(["-"]), photos) == ["b.jpg", "gone.jpg", "a.PNG"]
    assert [message.split(":")[1].strip() for message in caplog.messages] == [
        "no file matches *.tiff",
        "no images in empty",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("gone.jpg\nlost/*.jpg\n"))
    with pytest.raises(ValueError, match=r"list of images - names none: no file or folder gone\.jpg"):
        find_images(["-"])


def test_lists_hold_names_of_any_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [b"caf\xe9.png", "\u2028 line\x0c.png".encode(), b"a b.png"]
    for name in given:
        Path(os.fsdecode(name)).touch()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\r\n".join(given))))
    assert [os.fsencode(path.name) for path in find_images(["-"])] == given
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("a.png\n".encode("utf-16"))))
    with pytest.raises(ValueError, match="cannot be read: it is no text"):
        find_images(["-"])


def test_a_closed_standard_input_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError, match="standard input is closed"):
        find_images(["-"])


@pytest.mark.parametrize("given", ["", " "])
def test_no_text_is_no_input(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=f"input is '{given}', expected an image, a folder or a glob"):
        find_images([given])


def test_names_too_long_for_a_file_system_are_cut_and_told_apart():
    paths = [Path(f"/photos/{'日' * 83}{end}.png") for end in "ab"]
    first, second = (file.name for file in name_outputs(paths, {}))
    assert first != second and max(len(name.encode()) for name in (first, second)) <= 200
    assert name_outputs(paths[1:], {})[0].name == second
