"""What the tables of a report hold, ready for the macros of `parts.html`, and its sentences."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from graphloss.inference.metrics import format_intervals
from graphloss.report.sections import part, percent, plain

HEADLINE = (  # key of Scores, name, whether more is better, percent or plain
    ("accuracy", "Accuracy", True, True),
    ("macro_f1", "Macro-F1", True, True),
    ("ece", "Calibration error", False, True),
    ("macro_silhouette", "Silhouette, mean over classes", True, False),
    ("micro_silhouette", "Silhouette, mean over documents", True, False),
)


def head(info: Mapping[str, Any], metrics: Mapping[str, Any], split: str, scored: int, classes: int) -> str:
    """The page header: encoder, name, the result in one sentence, and the sizes behind it."""
    sizes, settings = info.get("data", {}).get("sizes", {}), info.get("settings", {})
    counts = [(classes, "classes"), (sizes.get("train"), _documents("training", sizes.get("train")))]
    if sizes.get("labeled") != sizes.get("train"):
        counts.append((sizes.get("labeled"), "of them labeled"))
    if summary := info.get("self_training"):
        counts.append((summary["documents"], f"{_documents('unlabeled', summary['documents'])} for self-training"))
    counts.append((scored or None, _documents(split, scored)))
    facts: list[tuple[str, ...]] = [("", f"{n:,}", what) for n, what in counts if n is not None]
    if info.get("best_epoch") is not None:
        facts.append(("kept: epoch", f"{info['best_epoch']:g}", ""))
    if (covered := metrics.get("coverage")) is not None:
        facts.append(("coverage", f"{covered:.1%}", "", "share of the labeled documents that are anchors"))
    if metrics.get("seconds") is not None:
        facts.append(("trained in", duration(metrics["seconds"]), ""))
    encoder = str(info.get("encoder", {}).get("name", "the encoder"))
    kicker = " · ".join([encoder, *(str(settings[name]) for name in ("loss", "mode") if name in settings)])
    after, before = metrics["model"]["macro_f1"], metrics["probe"]["macro_f1"]
    return part("head", kicker, info["name"], part("verdict", after, before, split), facts)


def headline_note(metrics: Mapping[str, Any], split: str) -> str:
    """The split of the headline scores, and their bias."""
    note = f"Measured on the {split} split. The probe is a logistic regression on the embeddings before training."
    if split == "validation":
        note += " Validation also chose the best epoch: the scores of the fine-tuned model are slightly optimistic."
    if split == "cross-fitted":
        note = (
            "No document was held out: these are cross-fitted predictions of training documents, by heads fitted "
            "without their labels. The encoder was trained with them, so the fine-tuned model's scores are optimistic."
        )
        if alone := sum(row["support"] == 1 for row in metrics["model"].get("per_class", [])):
            note += (
                f" Classes with one label: {alone:,}. Left out, it is predicted by a description alone, so that these "
                "scores say little."
            )
    if found := metrics.get("intervals"):
        note += f" {format_intervals(found)}."
    return note


def headline(metrics: Mapping[str, Any]) -> str:
    """Scores of the linear probe before training and of the fine-tuned model, and their difference."""
    rows = []
    for key, name, more_is_better, as_percent in HEADLINE:
        before, after = metrics["probe"].get(key), metrics["model"].get(key)
        change, verdict = "–", "soft"
        if before is not None and after is not None:
            difference = after - before
            change = f"{100 * difference:+.1f} points" if as_percent else f"{difference:+.3f}"
            if float(change.split()[0]) != 0:
                verdict = "good" if (difference > 0) == more_is_better else "bad"
        form = percent if as_percent else plain
        rows.append((name, "↑" if more_is_better else "↓", form(before), form(after), change, verdict))
    return part("headline", rows)


def class_table(after: Mapping[str, Any], before: Mapping[str, Any], confusions: Counter[tuple[str, str]]) -> str:
    """One row per class, largest first: scores, the probe's F1, and the most frequent wrong prediction.

    Args:
        after: class name -> scores of the fine-tuned model, as in `ClassScores`.
        before: the same of the probe.
        confusions: (true, predicted) -> number of documents, for wrong predictions.
    """
    worst: dict[str, tuple[str, int]] = {}
    for (label, predicted), n in confusions.most_common():
        worst.setdefault(label, (predicted, n))
    rows = []
    for label, row in sorted(after.items(), key=lambda item: (-item[1]["support"], item[0])):
        old = before.get(label, {}).get("f1")
        gain = 0 if old is None else row["f1"] - old
        numbers = [  # to sort by, shown, kind
            (row["support"], f"{row['support']:,}", ""),
            *((row[name], percent(row[name]), "bar" if name == "f1" else "") for name in ("precision", "recall", "f1")),
            (-1 if old is None else old, percent(old), ""),
            (
                gain,
                "–" if old is None else f"{100 * gain:+.1f}",
                "soft" if abs(gain) < 0.0005 else "good" if gain > 0 else "bad",
            ),
        ]
        rows.append((label, numbers, *worst.get(label, ("", 0))))
    return part("class_table", rows)


def details(info: Mapping[str, Any]) -> str:
    """Everything needed to repeat the run, folded: data, encoder, settings, versions, machine."""
    keys = ("data", "encoder", "unlabeled", "predictor", "settings", "versions", "environment")
    return part("details", {key: values for key in keys if (values := info.get(key))})


def duration(seconds: float) -> str:
    """Seconds below two minutes, else minutes, else hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _documents(kind: str, number: int | None) -> str:
    return f"{kind} document{'' if number == 1 else 's'}"
