"""The house: who may import whom, read from the source itself, so that a lazy import counts as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("emerdiff", "ovseg", "fusion", "toyworld", "benchmarks", "tests")
MAY_IMPORT = {
    "emerdiff": {"emerdiff"},
    "ovseg": {"ovseg"},
    "fusion": {"emerdiff", "ovseg", "fusion"},
}
# Libraries, and the generator, that only these files may import.
ONLY_IN = {
    "diffusers": {"emerdiff/backbone.py"},
    "transformers": {"emerdiff/backbone.py"},
    "open_clip": {"ovseg/backbone.py"},
    "toyworld": {"fusion/eval_data.py", "fusion/demo.py"},
    "typer": {"fusion/cli/app.py", "fusion/cli/options.py", "fusion/cli/segment.py", "fusion/cli/validate.py"}
    | {"fusion/cli/evaluate.py", "fusion/cli/demo.py"},
}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every absolute module name that the file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: relative imports hide who imports whom"
            yield node.module or ""


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_all_three_packages_are_looked_at():
    assert {name(path).split("/")[0] for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_packages_import_only_whom_they_may(path):
    own = {module.split(".")[0] for module in imports(path)} & set(PACKAGES)
    allowed = MAY_IMPORT[name(path).split("/")[0]] | {
        package for package, files in ONLY_IN.items() if name(path) in files
    }
    assert own <= allowed


@pytest.mark.parametrize("path", FILES, ids=name)
def test_libraries_are_imported_only_where_they_belong(path):
    for module in imports(path):
        files = ONLY_IN.get(module.split(".")[0])
        assert files is None or name(path) in files, f"{module} belongs in {', '.join(sorted(files))}"


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_the_packages_themselves_export_lazily(package):
    body = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")).body
    eager = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in eager}
    assert modules <= {"__future__", "importlib", "typing"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_file_begins_by_saying_which_step_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_library_leaves_printing_to_the_command_line(path):
    if name(path).startswith("fusion/cli/"):
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not any(isinstance(call, ast.Name) and call.id == "print" for call in calls)
