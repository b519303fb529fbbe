"""The oldest versions that `pyproject.toml` allows, as constraints for pip: `python tests/oldest.py > oldest.txt`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def oldest(extras: tuple[str, ...] = ("encoder", "dev")) -> list[str]:
    """`name==version` for each dependency of the package and of these extras, at its lower bound."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    found = {}
    for line in needed:
        parts = re.fullmatch(r"([\w.-]+)(\[[\w,]+\])?>=([\w.]+)", line)
        assert parts is not None, f"{line!r}: expected a lower bound and nothing else"
        found[parts[1]] = f"{parts[1]}=={parts[3]}"
    return sorted(found.values())


if __name__ == "__main__":
    print("\n".join(oldest()))
