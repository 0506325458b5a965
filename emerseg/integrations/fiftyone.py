"""FiftyOne: a model for `dataset.apply_model`, `apply_to(dataset, labels)`, and a source of zoo models.

Facts of the interface: `fiftyone.core.models` and `fiftyone.zoo.models` of fiftyone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emerseg.integrations.missing import needs
from emerseg.integrations.regions import LabelledRegion, labelled_regions
from emerseg.integrations.settings import load, segment, spec_of
from fusion.step.segmentation import Segmentation
from ground.choices import Choice
from ground.images import read_image

with needs("fiftyone"):
    import fiftyone as fo
    import fiftyone.core.models as fom

if TYPE_CHECKING:
    from emerseg.integrations.settings import Labels
    from fusion import RunSpec

ZOO_SOURCE = Path(__file__).parent / "fiftyone_zoo"  # manifest.json and __init__.py, as FiftyOne wants a source


class Output(Choice):
    """What is stored of an image."""

    DETECTIONS = "detections"  # a Detection with a mask for each region
    SEGMENTATION = "segmentation"  # a map of category ids, 0 = other
    BOTH = "both"  # fields FIELD_detections and FIELD_segmentation


class EmersegModel(fom.Model, fom.SamplesMixin):
    """An image model of FiftyOne, for one list of labels. Its samples' files are read as `emerseg segment` reads them.

    As an argument of `predict` alone, an array counts as it is.
    """

    media_type = "image"
    ragged_batches = True
    transforms = None
    preprocess = False
    # FiftyOne asks it for thresholds; without one it leaves out what is below them itself.
    config = None

    def __init__(self, spec: RunSpec, output: str = "detections") -> None:
        """`output` is one of Output. Loads the models: WeightsMissing if they are not on this disk."""
        fom.SamplesMixin.__init__(self)
        self.spec = spec
        self.output = Output.of(output, "output")
        load(spec)

    def predict(self, arg: NDArray[np.uint8], sample: Any = None) -> fo.Label | dict[str, fo.Label]:
        """The labels of an image (H, W, 3) uint8, or of the file of `sample`, by `output`."""
        of_file = isinstance(sample, fo.Sample) and sample.media_type == "image"
        image = read_image(sample.filepath) if of_file else np.ascontiguousarray(arg)
        result = segment(image, self.spec)
        if self.output == Output.DETECTIONS:
            return _detections(result)
        if self.output == Output.SEGMENTATION:
            return _segmentation(result)
        return {str(Output.DETECTIONS): _detections(result), str(Output.SEGMENTATION): _segmentation(result)}

    def predict_all(self, args: Any, samples: Any = None) -> list[Any]:
        """`predict` of each."""
        return [self.predict(arg, sample) for arg, sample in zip(args, samples or [None] * len(args), strict=True)]


def model_of(labels: Labels, *, output: str = "detections", **settings: Any) -> EmersegModel:
    """The model for `labels`; `settings` and errors as for `spec_of`, `output` as for EmersegModel."""
    return EmersegModel(spec_of(labels, **settings), output)


def apply_to(
    dataset: fo.core.collections.SampleCollection,
    labels: Labels,
    *,
    field: str = "emerseg",
    output: str = "detections",
    **settings: Any,
) -> None:
    """Label the images of a dataset or view, into `field`: share, margin and runner_up become attributes to filter by.

    `settings` as for `spec_of`, `output` as for EmersegModel; with "both" the fields are FIELD_detections and
    FIELD_segmentation. Names of categories go into the dataset's `mask_targets`. An image that fails ends it.
    """
    model = model_of(labels, output=output, **settings)
    dataset.apply_model(model, label_field=field, skip_failures=False)
    whole = fo.load_dataset(dataset.dataset_name if isinstance(dataset, fo.DatasetView) else dataset.name)
    if model.output != Output.SEGMENTATION:
        whole.add_dynamic_sample_fields()
    if model.output != Output.DETECTIONS:
        name = field if model.output == Output.SEGMENTATION else f"{field}_{Output.SEGMENTATION}"
        targets = {number: label.name for number, label in enumerate(model.spec.labels, start=1)}
        whole.mask_targets[name] = targets
        whole.save()


def add_to_zoo() -> Path:
    """Copy the source of zoo models that ships with emerseg into FiftyOne's folder of them; where it is then.

    After that `foz.load_zoo_model("emerseg-mini", labels="cat, grass")` finds it, without a network.
    """
    folder = Path(fo.config.model_zoo_dir) / "emerseg"
    shutil.copytree(ZOO_SOURCE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _detections(result: Segmentation) -> fo.Detections:
    size_hw = result.size_hw
    return fo.Detections(detections=[_detection(region, size_hw) for region in labelled_regions(result)])


def _detection(region: LabelledRegion, size_hw: tuple[int, int]) -> fo.Detection:
    """Boxes are fractions of the image's size, and masks lie within their box."""
    height, width = size_hw
    left, top, box_width, box_height = region.box_xywh
    evidence = region.evidence
    return fo.Detection(
        label=region.label.name,
        bounding_box=[left / width, top / height, box_width / width, box_height / height],
        mask=region.mask,
        confidence=evidence.score,
        share=evidence.share,
        margin=evidence.margin,
        runner_up=evidence.runner_up,
        stuff=region.label.stuff,
    )


def _segmentation(result: Segmentation) -> fo.Segmentation:
    kind = np.uint8 if len(result.labels) < 256 else np.uint16
    return fo.Segmentation(mask=result.label_map.astype(kind))
