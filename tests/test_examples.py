"""The notebook runs from the first cell to the last, and shows what it says."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
import pytest_socket
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples/quickstart.ipynb"


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
@pytest.mark.weights
def test_the_notebook_runs(tmp_path):
    # The kernel is a process on this machine that is talked to by sockets.
    pytest_socket.enable_socket()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    coco = json.loads((tmp_path / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert set(names.values()) == {"cat", "wall", "blanket"}
    areas = dict.fromkeys(names.values(), 0)
    for annotation in coco["annotations"]:
        areas[names[annotation["category_id"]]] += annotation["area"]
    assert max(areas, key=areas.__getitem__) == "cat"
