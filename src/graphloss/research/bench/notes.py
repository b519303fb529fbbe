"""How a comparison was made, in words: what every reader of its figures ought to know, and what repeats it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphloss.research.bench import tables
from graphloss.research.bench.cell import NEIGHBORS
from graphloss.research.bench.grid import BASELINE, NO_MODE, RESERVED, UNTOUCHED, owners
from graphloss.training.settings import LOSSES
from graphloss.training.sizes import format_graphs

Cell = Mapping[str, Any]

HOW = (
    "Every loss of a draw learns from the same documents for the same number of steps, in batches of the same size; "
    "nothing stops early, and the best epoch is chosen by the same rule on the validation documents. Each seed draws "
    "labels, validation documents and batches anew. The head is the classifier that a model comes with (standalone and "
    "untouched: a linear probe); the probe is a logistic regression on the embeddings of the labeled training "
    f"documents; kNN takes the {NEIGHBORS} most similar of them by cosine, weighted by 1 / distance. Scores are means "
    "over the seeds ± half of their 95% t interval; differences are paired by seed. Epochs and seconds to 99%: until "
    "validation macro-F1 reached 99% of its best, in seconds of training alone, without evaluation or writing; on "
    "a CPU they are seconds of the processor, which other work on the machine does not lengthen."
)


def facts_of(cells: Sequence[Cell]) -> dict[str, str]:
    """What is needed to repeat it: documents, settings that all share, versions, machines."""
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
    asked = [cell["asked"] for cell in trained]
    shared = {name: value for name, value in asked[0].items() if not owners(name) and name not in (*RESERVED, "model")}
    facts["settings of all"] = said({name: value for name, value in shared.items() if _alike(asked, name)})
    for loss in dict.fromkeys(cell["loss"] for cell in trained):
        mine = [one for one in asked if one["loss"] == loss]
        if own := {name: mine[0][name] for name in LOSSES.get(loss, ()) if name in mine[0] and _alike(mine, name)}:
            facts[f"settings of {tables.arm_name(loss, NO_MODE)}"] = said(own)
    if any("default" in cell["scores"] for cell in trained):
        facts["default"] = "the model as `graphloss predict` answers, by the predictor of its settings"
    facts["encoder"] = Path(asked[0].get("model") or "all-MiniLM-L6-v2").name
    if any(cell.get("tuned") for cell in trained):
        facts["tuned"] = "; ".join(
            dict.fromkeys(
                f"{tables.group_name(cell['data'], cell['shots'])}, {tables.arm_name(cell['loss'], cell['mode'])}: "
                + said(cell["tuned"])
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
    order = {UNTOUCHED: 0, BASELINE: 1}
    return {
        key: sorted(mine, key=lambda cell: (order.get(cell["loss"], 2), cell["mode"])) for key, mine in groups.items()
    }


def _alike(settings: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(one.get(name) == settings[0].get(name) for one in settings)


def said(settings: Mapping[str, Any]) -> str:
    """Settings in one line, without those that are not set."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings.items()
        if value is not None
    )
