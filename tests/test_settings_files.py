"""Every settings file is read right or refused at once, in one message: the kinds of `settings_files`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from conftest import documented
from settings_files import Case, all_cases

from graphloss.errors import InputError
from graphloss.training.settings_errors import read_file

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_settings_file_is_read_or_refused(case: Case, tmp_path: Path) -> None:
    file = tmp_path / f"settings{case.suffix}"
    file.write_bytes(case.content)
    began = time.process_time()
    if isinstance(case.outcome, dict):
        data, settings = read_file(file)
        assert data | settings == case.outcome
    else:
        with pytest.raises(InputError) as refused:
            read_file(file)
        assert case.outcome in str(refused.value) and str(file) in str(refused.value)
        assert len(str(refused.value)) < 3_000
    assert time.process_time() - began < 5


def test_there_are_many_kinds() -> None:
    assert len(CASES) == documented("settings_files.py") and len({case.name for case in CASES}) == len(CASES)
