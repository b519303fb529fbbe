"""What is installed: every package, needed by whatever, has one exact version, and each bound is below it."""

from __future__ import annotations

import itertools
import os
import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version

import pytest
from oldest import PROJECT, oldest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

AGE = os.environ.get("GRAPHLOSS_COMPAT", "")
"""In an environment of `make compat`: oldest or newest."""

MACHINES = [
    {
        "sys_platform": system,
        "platform_system": name,
        "platform_machine": machine,
        "os_name": kind,
        "python_version": python,
    }
    for (system, name, machine, kind), python in itertools.product(
        [
            ("linux", "Linux", "x86_64", "posix"),
            ("linux", "Linux", "aarch64", "posix"),
            ("darwin", "Darwin", "arm64", "posix"),
            ("win32", "Windows", "AMD64", "nt"),
        ],
        ("3.11", "3.12", "3.13", "3.14"),
    )
]


def pins() -> dict[str, str]:
    lines = (PROJECT.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(found), "a line of constraints.txt is no exact version"
    return {canonicalize_name(each[1]): each[2] for each in found if each}


def needed_by(name: str, extra: str) -> list[str]:
    """The requirements of a package that is installed; of graphloss as pyproject.toml has them now."""
    if name == "graphloss":
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        return project["optional-dependencies"][extra] if extra else project["dependencies"]
    try:
        return requires(name) or []
    except PackageNotFoundError:  # of an extra or of a machine that is not here
        return []


@pytest.mark.skipif(AGE != "", reason="an environment of make compat has packages of other versions, on purpose")
def test_constraints_pin_every_package_that_is_installed_with_it() -> None:
    known, seen, missing = pins(), set(), set()
    waiting = [("graphloss", extra) for extra in ("encoder", "tune", "large", "serve", "dev", "docs", "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for requirement in map(Requirement, needed_by(name, extra)):
            marker = requirement.marker
            if marker is None or any(marker.evaluate(machine | {"extra": extra}) for machine in MACHINES):
                own = canonicalize_name(requirement.name)
                missing |= {own} - set(known)
                waiting += [(own, each) for each in ("", *requirement.extras)]
    assert not missing - {"graphloss"}, f"not in constraints.txt: {sorted(missing)}"
    assert len({name for name, _ in seen}) >= 75


def test_every_dependency_is_installed_as_this_environment_says() -> None:
    bounds, numbers = [line.split("==") for line in oldest()], pins()
    for name, bound in bounds:
        here, pinned = Version(Version(version(name)).public), Version(numbers[canonicalize_name(name)])
        assert pinned >= Version(bound), f"{name}: constraints.txt has {pinned}, and the lower bound is {bound}"
        wanted = {"oldest": here == Version(bound), "newest": here >= pinned}.get(AGE, here == pinned)
        assert wanted, f"{name} {here} is installed; the lower bound is {bound}, constraints.txt has {pinned}"
    assert len(bounds) >= 20
