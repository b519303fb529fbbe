"""The model card: README.md of a run folder, Markdown with YAML front matter for model hubs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphloss.inference.description_gate import Gate
from graphloss.inference.metrics import format_intervals
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
    split = str(metrics["split"])
    measured = [
        {"type": kind, "name": f"{split} {title}", "value": round(metrics["model"][key], 4)}
        for key, kind, title in (("accuracy", "accuracy", "accuracy"), ("macro_f1", "f1", "macro-F1"))
        if metrics["model"][key] is not None
    ]
    base = {key: value for key, value in info.get("encoder", {}).items() if key in BASE}
    head = base | {
        "library_name": "sentence-transformers",
        "pipeline_tag": "text-classification",
        "tags": ["graphloss", "sentence-transformers", "text-classification"],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"name": name, "type": name},
                        "metrics": measured,
                    }
                ],
            }
        ],
    }
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    sizes, settings = info.get("data", {}).get("sizes", {}), info.get("settings", {})
    rows = [
        f"| {title} | {_cell(metrics['probe'].get(key), form)} | {_cell(metrics['model'].get(key), form)} |"
        for key, title, form in SCORES
    ]
    shown = ", ".join(f"`{_inline(label)}`" for label in labels[:LABELS_SHOWN])
    more = f" and {len(labels) - LABELS_SHOWN} more" if len(labels) > LABELS_SHOWN else ""
    trained = f" on {counted(sizes['labeled'], 'labeled document')}" if "labeled" in sizes else ""
    if summary := info.get("self_training"):
        trained += f" and self-trained on {counted(summary['documents'], 'unlabeled document')}"
    own = [
        key
        for key in LOSSES.get(settings.get("loss", ""), ())
        if (key in ALWAYS_SHOWN or settings.get(key) != getattr(TrainSettings, key))
        and not (key == "weight" and settings.get("mode") == "standalone")
    ]
    how = ", ".join(f"{key} {settings[key]}" for key in ("loss", "mode", *own, "seed") if key in settings)
    return f"""---
{front}---

# {_inline(name)}

A text classifier and text encoder: `{_inline(encoder)}`, fine-tuned{trained} by
graphloss, with a loss on a graph of documents.

## Use it

With graphloss, for labels and probabilities (here `RUN` is the folder that holds this file):

```python
from graphloss import TextClassifier

classifier = TextClassifier.from_pretrained("RUN")
classifier.predict(["a text", "another text"])
classifier.predict_proba(["a text"])
```

or `graphloss predict RUN "a text"`.

With plain sentence-transformers, for embeddings:

```python
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer("RUN/encoder")
encoder.encode(["a text", "another text"], normalize_embeddings=True)
```

{_prediction(info.get("predictor", {}))}
No file here needs pickle. {_texts(info)}

## Where it comes from

{_origin(encoder, base)}

## Labels

{len(labels)}: {shown}{more}
{_described(info.get("described"))}
## Scores

On the {split} split; the probe is a logistic regression on the embeddings of the encoder before training.

| | linear probe, untouched encoder | this model |
| --- | --- | --- |
{chr(10).join(rows)}
{f"{chr(10)}{format_intervals(found)}.{chr(10)}" if (found := metrics.get("intervals")) else ""}
Trained with {how or "the default settings"}. All settings and versions are in `graphloss.json`, details in
`report.html`.
"""


def _described(described: Mapping[str, Any] | None) -> str:
    if not described:
        return ""
    used = f"{described['lines']:,} lines of description" if described["lines"] else "No line of description"
    return f"\n{used} took part in the training: {Gate.of(described)}.\n"


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


def _texts(info: Mapping[str, Any]) -> str:
    """The texts in the folder."""
    if info.get("data", {}).get("no_texts"):
        return "The folder contains no texts of the data (`--no-texts`), but embeddings and weights computed from them."
    return (
        "The folder contains readable texts: the labeled training documents (`support.parquet`) and the scored\n"
        "documents (`predictions.parquet`, `report.html`). Share it only with people who may read them; `--no-texts`\n"
        "leaves them out."
    )


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


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _inline(text: str) -> str:
    """A text that cannot break out of its line or code span in Markdown."""
    return " ".join(text.replace("`", "'").replace("<", "‹").replace(">", "›").split())
