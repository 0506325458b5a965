"""Label Studio: an ML backend that takes its labels from the project's label config and answers with brush regions.

Facts of the interface: `label_interface` of label-studio-sdk, and `LabelStudioMLBase` of
label-studio-ml in both of its generations: 1.0.9, of the package index, and 2.x, of its repository.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from emerseg.integrations.missing import needs
from emerseg.integrations.regions import LabelledRegion, labelled_regions
from emerseg.integrations.settings import segment, spec_of
from fusion.formats.labelstudio import brush_rle
from fusion.formats.polygons import side_polygons
from ground.images import read_image
from ground.versions import own_version
from ovseg.labels import Label, as_labels

with needs("labelstudio", besides="; label-studio-ml is installed apart, see docs/tools.md"):
    from label_studio_ml.model import LabelStudioMLBase
    from label_studio_sdk._extensions.label_studio_tools.core.utils.io import get_local_path
    from label_studio_sdk.label_interface import LabelInterface

if TYPE_CHECKING:
    from fusion import RunSpec

log = logging.getLogger(__name__)

# Tags that take masks, the best first, with the key of a region's labels.
_TAGS = {"BrushLabels": "brushlabels", "PolygonLabels": "polygonlabels"}


@dataclass(frozen=True)
class Wanted:
    """What a label config asks for."""

    tag: str  # one of _TAGS
    from_name: str  # of the tag
    to_name: str  # of the image
    image_key: str  # of a task's data that says where the image is
    labels: tuple[Label, ...]  # what is looked for
    names: tuple[str, ...]  # what each is called in regions: the alias if there is one, else the value


def read_config(label_config: str) -> Wanted:
    """The labels of a config's BrushLabels or, if it has none, PolygonLabels, and where the results belong.

    A Label is looked for by its `value`; further names, separated by commas, may stand in `hint` and
    `predicted_values`, and `stuff="true"` makes it stuff. ValueError if no such tag stands by an image with labels.
    """
    interface = LabelInterface(label_config)
    for tag, control, image in _tags(interface):
        if control.labels_attrs:
            labels = _looked_for([label.attr for label in control.labels_attrs.values()])
            names = tuple(control.labels_attrs)
            return Wanted(tag, control.name, image.name, image.value.lstrip("$"), labels, names)
    found = ", ".join(f"{control.tag} {control.name!r}" for control in interface.controls) or "nothing"
    raise ValueError(f"the label config has {found}, expected {' or '.join(_TAGS)} of an Image, with Labels")


def _tags(interface: LabelInterface) -> Iterator[tuple[str, Any, Any]]:
    for tag in _TAGS:
        for control in interface.controls:
            images = [item for item in control.objects if item.tag == "Image"]
            if control.tag == tag and images:
                yield tag, control, images[0]


def _looked_for(attributes: Sequence[Mapping[str, str]]) -> tuple[Label, ...]:
    labels = as_labels([attribute.get("value") or attribute["alias"] for attribute in attributes])
    return tuple(map(_with_attributes, labels, attributes))


def _with_attributes(label: Label, attributes: Mapping[str, str]) -> Label:
    others = [name.strip() for key in ("predicted_values", "hint") for name in attributes.get(key, "").split(",")]
    synonyms = tuple(dict.fromkeys(name for name in others if name and name != label.name))
    stuff = {"true": True, "false": False}.get(attributes.get("stuff", "").lower(), label.stuff)
    return replace(label, synonyms=synonyms, stuff=stuff)


class EmersegBackend(LabelStudioMLBase):
    """Predicts the regions of a project's labels. Its settings are those of `spec_of`, see `backend`."""

    settings: Mapping[str, Any] = {}

    def predict(self, tasks: Sequence[Mapping[str, Any]], context: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """One prediction for each task, with a region for each annotation that instances.json would have.

        An image that cannot be read is logged, and gets a prediction without regions.
        """
        wanted = read_config(self.label_config)
        spec = spec_of(wanted.labels, **self.settings)
        return [self._prediction(task, wanted, spec) for task in tasks]

    def _prediction(self, task: Mapping[str, Any], wanted: Wanted, spec: RunSpec) -> dict[str, Any]:
        try:
            image = self._image(task, wanted.image_key)
        except (OSError, ValueError, KeyError) as error:
            log.error("task %s has no image: %s", task.get("id"), error)
            regions: list[LabelledRegion] = []
            result: list[dict[str, Any]] = []
        else:
            regions = labelled_regions(segment(image, spec))
            result = [one for region in regions for one in region_results(region, image.shape[:2], wanted)]
        pixels = sum(region.area for region in regions)
        score = sum(region.area * region.evidence.score for region in regions) / pixels if pixels else 0.0
        return {"model_version": _version(spec), "score": score, "result": result}

    def _image(self, task: Mapping[str, Any], key: str) -> NDArray[np.uint8]:
        """Fetched by the SDK: an upload, local or cloud storage, a URL. 1.x is told host and token by Label Studio."""
        path = get_local_path(
            task["data"][key],
            hostname=getattr(self, "hostname", None),
            access_token=getattr(self, "access_token", None),
            task_id=task.get("id"),
        )
        return read_image(path)


def backend(**settings: Any) -> type[EmersegBackend]:
    """EmersegBackend with `settings`, all those of `spec_of` but for labels: `init_app(backend(preset="mini"))`.

    The class itself is set, as label-studio-ml has one server a process, and hands its class to further processes.
    ValueError, in one line, on settings that are wrong.
    """
    spec_of(["anything"], **settings)
    EmersegBackend.settings = settings
    return EmersegBackend


def region_results(region: LabelledRegion, size_hw: tuple[int, ...], wanted: Wanted) -> Iterator[dict[str, Any]]:
    """The results of Label Studio's JSON for a region: a brush, or a polygon for each piece, in percent of the image.

    Evidence stands in the region's notes (`meta.text`).
    """
    evidence = region.evidence
    note = f"share {evidence.share}, margin {evidence.margin}, runner-up {evidence.runner_up or '–'}"
    for value in _values(region, size_hw, wanted.tag):
        yield {
            "id": uuid4().hex[:10],
            "from_name": wanted.from_name,
            "to_name": wanted.to_name,
            "type": wanted.tag.lower(),
            "original_width": size_hw[1],
            "original_height": size_hw[0],
            "image_rotation": 0,
            "value": {**value, _TAGS[wanted.tag]: [wanted.names[region.category_id - 1]]},
            "score": evidence.score,
            "meta": {"text": [note]},
        }


def _values(region: LabelledRegion, size_hw: tuple[int, ...], tag: str) -> Iterator[dict[str, Any]]:
    left, top, width, height = region.box_xywh
    if tag == "BrushLabels":
        whole = np.zeros(size_hw[:2], bool)
        whole[top : top + height, left : left + width] = region.mask
        yield {"format": "rle", "rle": brush_rle(whole)}
    else:
        percent = np.array([100 / size_hw[1], 100 / size_hw[0]])
        for points in side_polygons(region.mask, left, top):
            yield {"points": (np.reshape(points, (-1, 2)) * percent).tolist()}


def _version(spec: RunSpec) -> str:
    """Changes with whatever changes a result: software, preset and its settings, labels."""
    return f"emerseg {own_version()} {spec.preset.name} {spec.hash[:8]}"
