"""The page: what of gradio stands where, and what its events do. All that they do is in files that know no gradio."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path, PurePath
from typing import Any

import gradio as gr

from emerdiff.speed import Speed
from fusion.formats.palette import palette
from fusion.runs.search import SUFFIXES
from fusion.serve.line import LineClosed, LineFull
from fusion.serve.service import Service
from fusion.web.desk import Desk, Desks
from fusion.web.export import write_zip
from fusion.web.folder import listed, read_inside
from fusion.web.segmenting import Progress, Upload, segmenting
from fusion.web.view import still_of, view_of
from ground.images import HEIF_SUFFIXES
from ovseg.labels import Label
from ovseg.stuff import USUAL_STUFF

_HERE = Path(__file__).parent
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
FIXED_FONTS = ("ui-monospace", "SFMono-Regular", "Consolas", "monospace")
_PRESET = "as the preset"
_ZIP_SECONDS = 60.0
# A little later: the hidden button has its file only once the page was drawn again.
_CLICK_SAVED = """() => setTimeout(() => {
  const saved = document.querySelector('#saved');
  (saved.querySelector('a, button') || saved).click();
}, 150)"""
_LABEL_FIELD = (
    '<span class="es-field">Labels<small>the square tells thing from stuff</small></span>'
    '<div class="es-chips">'
    '<input type="text" aria-label="Labels" autocomplete="off" spellcheck="false" maxlength="2000"></div>'
)


def theme() -> gr.themes.Base:
    """Fonts of the system alone: others would come from another server."""
    hues = {"primary_hue": "teal", "neutral_hue": "zinc"}
    return gr.themes.Default(font=FONTS, font_mono=FIXED_FONTS, radius_size="md", **hues)


def style() -> str:
    """The page's CSS."""
    return (_HERE / "page.css").read_text(encoding="utf-8")


class Events:
    """What the page's events do, for all users of a service."""

    def __init__(self, service: Service, root: Path | None, folder: Path) -> None:
        self.service = service
        self.root = root  # folder of the server that may be chosen from
        self.folder = folder  # for files to download, which go with it
        self.desks = Desks(int(service.limits.cache_megabytes * 1e6))

    def segment(
        self,
        files: Sequence[str] | None,
        chosen: Sequence[str] | None,
        labels: object,
        background: str,
        speed: str,
        clusters: int,
        margin: float,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """(viewer, status, Segment, Cancel, Download) while images are segmented, and at the end."""
        page = str(request.session_hash)
        cancelled = self.desks.cancelled(page)
        cancelled.clear()
        yield gr.skip(), _status("Reading the images", 0.0), *_buttons(busy=True)
        progress, told, key = None, 0, ""
        try:
            spec = self.service.spec(
                _labels(labels),
                [part for part in background.split(",") if part.strip()],
                speed=None if speed == _PRESET else speed,
                clusters=int(clusters),
                min_margin=float(margin),
            )
            uploads = [*self._uploaded(files or ()), *self._of_folder(chosen or ())]
            for progress in segmenting(self.service, uploads, spec, cancelled):
                viewer = gr.skip()
                if len(progress.desk.works) > told:
                    told = len(progress.desk.works)
                    self.desks.put(page, progress.desk)
                    viewer, key = _viewer(progress.desk, key), progress.desk.work.key
                yield viewer, _status(progress.text, progress.share, progress.failures), *_buttons(busy=True)
            yield gr.skip(), _outcome(progress), *_buttons(ready=told > 0)
        except (ValueError, LineFull, LineClosed) as error:
            yield gr.skip(), _status(failures=[str(error)]), *_buttons(ready=told > 0)

    def cancel(self, request: gr.Request) -> None:
        """Wait no longer."""
        self.desks.cancelled(str(request.session_hash)).set()

    def edit(self, event: gr.EventData, request: gr.Request) -> tuple[Any, str]:
        """(viewer, status) after a correction, or with another image."""
        try:
            wanted = dict(event._data or {})
            desk = self.desks.change(str(request.session_hash), lambda desk: _changed(desk, wanted))
            return _viewer(desk, str(wanted.get("key"))), _status()
        except (ValueError, TypeError) as error:
            return gr.skip(), _status(failures=[str(error)])

    def download(self, request: gr.Request) -> tuple[Any, str]:
        """(the hidden button with the zip, status)."""
        try:
            desk = self.desks.get(str(request.session_hash))
            self._forget_zips()
            path = Path(tempfile.mkdtemp(dir=self.folder), "emerseg.zip")
            write_zip(desk, path)
        except ValueError as error:
            return gr.skip(), _status(failures=[str(error)])
        return gr.DownloadButton(value=str(path)), _status("Saved as emerseg.zip")

    def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self.desks.forget(str(request.session_hash))

    def choices(self) -> Any:
        """The images of the folder, as they are when the page is opened."""
        return gr.Dropdown(choices=listed(self.root))

    def _forget_zips(self) -> None:
        """Delete those that gradio has copied long ago."""
        for path in self.folder.glob("*/emerseg.zip"):
            if time.time() - path.stat().st_mtime > _ZIP_SECONDS:
                shutil.rmtree(path.parent, ignore_errors=True)

    def _uploaded(self, files: Sequence[str]) -> Iterator[Upload]:
        for file in files:
            yield Upload(PurePath(file).name, Path(file).read_bytes())

    def _of_folder(self, names: Sequence[str]) -> Iterator[Upload]:
        for name in names:
            yield Upload(PurePath(name).name, read_inside(self.root, str(name), self.service.limits.max_bytes))


def page(events: Events) -> gr.Blocks:
    """The page."""
    service = events.service
    clusters = service.preset.emerdiff.clusters
    with gr.Blocks(title="emerseg", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as blocks:
        gr.HTML(_header(service), js_on_load=None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320):
                types = sorted({*SUFFIXES, *HEIF_SUFFIXES})
                files = gr.File(file_count="multiple", file_types=types, label="Images", height=170)
                chosen = gr.Dropdown(
                    listed(events.root), multiselect=True, label="Images of the server", visible=events.root is not None
                )
                labels = gr.HTML(
                    [_chip(label) for label in service.labels],
                    html_template=_LABEL_FIELD,
                    js_on_load=_script("labels.js"),
                    apply_default_css=False,
                    colors=["#" + bytes(color).hex() for color in palette(32)],
                    stuff=sorted(USUAL_STUFF),
                    elem_id="labels",
                )
                background = gr.Textbox(
                    ", ".join(str(one) for one in service.background),
                    label="Background",
                    info="Labels that become other; auto: usual surroundings",
                    placeholder="wall, floor",
                    max_length=20_000,
                )
                with gr.Accordion("Settings", open=False):
                    speed = gr.Dropdown([_PRESET, *Speed.values()], value=_PRESET, label="Speed")
                    most = service.limits.max_clusters
                    count = gr.Slider(2, max(most, clusters), clusters, step=1, label="Masks per image (K)")
                    margin = gr.Slider(
                        0, 1, service.preset.fusion.min_margin, step=0.01, label="Smallest margin", info="Else other"
                    )
                with gr.Row():
                    start = gr.Button("Segment", variant="primary", elem_id="segment", min_width=110, scale=2)
                    stop = gr.Button("Cancel", interactive=False, elem_id="cancel", min_width=80, scale=1)
                status = gr.HTML(_status(), elem_classes="es-status", js_on_load=None, elem_id="status")
                save = gr.Button("Download (zip)", interactive=False, elem_id="download")
                saved = gr.DownloadButton("zip", visible="hidden", elem_id="saved")
            with gr.Column(scale=3, min_width=320):
                viewer = gr.HTML(
                    None,
                    html_template=(_HERE / "viewer.html").read_text(encoding="utf-8"),
                    js_on_load=_script("viewer.js"),
                    apply_default_css=False,
                    still=None,
                    elem_id="viewer",
                )
        inputs = [files, chosen, labels, background, speed, count, margin]
        outputs = [viewer, status, start, stop, save]
        # Only what takes long goes through gradio's queue. On a busy machine updates of an event were lost, now and
        # then, if another one was in the queue as it began.
        quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        slow: dict[str, Any] = {**quick, "queue": True, "concurrency_limit": None}
        gr.on([start.click, labels.submit], events.segment, inputs, outputs, **slow)
        stop.click(events.cancel, **quick)
        viewer.edit(events.edit, None, [viewer, status], **quick)
        save.click(events.download, None, [saved, status], **quick).success(None, js=_CLICK_SAVED)
        if events.root is not None:
            blocks.load(events.choices, None, chosen, **quick)
        blocks.unload(events.leave)
    return blocks


def _changed(desk: Desk, wanted: dict[str, Any]) -> Desk:
    """What `viewer.js` asks for. ValueError on anything else."""
    if wanted.get("key") != desk.work.key:
        raise ValueError("the page shows another image by now: try again")
    if "relabel" in wanted:
        label = wanted.get("label")
        if label is not None and not (isinstance(label, str) and len(label) <= 200):
            raise ValueError("the new label is no text of at most 200 letters")
        return desk.relabel(wanted["relabel"], label)
    if "merge" in wanted:
        return desk.merge(wanted["merge"], wanted.get("neighbour", -1))
    if "show" in wanted:
        return desk.show(wanted["show"])
    if "undo" in wanted:
        return desk.undo()
    if "redo" in wanted:
        return desk.redo()
    raise ValueError("nothing is asked for")


def _labels(value: object) -> list[str | Label]:
    """The labels of the field, as `labels.js` holds them."""
    if not isinstance(value, list):
        raise ValueError("no labels: name what to look for")
    return [Label(str(one["name"]), stuff=bool(one["stuff"])) for one in value]


def _chip(label: Label) -> dict[str, Any]:
    return {"name": label.name, "stuff": label.stuff}


def _viewer(desk: Desk, known: str) -> Any:
    """The viewer's update; the image itself only if the page does not have it: it has that of the key `known`."""
    still = {} if desk.work.key == known else {"still": still_of(desk.work)}
    return gr.HTML(value=view_of(desk), **still)


def _buttons(*, busy: bool = False, ready: bool = False) -> tuple[Any, Any, Any]:
    return gr.Button(interactive=not busy), gr.Button(interactive=busy), gr.Button(interactive=ready)


def _outcome(progress: Progress | None) -> str:
    """What to tell at the end."""
    assert progress is not None  # else there was an error
    count = len(progress.desk.works)
    regions = f"{count} of {progress.total} images segmented" if progress.total > 1 or not count else "Segmented"
    text = progress.text if progress.text.startswith("Cancelled") else regions
    return _status(text, failures=progress.failures)


def _status(text: str = "", share: float | None = None, failures: Sequence[str] = ()) -> str:
    """HTML of a line for people."""
    bar = "" if share is None else f'<progress max="1" value="{share:.3f}"></progress>'
    bad = "".join(f'<div class="es-bad" role="alert">{escape(" ".join(one.split()))}</div>' for one in failures)
    return f'<div role="status">{escape(text)}</div>{bar}{bad}'


def _header(service: Service) -> str:
    name, about = PurePath(service.preset.name).stem, service.preset.description
    return f'<div class="es-header"><h1>emerseg</h1><span>preset {escape(name)} · {escape(about)}</span></div>'


def _script(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
