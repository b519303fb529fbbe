"""The method of a comparison in words, and the facts needed to repeat it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphloss.research.bench import tables
from graphloss.research.bench.cell import NEIGHBORS
from graphloss.research.bench.grid import NO_MODE, RESERVED, UNTOUCHED, owners
from graphloss.research.bench.summary import place
from graphloss.training.settings import LOSSES
from graphloss.training.size_defaults import format_graphs

Cell = Mapping[str, Any]

HOW = (
    "All losses of a draw are trained on the same documents for the same number of steps, in batches of the same size, "
    "without early stopping; the best epoch is chosen by the same rule on the validation documents. Each seed has its "
    "own draw of labels, validation documents and batches. The head is the classifier of the model (standalone and "
    "untouched: a linear probe); the probe is a logistic regression on the embeddings of the labeled training "
    f"documents; kNN uses the {NEIGHBORS} most similar of them by cosine, weighted by 1 / distance. Scores are means "
    "over the seeds ± half of their 95% t interval; differences are paired by seed. Epochs and seconds to 99%: until "
    "validation macro-F1 reached 99% of its best, in seconds of training only, without evaluation or checkpoints; on "
    "a CPU in processor seconds, which other work on the machine does not change."
)


def facts_of(cells: Sequence[Cell]) -> dict[str, str]:
    """The facts needed to repeat it: documents, shared settings, versions, machines."""
    trained = [cell for cell in cells if cell["loss"] != UNTOUCHED] or list(cells)
    facts: dict[str, str] = {}
    for group, mine in groups_of(trained).items():
        one = mine[0]
        sizes = one["sizes"]
        labeled, held, classes = sizes["labeled"], sizes["validation"], sizes["classes"]
        steps = ""
        if one["epochs"]:
            graphs = format_graphs(one.get("graph_size", one["batch_size"]), one["batch_size"])
            steps = f"{one['epochs']} epochs of {one['steps_an_epoch']} steps, {graphs}; "
        facts[tables.group_name(*group)] = (
            f"{classes} classes; {labeled:,} labeled documents, {held:,} for validation; {steps}"
            f"{one['documents']:,} {one['split']} documents scored"
        )
    all_settings = [cell["asked"] for cell in trained]
    first = all_settings[0]
    shared = {name: value for name, value in first.items() if not owners(name) and name not in (*RESERVED, "model")}
    shared = {name: value for name, value in shared.items() if _alike(all_settings, name)}
    facts["settings of all"] = format_settings(shared)
    for loss in dict.fromkeys(cell["loss"] for cell in trained):
        mine = [one for one in all_settings if one["loss"] == loss]
        if own := {name: mine[0][name] for name in LOSSES.get(loss, ()) if name in mine[0] and _alike(mine, name)}:
            facts[f"settings of {tables.arm_name(loss, NO_MODE)}"] = format_settings(own)
    if any("default" in cell["scores"] for cell in trained):
        facts["default"] = "the predictions of `graphloss predict`, by the predictor in the settings"
    facts["encoder"] = Path(first.get("model") or "all-MiniLM-L6-v2").name
    if any(cell.get("tuned") for cell in trained):
        facts["tuned"] = "; ".join(
            dict.fromkeys(
                f"{tables.group_name(cell['data'], cell['shots'])}, {tables.arm_name(cell['loss'], cell['mode'])}: "
                + format_settings(cell["tuned"])
                for cell in trained
                if cell.get("tuned")
            )
        )
    for name, key in (("versions", "versions"), ("machine", "environment")):
        kinds = dict.fromkeys(", ".join(f"{k} {v}" for k, v in cell[key].items()) for cell in cells)
        facts[name] = " — ".join(kinds)
    return facts


def groups_of(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """(data, shots) -> its cells: the untouched encoder, cross-entropy, then mode by mode."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell["data"], cell["shots"]), []).append(cell)
    return {key: sorted(mine, key=lambda cell: place((cell["loss"], cell["mode"]))) for key, mine in groups.items()}


def _alike(settings: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(one.get(name) == settings[0].get(name) for one in settings)


def format_settings(settings: Mapping[str, Any]) -> str:
    """Settings in one line, without those that are not set."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings.items()
        if value is not None
    )
