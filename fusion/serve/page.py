"""What the paths take, as OpenAPI, and a page of it for people that needs no script and no other server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fusion.serve.answers import OUTPUTS
from fusion.serve.fields import Field

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #1b1d22; }
h2 { margin-top: 2.2rem; font-size: 1.1rem; } code, pre { font-size: .92em; background: #f1f2f4; }
pre { padding: .8rem; overflow-x: auto; }
td, th { padding: .2rem .9rem .2rem 0; vertical-align: top; text-align: left; }
"""
_EXAMPLE = 'curl -F image=@photo.jpg -F "labels=dog, grass, sky" http://127.0.0.1:8000/v1/segment'


def described(fields: Mapping[str, Field], summary: str) -> dict[str, Any]:
    """Arguments of a path of FastAPI that takes `fields` as a form or as JSON, and `output` as a query."""
    properties = {name: {**field.schema, "description": field.about} for name, field in fields.items()}
    as_json = {name: {k: v for k, v in schema.items() if v != "binary"} for name, schema in properties.items()}
    required = [name for name in fields if name in ("image", "mask_token")]
    forms = {"multipart/form-data": properties, "application/json": as_json}
    content = {
        kind: {"schema": {"type": "object", "required": required, "properties": of_kind}}
        for kind, of_kind in forms.items()
    }
    answers: dict[str, Any] = {media: {} for media, _ in OUTPUTS.values()}
    return {
        "summary": summary,
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
        "responses": {200: {"description": f"As output says: {', '.join(OUTPUTS)}.", "content": answers}},
    }


def page(openapi: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI document."""
    title = f"{openapi['info']['title']} {openapi['info']['version']}"
    body = "\n".join(
        part
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
        for part in _operation(f"{method.upper()} {path}", operation)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(openapi['info'].get('summary', ''))} "
        f'For programs: <a href="openapi.json">openapi.json</a>.</p><pre>{escape(_EXAMPLE)}</pre>{body}</html>'
    )


def _operation(name: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(name)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"
    rows = [(parameter["name"], f"in the {parameter['in']}") for parameter in operation.get("parameters", ())]
    content = operation.get("requestBody", {}).get("content", {})
    for schema in list(content.values())[:1]:
        rows += [(name, _about(of_field)) for name, of_field in schema["schema"].get("properties", {}).items()]
    if content:
        yield f"<p>{escape(' or '.join(content))}</p>"
    if rows:
        cells = "".join(
            f"<tr><th><code>{escape(name)}</code></th><td>{escape(about)}</td></tr>" for name, about in rows
        )
        yield f"<table>{cells}</table>"


def _about(schema: Mapping[str, Any]) -> str:
    choices = f" One of {', '.join(schema['enum'])}." if "enum" in schema else ""
    inner = f" With {', '.join(schema['properties'])}." if "properties" in schema else ""
    return f"{schema.get('description', '')}{choices}{inner}".strip()
