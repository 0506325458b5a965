"""X-AnyLabeling's remote protocol: an image as base64 in, polygons out.

The protocol is that of https://github.com/CVHub520/X-AnyLabeling-Server (0.0.1, docs/router.md), as its client
speaks it (X-AnyLabeling, anylabeling/services/auto_labeling/remote_server.py): GET /v1/models, whose `data` holds a
model by its id; POST /v1/predict with `model`, `image` and `params`; a key in the header `Token`. What it reads of
shapes, `shapes.py` makes.

Different from there: errors have a status of their own, so that the client shows them, and a full queue is 429.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from emerdiff.speed import Speed
from fusion.serve.answers import OUTPUTS
from fusion.serve.errors import RequestError
from fusion.serve.exchange import Exchange
from fusion.serve.fields import image_of, labels_of
from fusion.serve.service import Service
from fusion.serve.shapes import shapes_of
from fusion.step.choices import FuseRule
from ground.choices import Choice
from ovseg.labels import Label

CONFIDENCE = 0.0  # what the client begins with
FINENESS = 10  # of its slider, of 100: epsilon_factor 0.001


def model_id(service: Service) -> str:
    """What its model is called: the preset's name, never the path of a preset's file."""
    return PurePath(service.preset.name).stem


def models_of(service: Service) -> dict[str, Any]:
    """What /v1/models says: for X-AnyLabeling `success` and `data`, for others settings and limits as well."""
    return {
        "success": True,
        "data": {model_id(service): _model(service)},
        "limits": asdict(service.limits),
        "outputs": list(OUTPUTS),
    }


def add_paths(app: FastAPI, service: Service) -> None:
    """The protocol's paths, but for /health, which the app has already."""

    @app.get("/v1/models", summary="The preset that is loaded, its settings, and the limits of requests.")
    async def models() -> JSONResponse:
        return JSONResponse(models_of(service))

    @app.get("/v1/models/{name}/info", summary="The same of one model, for X-AnyLabeling.")
    async def info(name: str) -> JSONResponse:
        _check_model(service, name)
        return JSONResponse({"success": True, "data": {"model_id": name, **_model(service)}})

    @app.post("/v1/predict", summary="X-AnyLabeling: an image as base64 in, polygons out.", openapi_extra=_BODY)
    async def predict(request: Request) -> JSONResponse:
        exchange = Exchange(request, service)
        body = await exchange.json()
        _check_model(service, body.get("model"))
        params = body.get("params") or {}
        if not isinstance(params, Mapping):
            raise ValueError(f"params is {type(params).__name__}, expected an object")
        confidence, epsilon = _share(params, "conf_threshold"), _share(params, "epsilon_factor")
        image = image_of("image", body.get("image"))
        spec = service.spec(_labels(params.get("text_prompt")))
        answer = await exchange.result(service.segment(image, spec, exchange.name))
        shapes = await run_in_threadpool(shapes_of, answer, confidence, epsilon)
        return JSONResponse({"success": True, "data": {"shapes": shapes, "description": ""}})


def _model(service: Service) -> dict[str, Any]:
    """A model as X-AnyLabeling lists it, with what other clients may set."""
    preset, labels = service.preset, service.labels
    run = [{"name": "button_run", "value": None}] if labels else []
    return {
        "display_name": f"emerseg {model_id(service)}",
        "batch_processing_mode": "default" if labels else "text_prompt",
        "widgets": [
            *run,
            {"name": "edit_text", "value": None},
            {"name": "button_send", "value": None},
            {"name": "input_conf", "value": None},
            {"name": "edit_conf", "value": CONFIDENCE},
            {"name": "mask_fineness_slider", "value": FINENESS},
            {"name": "mask_fineness_value_label", "value": None},
            {"name": "toggle_preserve_existing_annotations", "value": False},
        ],
        "params": {
            "description": preset.description,
            "masks": str(service.masks),
            "speed": preset.emerdiff.speed,
            "clusters": preset.emerdiff.clusters,
            "clip": preset.ovseg.dense,
            **asdict(preset.fusion),
        },
        "labels": [label.name for label in labels],
        "background": [str(label).strip() for label in service.background],
        "choices": {"masks": list(service.sources), "speed": _values(Speed), "fuse": _values(FuseRule)},
    }


def _values(kind: type[Choice]) -> list[str]:
    return list(kind.values())


def _check_model(service: Service, name: object) -> None:
    if name != model_id(service):
        known = model_id(service)
        raise RequestError(404, "MODEL_NOT_FOUND", f"model is {str(name)[:60]!r}, expected {known!r}, which is loaded")


def _labels(prompt: object) -> list[str | Label] | None:
    """The labels of a text field: separated by commas or, where there is none, by points."""
    if prompt is None or prompt == "":
        return None
    if not isinstance(prompt, str):
        raise ValueError(f"text_prompt is {type(prompt).__name__}, expected text")
    if "," not in prompt:
        prompt = ",".join(part for part in prompt.split(".") if part.strip())
    return labels_of("text_prompt", prompt)


def _share(params: Mapping[str, Any], name: str) -> float:
    value = params.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {str(value)[:60]}, expected a number from 0 to 1")
    return float(value)


_PARAMS = {
    "text_prompt": {"type": "string", "description": "Labels, separated by commas."},
    "conf_threshold": {"type": "number", "minimum": 0, "maximum": 1},
    "epsilon_factor": {"type": "number", "minimum": 0, "maximum": 1},
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "image"],
                    "properties": {
                        "model": {"type": "string"},
                        "image": {"type": "string", "description": "Base64 of an image file, or a data URI."},
                        "params": {"type": "object", "properties": _PARAMS},
                    },
                }
            }
        },
    }
}
