"""What is installed: every package, needed by whatever, has one exact version, and each bound is below it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from oldest import oldest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(found), "a line of constraints.txt is no exact version"
    return {canonicalize_name(each[1]): each[2] for each in found if each}


def test_constraints_pin_every_package_that_is_installed_with_it() -> None:
    known, seen, missing = pins(), set(), set()
    waiting = [("graphloss", extra) for extra in ("encoder", "tune", "large", "serve", "dev", "docs", "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            needed = requires(name) or []
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        for line in needed:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                own = canonicalize_name(requirement.name)
                missing |= {own} - set(known)
                waiting += [(own, each) for each in ("", *requirement.extras)]
    assert not missing - {"graphloss"}, f"not in constraints.txt: {sorted(missing)}"
    assert len({name for name, _ in seen}) >= 60


def test_every_dependency_has_a_lower_bound_that_constraints_keep() -> None:
    found = [line.split("==") for line in oldest()]
    numbers = pins()
    for name, bound in found:
        pinned = [int(part) for part in re.findall(r"\d+", numbers[canonicalize_name(name)])[:3]]
        assert pinned >= [int(part) for part in bound.split(".")], name
    assert len(found) >= 20
