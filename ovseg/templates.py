"""The sentences that a label's names are put into: a named set, a user's file, or the sentences themselves."""

from __future__ import annotations

from collections.abc import Sequence

from ground.paths import user_path

TEMPLATES: dict[str, tuple[str, ...]] = {
    "photo": (
        "a photo of a {}",
        "a photo of the {}",
        "a close photo of a {}",
        "a photo of a large {}",
        "a photo of a small {}",
        "a photo of a scene with a {}",
        "a photo of a part of a {}",
    ),
    "simple": ("a {}",),
    "toy": (
        "{}",
        "a {}",
        "a picture of a {}",
        "a drawing of a {}",
        "an illustration of a {}",
        "a scene with a {}",
        "there is a {}",
    ),
    "plain": ("{}",),
    # OpenAI's 80 for ImageNet (Radford et al. 2021, section 3.1.4), which the dense variants were published with; but
    # "an" stands before a vowel here, see `prompts.fill`.
    "imagenet80": (
        "a bad photo of a {}.",
        "a photo of many {}.",
        "a sculpture of a {}.",
        "a photo of the hard to see {}.",
        "a low resolution photo of the {}.",
        "a rendering of a {}.",
        "graffiti of a {}.",
        "a bad photo of the {}.",
        "a cropped photo of the {}.",
        "a tattoo of a {}.",
        "the embroidered {}.",
        "a photo of a hard to see {}.",
        "a bright photo of a {}.",
        "a photo of a clean {}.",
        "a photo of a dirty {}.",
        "a dark photo of the {}.",
        "a drawing of a {}.",
        "a photo of my {}.",
        "the plastic {}.",
        "a photo of the cool {}.",
        "a close-up photo of a {}.",
        "a black and white photo of the {}.",
        "a painting of the {}.",
        "a painting of a {}.",
        "a pixelated photo of the {}.",
        "a sculpture of the {}.",
        "a bright photo of the {}.",
        "a cropped photo of a {}.",
        "a plastic {}.",
        "a photo of the dirty {}.",
        "a jpeg corrupted photo of a {}.",
        "a blurry photo of the {}.",
        "a photo of the {}.",
        "a good photo of the {}.",
        "a rendering of the {}.",
        "a {} in a video game.",
        "a photo of one {}.",
        "a doodle of a {}.",
        "a close-up photo of the {}.",
        "a photo of a {}.",
        "the origami {}.",
        "the {} in a video game.",
        "a sketch of a {}.",
        "a doodle of the {}.",
        "a origami {}.",
        "a low resolution photo of a {}.",
        "the toy {}.",
        "a rendition of the {}.",
        "a photo of the clean {}.",
        "a photo of a large {}.",
        "a rendition of a {}.",
        "a photo of a nice {}.",
        "a photo of a weird {}.",
        "a blurry photo of a {}.",
        "a cartoon {}.",
        "art of a {}.",
        "a sketch of the {}.",
        "a embroidered {}.",
        "a pixelated photo of a {}.",
        "itap of the {}.",
        "a jpeg corrupted photo of the {}.",
        "a good photo of a {}.",
        "a plushie {}.",
        "a photo of the nice {}.",
        "a photo of the small {}.",
        "a photo of the weird {}.",
        "the cartoon {}.",
        "art of the {}.",
        "a drawing of the {}.",
        "a photo of the large {}.",
        "a black and white photo of a {}.",
        "the plushie {}.",
        "a dark photo of a {}.",
        "itap of a {}.",
        "graffiti of the {}.",
        "a toy {}.",
        "itap of my {}.",
        "a photo of a cool {}.",
        "a photo of a small {}.",
        "a tattoo of the {}.",
    ),
}
SUFFIX = ".txt"  # of a user's file
EXPECTED = f"one of {', '.join(TEMPLATES)}, a list of texts that hold {{}} once each, or a {SUFFIX} file of one a line"


def are_templates(value: object) -> bool:
    """Whether `value` names a set of TEMPLATES or a file, or is a list or tuple of templates: texts with `{}` once."""
    if isinstance(value, str):
        return value in TEMPLATES or value.endswith(SUFFIX)
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(template, str) and template.count("{}") == 1 for template in value)
    )


def read_templates(path: str) -> tuple[str, ...]:
    """The templates of a UTF-8 file, one a line; blank lines and lines that begin with # are skipped.

    FileNotFoundError on a missing file, ValueError on one that holds anything else, or nothing.
    """
    file = user_path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no file of templates {file}")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"file of templates {file} is not UTF-8 text (byte {error.start})") from None
    templates = {number: line for number, line in enumerate(lines, 1) if line and not line.startswith("#")}
    if bad := [number for number, line in templates.items() if line.count("{}") != 1]:
        raise ValueError(f"{file} line {bad[0]} is {templates[bad[0]]!r}, expected a text that holds {{}} once")
    if not templates:
        raise ValueError(f"file of templates {file} holds none, expected a text that holds {{}} once on each line")
    return tuple(templates.values())


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of a named set or a file, or the given ones; ValueError if they are none of these."""
    if not are_templates(templates):
        raise ValueError(f"templates is {templates!r}, expected {EXPECTED}")
    if isinstance(templates, str):
        return TEMPLATES[templates] if templates in TEMPLATES else read_templates(templates)
    return tuple(templates)
