"""Validation of settings from keywords, options, a settings file (TOML, YAML or JSON, read here) and the tuner.

An unknown name is an error, and all errors are reported at once.
"""

import difflib
from dataclasses import Field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, get_args

from graphloss.disk import typed
from graphloss.errors import InputError
from graphloss.inference.predictor_names import PREDICTORS
from graphloss.text.data_sources import goes_by_name
from graphloss.text.parsing.character_encodings import file_lines
from graphloss.text.parsing.toml_yaml_json import pairs
from graphloss.training.settings import FILES, DataSettings, TrainSettings, names

LARGEST = 100_000
"""Bytes of a settings file; all settings take a tenth of it."""

S = TypeVar("S", DataSettings, TrainSettings)


def problems(settings_class: type, values: dict[str, Any]) -> list[str]:
    """All errors of these values, a sentence each: unknown names, wrong types, values outside the choices or bounds."""
    available = {item.name: item for item in fields(settings_class)}
    found = (
        _error(available[name], value) if name in available else unknown(name, list(available))
        for name, value in values.items()
    )
    return [error for error in found if error]


def unknown(name: str, available: list[str]) -> str:
    """Error message for a setting that does not exist, with the most similar one that does."""
    near = [
        other for other in difflib.get_close_matches(name.replace("-", "_").lower(), available, n=1) if other != name
    ]
    hint = f": did you mean '{near[0]}'?" if near else f"; there are {', '.join(available)}"
    return f"unknown setting '{name}'{hint}"


def make(settings_class: type[S], values: dict[str, Any]) -> S:
    """Build settings from a mapping, reporting all errors at once.

    Raises:
        InputError: a name is unknown or a value is invalid; the message lists all of them.
    """
    if found := problems(settings_class, values):
        raise InputError("the settings cannot be used:\n" + "\n".join(f"  - {line}" for line in found))
    numbers = {item.name for item in fields(settings_class) if float in types_of(item)}
    typed: dict[str, Any] = {name: _plain(value, real=name in numbers) for name, value in values.items()}
    return settings_class(**typed)


def check_predictor(kind: str | None) -> None:
    """Refuse an unknown predictor before a model is loaded; None is the predictor of the run."""
    if kind is not None and kind not in PREDICTORS:
        raise InputError(f"--predictor: expected one of {', '.join(PREDICTORS)}, got '{kind}'")


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a TOML, YAML or JSON file of settings, flat: the same names as the options of `graphloss train`.

    Returns:
        The values for `DataSettings` and those for `TrainSettings`, checked; all invalid ones are listed.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the settings file in it")
    if not path.is_file():
        raise InputError(f"{path}: no such settings file; write one in TOML, YAML or JSON, for example `epochs = 5`")
    if (size := path.stat().st_size) > LARGEST:
        raise InputError(f"{path}: {size:,} bytes are no settings; expected names and values, for example `epochs = 5`")
    text = "".join(line for _, line in file_lines(path))
    try:
        found = pairs(text, path.suffix)
    except Exception as error:  # each library has its own errors
        kind, reason = path.suffix[1:].upper() or "a settings file", " ".join(str(error).split())
        raise InputError(f"{path}: not readable as {kind}: {reason}") from error
    if not isinstance(found, list) or not all(isinstance(pair, tuple) for pair in found):
        raise InputError(f"{path}: expected names and values, for example `epochs = 5`, got {type(found).__name__}")
    values: dict[str, Any] = {}
    for written, value in found:
        if (name := written.strip().replace("-", "_")) in values:
            raise InputError(f"{path}: {written!r} stands there twice; keep the one that is meant")
        values[name] = _place(value, path) if name in FILES and isinstance(value, str) else value
    data_names, train_names = names(DataSettings), names(TrainSettings)
    data = {name: value for name, value in values.items() if name in data_names}
    train = {name: value for name, value in values.items() if name in train_names}
    wrong = problems(DataSettings, data) + problems(TrainSettings, train)
    wrong += [unknown(name, data_names + train_names) for name in values if name not in data and name not in train]
    if wrong:
        raise InputError(f"{path}: the settings cannot be used:\n" + "\n".join(f"  - {line}" for line in wrong))
    return data, train


def _place(value: str, file: Path) -> str:
    """The file or folder that a settings file names: seen from the settings file, or from the working folder."""
    places = () if goes_by_name(value) else (typed(value), file.parent / typed(value))
    found = {place.resolve(): str(place) for place in places if place.exists()}
    if len(found) == 2:
        raise InputError(f"{file}: {value!r} may be {' or '.join(map(str, found))}; write the whole path of one")
    return next(iter(found.values()), value)


def types_of(item: Field[Any]) -> tuple[Any, ...]:
    """The types that the value of a setting may have."""
    return get_args(item.type) or (item.type,)


def _plain(value: Any, *, real: bool) -> Any:
    """A Python number in place of numpy's, and a float if the setting is one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return float(value) if real or not isinstance(value, Integral) else int(value)


def _error(item: Field[Any], value: Any) -> str | None:
    allowed, bounds = types_of(item), item.metadata
    if value is None and type(None) in allowed:
        return None
    is_number = isinstance(value, Real) and not isinstance(value, bool)  # numpy's too, as from a random search
    fits = (
        (bool in allowed and isinstance(value, bool))
        or (float in allowed and is_number)
        or (int in allowed and is_number and isinstance(value, Integral))
        or (str in allowed and isinstance(value, str) and (not bounds["choices"] or value in bounds["choices"]))
    )
    if not fits:
        return f"{item.name}: expected {_expected(item, allowed)}, got {value!r}"
    if is_number:
        for text, bad in (
            (f"at least {bounds['least']}", bounds["least"] is not None and value < bounds["least"]),
            (f"at most {bounds['most']}", bounds["most"] is not None and value > bounds["most"]),
            (f"above {bounds['above']}", bounds["above"] is not None and value <= bounds["above"]),
            (f"below {bounds['below']}", bounds["below"] is not None and value >= bounds["below"]),
            ("a finite number", value != value or value in (float("inf"), float("-inf"))),
        ):
            if bad:
                return f"{item.name}: expected {text}, got {value!r}"
    return None


def _expected(item: Field[Any], allowed: tuple[Any, ...]) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    expected = [words[kind] for kind in allowed if kind in words and not (kind is str and item.metadata["choices"])]
    if item.metadata["choices"]:
        expected.append("one of " + ", ".join(item.metadata["choices"]))
    return " or ".join(expected)
