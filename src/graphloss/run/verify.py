"""Whether a run folder is complete and unchanged, and what is wrong with it if not."""

from pathlib import Path

from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.report.page import read_lines
from graphloss.report.predictions import read_documents
from graphloss.training.settings import TrainSettings
from graphloss.training.settings_errors import make


def verify(folder: Path, *, seal: bool = False) -> list[str]:
    """All that is wrong with a finished run, one line each; an empty list where it is whole.

    With `seal`, its files are recorded as they are now; an InputError where it could not be used even so.
    """
    try:
        if seal:
            _read_what_is_reported(folder)
            run_folder.seal(folder)
        info = run_folder.finished_info(folder)
        if wrong := run_folder.faults(folder, info):
            return wrong
        run_folder.read_model(folder)
        _read_what_is_reported(folder)
        make(TrainSettings, info["settings"])
    except InputError as error:
        if seal:
            raise
        return [str(error)]
    return []


def _read_what_is_reported(folder: Path) -> None:
    """Refuse what `report` could not read; a saved classifier has neither predictions nor, perhaps, evaluations."""
    read_lines(folder / run_folder.METRICS)
    if (path := folder / run_folder.PREDICTIONS).exists():
        read_documents(path)
