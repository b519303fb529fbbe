"""A few of the kills that `make fuzz` makes many of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_few_kills_lose_nothing_and_leave_the_same_bits() -> None:
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, str(script), "--kills", "3", "--seconds", "240"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    found = re.search(r"(\d+) kills \(.+\), (\d+) faults", done.stdout)
    assert done.returncode == 0 and found, done.stdout + done.stderr
    assert int(found[1]) >= 1 and found[2] == "0"
