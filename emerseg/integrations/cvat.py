"""CVAT: an auto-annotation function, for `cvat-cli task auto-annotate --function-module emerseg.integrations.cvat`.

Facts of the interface: `cvat_sdk.auto_annotation.interface` of cvat-sdk, and CVAT's documentation of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from emerseg.integrations.missing import needs
from emerseg.integrations.regions import LabelledRegion, labelled_regions
from emerseg.integrations.settings import segment, spec_of
from fusion.formats.palette import label_colors
from fusion.formats.polygons import side_polygons

with needs("cvat"):
    import cvat_sdk.auto_annotation as cvataa
    from cvat_sdk.attributes import attribute_vals_from_dict, number_attribute_values
    from cvat_sdk.masks import encode_mask

if TYPE_CHECKING:
    from cvat_sdk import models
    from PIL import Image

    from fusion import RunSpec

# Ids of the attributes, the same for every label.
_SHARE, _MARGIN, _RUNNER_UP = 1, 2, 3


class EmersegFunction:
    """A detection function: `spec` says its labels, `detect` finds them in one image."""

    def __init__(self, spec: RunSpec, *, evidence: bool = False) -> None:
        """`evidence` declares share, margin (whole percent) and runner-up as attributes of every label.

        A task whose labels lack them is refused by `cvat-cli`, unless --allow-unmatched-labels is given.
        """
        self._spec = spec
        self._evidence = evidence

    @cached_property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """One label of type mask for each label; its id is the category id in instances.json."""
        colors = label_colors(self._spec.labels)
        return cvataa.DetectionFunctionSpec(
            labels=[
                cvataa.label_spec(
                    label.name, number, type="mask", color=f"#{bytes(color).hex()}", attributes=self._attributes()
                )
                for number, (label, color) in enumerate(zip(self._spec.labels, colors, strict=True), start=1)
            ]
        )

    def detect(self, context: cvataa.DetectionFunctionContext, image: Image.Image) -> list[models.LabeledShapeRequest]:
        """The regions of `image` whose score reaches `context.conf_threshold`: masks, or polygons if it wants these.

        Polygons go along the sides of pixels, one for each piece of a region.
        """
        threshold = context.conf_threshold or 0
        return [
            shape
            for region in labelled_regions(segment(image, self._spec))
            if region.evidence.score >= threshold
            for shape in self._shapes(region, as_polygons=context.conv_mask_to_poly)
        ]

    def _shapes(self, region: LabelledRegion, *, as_polygons: bool) -> Iterator[models.LabeledShapeRequest]:
        left, top, _, _ = region.box_xywh
        known = {"score": region.evidence.score, "attributes": self._values(region)}
        if as_polygons:
            for points in side_polygons(region.mask, left, top):
                yield cvataa.polygon(region.category_id, points, **known)
        else:
            # The mask within its box, then the box moved to its place in the image.
            *runs, x1, y1, x2, y2 = encode_mask(region.mask)
            yield cvataa.mask(region.category_id, [*runs, x1 + left, y1 + top, x2 + left, y2 + top], **known)

    def _attributes(self) -> list[models.AttributeRequest]:
        if not self._evidence:
            return []
        return [
            cvataa.number_attribute_spec("share", _SHARE, number_attribute_values(0, 100)),
            cvataa.number_attribute_spec("margin", _MARGIN, number_attribute_values(-100, 100)),
            cvataa.text_attribute_spec("runner-up", _RUNNER_UP),
        ]

    def _values(self, region: LabelledRegion) -> list[models.AttributeValRequest]:
        if not self._evidence:
            return []
        evidence = region.evidence
        values = {_SHARE: round(100 * evidence.share), _MARGIN: round(100 * evidence.margin)}
        return attribute_vals_from_dict({**values, _RUNNER_UP: evidence.runner_up or ""})


def create(
    labels: str,
    background: str = "",
    preset: str | Path = "sd15",
    masks: str = "emerdiff",
    speed: str | None = None,
    overrides: str = "",
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    evidence: bool = False,
) -> EmersegFunction:
    """The function that `cvat-cli` calls; parameters by `-p labels=str:"cat, sky [stuff]"`.

    See `spec_of` for the parameters and errors, and `EmersegFunction` for `evidence`. The models are loaded with the
    first image: an agent makes the function twice, in a process that asks for its labels and in one that computes.
    """
    spec = spec_of(
        labels,
        background=background,
        preset=preset,
        masks=masks,
        speed=speed,
        overrides=overrides,
        seed=seed,
        device=device,
        dtype=dtype,
    )
    return EmersegFunction(spec, evidence=evidence)
