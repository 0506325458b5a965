"""X-AnyLabeling's remote protocol: an image as base64 in, polygons out.

The protocol is that of https://github.com/CVHub520/X-AnyLabeling-Server (0.0.1, docs/router.md), as its client
speaks it (X-AnyLabeling, anylabeling/services/auto_labeling/remote_server.py): GET /v1/models, whose `data` holds a
model by its id; POST /v1/predict with `model`, `image` and `params`; a key in the header `Token`. The client reads
`data.shapes`, closes a polygon where its first point comes again, and fills it by OpenCV when it exports: so polygons
run through the centres of pixels, and with `epsilon_factor` 0 they are exact.

Different from there: errors have a status of their own, so that the client shows them, and a full queue is 429.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

import cv2
import numpy as np
from fastapi import FastAPI, Request
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from emerdiff.speed import Speed
from fusion.formats import coco
from fusion.formats.polygons import center_polygons, region_polygons
from fusion.formats.schema import Polygon
from fusion.serve.answers import OUTPUTS
from fusion.serve.errors import RequestError
from fusion.serve.exchange import Exchange
from fusion.serve.fields import image_of, labels_of
from fusion.serve.service import Answer, Service
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


def shapes_of(answer: Answer, confidence: float = 0.0, epsilon_factor: float = 0.0) -> list[dict[str, Any]]:
    """A polygon for each piece of each region whose score is at least `confidence`, its first point again at its end.

    `epsilon_factor` of its length is how far a polygon may leave the pixels' centres. Pieces of one region have its
    number as their `group_id`. A piece that has no area as a polygon is left out.
    """
    regions, id_map = coco.regions(answer.result)
    shapes = []
    for number, (region, pieces) in enumerate(
        zip(regions, region_polygons(regions, id_map, center_polygons), strict=True), start=1
    ):
        if region.evidence.score < confidence:
            continue
        rings = [ring for piece in pieces if (ring := _ring(piece, epsilon_factor))]
        label = answer.result.labels[region.category_id - 1].name
        shapes += [_shape(label, ring, region.evidence.score, number if len(rings) > 1 else None) for ring in rings]
    return shapes


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


def _ring(polygon: Polygon, epsilon_factor: float) -> list[list[float]] | None:
    """The points of a polygon, closed; None if fewer than three differ. Its first point comes in it only once."""
    points: NDArray[Any] = np.array(polygon, np.float32).reshape(-1, 2)
    if epsilon_factor > 0:
        points = cv2.approxPolyDP(points, epsilon_factor * cv2.arcLength(points, True), True).reshape(-1, 2)
    found: list[tuple[float, float]] = [(float(x), float(y)) for x, y in points]
    if len(set(found)) < 3:
        return None
    # The client drops the first point wherever it comes again, as where a hole is joined to the outline.
    times = Counter(found)
    start = next((index for index, point in enumerate(found) if times[point] == 1), 0)
    ring = found[start:] + found[:start]
    return [list(point) for point in (*ring, ring[0])]


def _shape(label: str, ring: list[list[float]], score: float, group: int | None) -> dict[str, Any]:
    return {
        "label": label,
        "shape_type": "polygon",
        "points": ring,
        "score": score,
        "attributes": {},
        "description": None,
        "difficult": False,
        "direction": 0,
        "flags": None,
        "group_id": group,
        "kie_linking": [],
    }


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
