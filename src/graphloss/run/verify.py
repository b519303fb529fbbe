"""Whether a run folder is complete and unchanged, and what is wrong with it if not."""

from __future__ import annotations

from pathlib import Path

from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.training.settings import TrainSettings
from graphloss.training.settings_errors import make


def verify(folder: Path, *, seal: bool = False) -> list[str]:
    """All that is wrong with a finished run, one line each; an empty list where it is whole.

    With `seal`, its files are recorded as they are now; an InputError where it could not be used even so.
    """
    if seal:
        run_folder.seal(folder)
    try:
        info = run_folder.checked_info(folder) if seal else run_folder.finished_info(folder)
        wrong = run_folder.faults(folder, info)
        if not wrong:
            run_folder.read_predictor(folder, info)
        make(TrainSettings, info["settings"])
    except InputError as error:
        if seal:
            raise
        return [str(error)]
    return wrong
