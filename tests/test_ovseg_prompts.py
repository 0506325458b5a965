"""Templates, articles, and the mean embedding of a label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_ovseg import tiny_backbone

from ovseg import OvsegConfig
from ovseg.labels import Label
from ovseg.prompts import embed_labels, fill, highest_of_names, label_prompts
from ovseg.templates import TEMPLATES, resolve_templates


def letters(texts: Sequence[str]) -> NDArray[np.float32]:
    """A stand-in for a text encoder: the unit vector of letter counts."""
    counts = np.array([[text.count(letter) for letter in "abcdefgxyz"] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("template", "word", "expected"),
    [
        ("a photo of a {}", "boat", "a photo of a boat"),
        ("a photo of a {}", "orange boat", "a photo of an orange boat"),
        ("A {} at sea", "Umbrella", "An Umbrella at sea"),
        ("a photo of the {}", "owl", "a photo of the owl"),
        ("a photo of a {}", "the moon", "a photo of the moon"),
        ("a photo of the {}", "a cat", "a photo of a cat"),
        ("{}", "apple", "apple"),
        ("a {}", "thermos", "a thermos"),
        ("a {}", "weird {} word", "a weird {} word"),
    ],
)
def test_the_word_takes_its_place_with_one_fitting_article(template: str, word: str, expected: str) -> None:
    assert fill(template, word) == expected


def test_every_synonym_goes_through_every_template() -> None:
    prompts = label_prompts(Label("car", ("automobile",)), ("a {}", "the {}"))
    assert prompts == ["a car", "the car", "an automobile", "the automobile"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_named_sets_hold_distinct_valid_templates(name: str) -> None:
    templates = resolve_templates(name)
    assert resolve_templates(templates) == templates
    assert len(set(templates)) == len(templates)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("foto", "templates is 'foto', expected one of photo, simple, toy, plain, imagenet80, a list"),
        ((), r"templates is \(\), expected one of photo, simple, toy, plain, imagenet80, a list"),
        (("a cat",), r"templates is \('a cat',\), expected .* that hold {} once each"),
        (("{} and {}",), "templates is .*'{} and {}'.*, expected"),
        ((3,), r"templates is \(3,\), expected"),
    ],
)
def test_bad_templates_are_refused(templates: str | tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_templates(templates)


def test_openais_templates_are_eighty() -> None:
    assert len(TEMPLATES["imagenet80"]) == 80 and TEMPLATES["plain"] == ("{}",)


def test_a_file_has_a_template_a_line_and_the_settings_keep_them(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("# drawings\n\na sketch of a {}\n  {} in ink\n", encoding="utf-8-sig")
    config = OvsegConfig(model="m", templates=str(file))
    file.unlink()
    assert config.templates == ("a sketch of a {}", "{} in ink")
    with pytest.raises(FileNotFoundError, match=r"no file of templates .*mine\.txt"):
        OvsegConfig(model="m", templates=str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a {}\n\na cat\n", "mine.txt line 3 is 'a cat', expected a text that holds {} once"),
        (b"{} {}", "line 1 is '{} {}', expected"),
        (b"# nothing\n", "mine.txt holds none, expected a text"),
        (b"\xff{}", "mine.txt is not UTF-8 text"),
    ],
)
def test_bad_files_of_templates_are_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        resolve_templates(str(tmp_path / "mine.txt"))


def test_the_highest_of_names_is_that_of_each_label() -> None:
    labels = [Label("cab", ("taxi",)), Label("bee"), Label("fax", ("gaze", "daze"))]
    logits = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
    expected = [logits[:2].max(0), logits[2], logits[3:].max(0)]
    np.testing.assert_array_equal(highest_of_names(labels, logits), expected)


def test_a_label_is_the_unit_mean_of_its_prompts() -> None:
    labels = [Label("cab", ("taxi",)), Label("bee")]
    embedded = embed_labels(labels, ("a {}", "{}"), letters)
    means = [letters(["a cab", "cab", "a taxi", "taxi"]).mean(0), letters(["a bee", "bee"]).mean(0)]
    np.testing.assert_allclose(embedded, [mean / np.linalg.norm(mean) for mean in means], rtol=1e-6)
    assert embedded.dtype == np.float32


def test_labels_do_not_touch_each_other() -> None:
    labels = [Label("cab", ("taxi",)), Label("bee"), Label("fax", ("gaze", "daze"))]
    together = embed_labels(labels, "photo", letters)
    alone = np.concatenate([embed_labels([label], "photo", letters) for label in labels])
    np.testing.assert_array_equal(together, alone)


def test_labels_that_the_model_cannot_tell_apart_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    labels = [Label("cab"), Label("bee"), Label("bac"), Label("feed"), Label("deef"), Label("fax", ("gaze",))]
    for _ in range(3):
        embed_labels(labels, "simple", letters)
    (warning,) = caplog.messages
    assert "cannot tell these labels apart: 'cab', 'bac'; 'feed', 'deef' (" in warning
    caplog.clear()
    embed_labels([Label("cab"), Label("bee"), Label("face")], "simple", letters)
    assert not caplog.messages


def test_prompts_that_are_cut_to_one_start_are_one_to_the_model(caplog: pytest.LogCaptureFixture) -> None:
    long = " ".join(["very"] * 80)
    labels = [Label(f"{long} red"), Label("cat"), Label(f"{long} blue"), Label("cats")]
    embed_labels(labels, ("a {}",), tiny_backbone().encode_text)
    (warning,) = caplog.messages
    assert "apart: 'very very ve...very very red', 'very very ve...ery very blue' (" in warning
