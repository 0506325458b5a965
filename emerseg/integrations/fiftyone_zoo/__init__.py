"""A source of FiftyOne zoo models: what FiftyOne calls to download and load a model, and to ask for its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emerseg.integrations.fiftyone import EmersegModel


def download_model(model_name: str, model_path: str) -> None:
    """Fetch the weights of the preset, into the cache that all of emerseg uses; `model_path` says that they are there.

    The weights of `emerseg-mini` and `emerseg-toy` are in the package.
    """
    from fusion.models.load import download_weights
    from fusion.models.presets import load_preset

    download_weights(load_preset(_preset(model_name)))
    Path(model_path).write_text("the weights are in the cache of huggingface_hub, or in emerseg itself\n")


def load_model(model_name: str, model_path: str, labels: str = "", **settings: Any) -> EmersegModel:
    """The model of a preset for `labels`; further `settings` as for `emerseg.integrations.fiftyone.model_of`."""
    if not labels:
        raise ValueError(f'{model_name} has no labels: load_zoo_model("{model_name}", labels="cat, grass, sky")')
    from emerseg.integrations.fiftyone import model_of

    return model_of(labels, **{"preset": _preset(model_name), **settings})


def resolve_input(model_name: str, ctx: Any) -> Any:
    """The form that the app shows before it applies the model."""
    from fiftyone.operators import types

    from emerdiff.speed import Speed
    from emerseg.integrations.fiftyone import Output

    form = types.Object()
    form.str("labels", required=True, label="Labels", description="cat, grass, sky [stuff]; or a label file")
    form.str("background", label="Background", description='labels that become other, "auto" for usual surroundings')
    form.enum("speed", [str(value) for value in Speed.values()], label="Speed", description="empty: the preset's")
    form.enum("output", [str(value) for value in Output.values()], default="detections", label="Output")
    return types.Property(form)


def parse_parameters(model_name: str, ctx: Any, params: dict[str, Any]) -> None:
    """Leave out what the form left empty, in place."""
    for name in [name for name, value in params.items() if value in ("", None)]:
        del params[name]


def _preset(model_name: str) -> str:
    return model_name.removeprefix("emerseg-")
