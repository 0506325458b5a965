"""report.html against the records of the images: what the page shows is what they say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from fusion.formats.report import ReportImage, image_lines, label_places
from fusion.formats.schema import REPORT, ImageRecord
from fusion.runs.outputs import output_file
from fusion.validate.faults import Fault, Json, is_there
from fusion.validate.images import by_image
from ground.files import open_own, own_size, read_own

_END = b"</html>"
_STARTS = tuple(f'<script type="application/json" class="{kind}">'.encode() for kind in ("image", "layers"))


def report_faults(output: Path, run: Json, instances: Json) -> Iterator[Fault]:
    """One fault if it does not show every image that is through, in the order of run.json, as its record has it."""
    if not (yield from is_there(output, REPORT)):
        return
    through = [image for image in run["images"] if image["status"] != "pending"]
    expected = _expected_lines(output, run, instances)
    with open_own(output / REPORT) as page:
        page.seek(max(0, own_size(output / REPORT) - 2 * len(_END)))
        if not page.read().rstrip().endswith(_END):
            yield Fault(REPORT, f"is cut: it does not end in {_END.decode()}")
            return
        page.seek(0)
        shown = (line for line in page if line.startswith(_STARTS))
        for place, (found, line) in enumerate(zip_longest(shown, expected)):
            if line is None:
                yield Fault(REPORT, f"shows more images than the {len(through)} that are through")
                return
            if found is None or (line and found != line):
                name = through[place // len(_STARTS)]["name"]
                what = "does not show" if found is None else "shows something else than the record of"
                yield Fault(REPORT, f"{what} image {name}")
                return


def _expected_lines(output: Path, run: Json, instances: Json) -> Iterator[bytes]:
    """The lines about each image; empty ones where its record cannot be read, which is another fault."""
    places = label_places(label["name"] for label in run["labels"])
    ids = {image["file_name"]: image["id"] for image in instances["images"]}
    of_image = by_image(instances["annotations"], instances["annotations"])
    for image in run["images"]:
        if image["status"] == "pending":
            continue
        record, first_id = None, 0
        if image["status"] == "done":
            path = output_file(output, "annotations", image["name"])
            try:
                record = ImageRecord.from_bytes(read_own(path))
            except (OSError, ValueError):
                yield from (b"",) * len(_STARTS)
                continue
            annotations = of_image.get(ids.get(image["file_name"], 0), [])
            first_id = annotations[0]["id"] if annotations else 0
        shown = ReportImage(image["name"], image["file_name"], image["reason"], record, first_id)
        yield from image_lines(shown, places)
