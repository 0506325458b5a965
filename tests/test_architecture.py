"""The house: who may import whom, read from the source itself, so that a lazy import counts as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Every room, and the rooms that it may import beside itself. Each row names rows above it alone, so that no circle can
# come about between rooms; between files `test_no_file_imports_itself_by_a_detour` forbids it.
MAY_IMPORT: dict[str, set[str]] = {
    "ground": set(),
    "emerdiff": {"ground"},
    "ovseg": {"ground"},
    "fusion/formats": {"ground", "ovseg"},
    "fusion/step": {"ground", "emerdiff", "ovseg", "fusion/formats"},
    "fusion/models": {"ground", "emerdiff", "ovseg", "fusion/step"},
    "fusion/runs": {"ground", "emerdiff", "ovseg", "fusion/formats", "fusion/step", "fusion/models"},
    "fusion/validate": {"ground", "emerdiff", "ovseg", "fusion/formats", "fusion/step", "fusion/runs"},
    "fusion/evaluation": {"ground", "emerdiff", "ovseg"}
    | {f"fusion/{room}" for room in ("formats", "step", "models", "runs")},
    "fusion/serve": {"ground", "emerdiff", "ovseg", "fusion/formats", "fusion/step", "fusion/models", "fusion/runs"},
    "fusion/web": {"ground", "emerdiff", "ovseg"}
    | {f"fusion/{room}" for room in ("formats", "step", "models", "runs", "serve")},
    "fusion/fleet": {"ground", "emerdiff", "ovseg"}
    | {f"fusion/{room}" for room in ("formats", "step", "models", "runs")},
    "training": {"ground", "emerdiff", "ovseg"},
    "training/adapt": {"ground", "emerdiff", "ovseg", "training"}
    | {f"fusion/{room}" for room in ("step", "models", "runs", "evaluation")},
    "fusion/cli": {"ground", "emerdiff", "ovseg", "training/adapt"}
    | {
        f"fusion/{room}"
        for room in ["formats", "step", "models", "runs", "validate", "evaluation", "serve", "web", "fleet"]
    },
    "fusion": {f"fusion/{room}" for room in ("step", "models", "runs")},
    "emerseg": {"emerdiff", "ovseg", "fusion", "fusion/cli"},
    "emerseg/integrations": {"ground", "emerdiff", "ovseg", "fusion", "fusion/cli"}
    | {f"fusion/{room}" for room in ("formats", "step", "models")},
}
INTEGRATIONS = "emerseg/integrations"
# Files that are command lines of developers.
COMMANDS = ("training/whiten.py", "training/rounded.py")
OUTSIDE = ("toyworld", "benchmarks", "tests")
# What is trained are the libraries' own classes.
TRAINERS = {path.relative_to(ROOT).as_posix() for path in (ROOT / "training").rglob("*.py")}
# Libraries, and the generator, that only these files may import.
ONLY_IN = {
    "diffusers": {
        f"emerdiff/backbones/{file}.py" for file in ("parts", "single", "unet", "pixart", "dit", "sd3", "flux")
    }
    | TRAINERS,
    "transformers": {"emerdiff/backbones/texts.py"} | TRAINERS,
    "open_clip": {"ovseg/backbone.py"} | TRAINERS,
    "fastapi": {f"fusion/serve/{file}.py" for file in ("app", "server", "xanylabeling")} | {"fusion/web/app.py"},
    "gradio": {"fusion/web/app.py", "fusion/web/page.py"},
    "uvicorn": {"fusion/serve/server.py"},
    "toyworld": {"fusion/evaluation/datasets/toy.py"} | TRAINERS,
    "typer": {
        f"fusion/cli/{file}.py"
        for file in [
            "app",
            "adapt",
            "options",
            "segment",
            "validate",
            "convert",
            "merge",
            "evaluate",
            "demo",
            "serve",
            "web",
            "batch",
        ]
    },
    "ray": {"fusion/fleet/cluster.py"},
    "fsspec": {"fusion/fleet/store.py"},
    "cvat_sdk": {f"{INTEGRATIONS}/cvat.py"},
    "fiftyone": {f"{INTEGRATIONS}/fiftyone.py", f"{INTEGRATIONS}/fiftyone_zoo/__init__.py"},
    "label_studio_sdk": {f"{INTEGRATIONS}/labelstudio.py"},
    "label_studio_ml": {f"{INTEGRATIONS}/labelstudio.py"},
}
PACKAGES = sorted({room.split("/")[0] for room in MAY_IMPORT})
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}


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


def room(path: Path) -> str:
    """The room that a file stands in: its package, or the folder of it that has a row of its own."""
    parts = path.relative_to(ROOT).parts
    folder = "/".join(parts[:2])
    return folder if folder in MAY_IMPORT else parts[0]


def own_files(path: Path) -> Iterator[Path]:
    """The files of ours that a file imports: `from a import b` is a/b.py if there is one, else a."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [module if module in MODULES else str(node.module) for module in submodules]
        else:
            continue
        yield from (MODULES[module] for module in names if module in MODULES)


def test_every_package_is_looked_at():
    assert {name(path).split("/")[0] for path in FILES} == set(PACKAGES)
    assert {room(path) for path in FILES} == set(MAY_IMPORT)


def test_rooms_stand_on_rooms_below_them():
    rooms = list(MAY_IMPORT)
    for number, (upper, lower) in enumerate(MAY_IMPORT.items()):
        assert lower <= set(rooms[:number]), f"{upper} may import what stands above it"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_import_only_whom_their_room_may(path):
    allowed = {room(path), *MAY_IMPORT[room(path)]}
    assert {room(other) for other in own_files(path)} <= allowed
    outside = {module.split(".")[0] for module in imports(path)} & set(OUTSIDE)
    assert outside <= {package for package, files in ONLY_IN.items() if name(path) in files}


def test_no_file_imports_itself_by_a_detour():
    imported = {path: [other for other in own_files(path) if other != path] for path in FILES}
    cleared: set[Path] = set()

    def follow(path: Path, way: list[Path]) -> None:
        assert path not in way, " → ".join(map(name, [*way[way.index(path) :], path]))
        if path not in cleared:
            for other in imported[path]:
                follow(other, [*way, path])
            cleared.add(path)

    for path in FILES:
        follow(path, [])


@pytest.mark.parametrize("path", FILES, ids=name)
def test_libraries_are_imported_only_where_they_belong(path):
    for module in imports(path):
        files = ONLY_IN.get(module.split(".")[0])
        assert files is None or name(path) in files, f"{module} belongs in {', '.join(sorted(files))}"


@pytest.mark.parametrize("package", ("emerdiff", "ovseg", "fusion", "emerseg"))
def test_the_packages_themselves_export_lazily(package):
    body = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")).body
    eager = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in eager}
    assert modules <= {"__future__", "importlib", "lazy_loader", "typing"}
    # What type checkers see under TYPE_CHECKING is what `dir` and `help` show.
    checked = [node for block in body if isinstance(block, ast.If) for node in block.body]
    names = [alias.name for node in checked if isinstance(node, ast.ImportFrom) for alias in node.names]
    module = import_module(package)
    assert sorted(names) == sorted(module.__all__) == sorted(dir(module))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_file_begins_by_saying_which_step_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_library_leaves_printing_to_the_command_line(path):
    if name(path).startswith("fusion/cli/") or name(path) in COMMANDS:
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not any(isinstance(call, ast.Name) and call.id == "print" for call in calls)
