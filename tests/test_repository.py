"""What the files about the project say of it: the dependency bounds and the citation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from ground.presets import list_presets, read_section
from ground.weights import RESEARCH

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
# They judge the code and do not run it, and they give other answers in other versions.
NOT_RUN = {"ruff", "mypy", "types-PyYAML"}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_lowest_versions_are_the_lower_bounds(project):
    """Of every dependency, and of nothing else."""
    pins = {}
    for line in (ROOT / "tests/lowest.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            pins[name] = Version(version)
    requirements = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]
    requirements = [requirement for requirement in requirements if requirement.name not in NOT_RUN]
    assert [requirement.name for requirement in requirements] == list(pins)
    for requirement in requirements:
        (bound,) = (Version(part.version) for part in requirement.specifier if part.operator == ">=")
        pin = pins[requirement.name]
        assert pin in requirement.specifier and pin.release[: len(bound.release)] == bound.release, requirement


def test_the_citation_is_of_this_version(project):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {key: citation[key] for key in ("version", "license")} == {
        key: project[key] for key in ("version", "license")
    }
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]


def test_the_wheel_leaves_out_what_learned_from_images_for_research_and_nothing_else():
    """Of all folders of weights; the other presets need none of these."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert wheel["exclude"] == [f"{package}/weights/{RESEARCH}" for package in ("emerdiff", "ovseg")]
    for name in list_presets():
        models = [
            read_section(name, "emerdiff")["model"],
            *(read_section(name, "ovseg").get(key) for key in ("model", "overlay")),
        ]
        assert (f"builtin:{RESEARCH}" in models) == (name == "mini-research")
        assert ("research" in str([read_section(name, part)["license"] for part in ("emerdiff", "ovseg")])) == (
            name == "mini-research"
        )


def test_configs_of_weights_name_no_place_of_a_machine():
    configs = [path for package in ("emerdiff", "ovseg") for path in (ROOT / package / "weights").rglob("*.json")]
    named = [json.loads(path.read_text(encoding="utf-8")) for path in configs if path.name == "config.json"]
    assert named and not any(str(config.get("_name_or_path", "")).startswith(("/", "~", ".")) for config in named)
