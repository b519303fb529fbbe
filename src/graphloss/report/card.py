"""The model card: README.md of a run folder, Markdown with YAML front matter for model hubs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphloss.inference.description_gate import Gate
from graphloss.report.sections import template
from graphloss.report.tables import headline_note
from graphloss.terminal import counted
from graphloss.training.settings import LOSSES, TrainSettings

LABELS_SHOWN = 100
ALWAYS_SHOWN = ("weight", "sigma", "gamma", "temperature", "margin")
"""Settings of a loss that are shown even if they have their default value."""
BASE = {"base_model": "Base model", "language": "Language", "license": "License of the base model"}
"""What the encoder's own card says of it, where it does."""
SCORES = (
    ("accuracy", "accuracy", "{:.1%}"),
    ("macro_f1", "macro-F1", "{:.1%}"),
    ("ece", "calibration error", "{:.1%}"),
    ("macro_silhouette", "silhouette", "{:.3f}"),
)


def model_card(info: Mapping[str, Any]) -> str:
    """A description of the model, its labels and scores, and how to load it with and without graphloss."""
    import yaml

    metrics, labels = info["metrics"], [str(label) for label in info["labels"]]
    name, encoder = str(info["name"]), str(info.get("encoder", {}).get("name", "unknown"))
    if Path(encoder).is_absolute():  # a published card must not show paths of this machine
        encoder = Path(encoder).name
    measured = [
        {"type": kind, "name": f"{metrics['split']} {title}", "value": round(metrics["model"][key], 4)}
        for key, kind, title in (("accuracy", "accuracy", "accuracy"), ("macro_f1", "f1", "macro-F1"))
        if metrics["model"][key] is not None and metrics["split"] != "cross-fitted"  # which no other model's are like
    ]
    task, data = {"type": "text-classification"}, {"name": name, "type": name}
    base = {key: value for key, value in info.get("encoder", {}).items() if key in BASE}
    front = base | {
        "library_name": "sentence-transformers",
        "pipeline_tag": "text-classification",
        "tags": ["graphloss", "sentence-transformers", "text-classification"],
    }
    if measured:
        front["model-index"] = [{"name": name, "results": [{"task": task, "dataset": data, "metrics": measured}]}]
    sizes, settings = info.get("data", {}).get("sizes", {}), info.get("settings", {})
    trained = f" on {counted(sizes['labeled'], 'labeled document')}" if "labeled" in sizes else ""
    if summary := info.get("self_training"):
        trained += f" and self-trained on {counted(summary['documents'], 'unlabeled document')}"
    own = [
        key
        for key in LOSSES.get(settings.get("loss", ""), ())
        if (key in ALWAYS_SHOWN or settings.get(key) != getattr(TrainSettings, key))
        and not (key == "weight" and settings.get("mode") == "standalone")
    ]
    rows = [
        (
            title,
            *("–" if (value := metrics[who].get(key)) is None else form.format(value) for who in ("probe", "model")),
        )
        for key, title, form in SCORES
    ]
    return template("card.md").render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        name=_inline(name),
        encoder=_inline(encoder),
        trained=trained,
        prediction=_prediction(info.get("predictor", {})),
        no_texts=info.get("data", {}).get("no_texts"),
        origin=_origin(encoder, base),
        count=len(labels),
        labels=", ".join(f"`{_inline(label)}`" for label in labels[:LABELS_SHOWN]),
        more=len(labels) - LABELS_SHOWN,
        described=_described(info.get("described")),
        note=headline_note(metrics, metrics["split"]) if metrics["model"]["accuracy"] is not None else "",
        rows=rows,
        how=", ".join(f"{key} {settings[key]}" for key in ("loss", "mode", *own, "seed") if key in settings),
    )


def _described(described: Mapping[str, Any] | None) -> str:
    if not described:
        return ""
    used = f"{described['lines']:,} lines of description" if described["lines"] else "No line of description"
    return f"{used} took part in the training: {Gate.of(described)}."


def _prediction(predictor: Mapping[str, Any]) -> str:
    """How to compute probabilities from an embedding, without graphloss."""
    head = "`softmax(weight @ embedding + bias)`, with `weight` and `bias` from `head.safetensors`"
    kind, share = predictor.get("kind", "mix"), predictor.get("graph_share", 0.0)
    near = predictor.get("neighbor_weight", 0.0) if kind == "mix" else 0.0
    if kind == "head" or (kind == "mix" and not share and not near):
        return f"The classifier is linear on these unit-length embeddings: {head}."
    unit = "All embeddings have unit length."
    graph = (
        "The graph is the mean label of the training documents in `support.safetensors`"
        f"{', of the ten nearest only' if kind == 'knn' else ''}, weighted by\n"
        f"`softmax(support @ embedding / σ²)` with σ = {predictor['sigma']:.4g}."
    )
    if kind != "mix" or (share == 1 and not near):
        return f"The probabilities are those of the graph.\n{graph} {unit}"
    parts = {"the head": (1 - near) * (1 - share), "the graph": (1 - near) * share, "the neighbors": near}
    *first, last = [f"{part:.3g} of {name}" for name, part in parts.items() if part]
    lines = [f"The probabilities are {', '.join(first)} and {last}. The head is\n{head}."]
    if share:
        lines.append(graph)
    if near:
        from graphloss.inference.graphs.corpus_graph import SIGMA

        lines.append(
            "The neighbors are the ten nearest documents, of `support.safetensors` with their labels and of\n"
            f"`unlabeled.safetensors` with the probabilities of the head, weighted by `softmax(cosine / {SIGMA:g}²)`."
        )
    return "\n".join([*lines, unit])


def _origin(encoder: str, base: Mapping[str, Any]) -> str:
    """Base model, languages and license, as far as known."""
    lines = [
        f"{BASE[key]}: {_inline(', '.join([value] if isinstance(value, str) else value))}"
        for key, value in base.items()
    ]
    missing = [name.lower() for key, name in BASE.items() if key not in base]
    if missing:
        lines.append(f"Unknown: {', '.join(missing)}; see the source of `{_inline(encoder)}`")
    return "\n".join(f"- {line}" for line in lines)


def _inline(text: str) -> str:
    """A text that cannot break out of its line or code span in Markdown."""
    return " ".join(text.replace("`", "'").replace("<", "‹").replace(">", "›").split())
