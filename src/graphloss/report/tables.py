"""The sentences and tables of a report, as HTML. All user texts are escaped."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphloss.inference.metrics import format_intervals

HEADLINE = (  # key of Scores, name, whether more is better, percent or plain
    ("accuracy", "Accuracy", True, True),
    ("macro_f1", "Macro-F1", True, True),
    ("ece", "Calibration error", False, True),
    ("macro_silhouette", "Silhouette, mean over classes", True, False),
    ("micro_silhouette", "Silhouette, mean over documents", True, False),
)


def head(info: Mapping[str, Any], metrics: Mapping[str, Any], split: str, scored: int, classes: int) -> str:
    """The page header: encoder, name, the result in one sentence, and the sizes behind it."""
    sizes = info.get("data", {}).get("sizes", {})
    facts = [(classes, "classes"), (sizes.get("train"), _documents("training", sizes.get("train")))]
    if sizes.get("labeled") != sizes.get("train"):
        facts.append((sizes.get("labeled"), "of them labeled"))
    if summary := info.get("self_training"):
        facts.append((summary["documents"], f"{_documents('unlabeled', summary['documents'])} for self-training"))
    facts.append((scored or None, _documents(split, scored)))
    shown = [f"<span><b>{n:,}</b> {html.escape(what)}</span>" for n, what in facts if n is not None]
    if info.get("best_epoch") is not None:
        shown.append(f"<span>kept: epoch <b>{info['best_epoch']:g}</b></span>")
    if (covered := metrics.get("coverage")) is not None:
        shown.append(
            f'<span title="share of the labeled documents that are anchors">coverage <b>{covered:.1%}</b></span>'
        )
    if metrics.get("seconds") is not None:
        shown.append(f"<span>trained in <b>{duration(metrics['seconds'])}</b></span>")
    encoder = html.escape(str(info.get("encoder", {}).get("name", "the encoder")))
    settings = info.get("settings", {})
    how = html.escape(" · ".join(str(settings[name]) for name in ("loss", "mode") if name in settings))
    return (
        f'<div class="kicker">{encoder}{" · " + how if how else ""}</div><h1>{html.escape(str(info["name"]))}</h1>'
        f'<p class="lead">{_verdict(metrics, split)}</p><div class="facts">{"".join(shown)}</div>'
    )


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
        rows.append(
            f'<tr><th scope="row">{name} <span class="soft">{"↑" if more_is_better else "↓"}</span></th>'
            f'<td class="number">{form(before)}</td><td class="number ours">{form(after)}</td>'
            f'<td class="number {verdict}">{change}</td></tr>'
        )
    heads = "".join(f'<th class="number">{name}</th>' for name in ("Linear probe, untouched", "Fine-tuned", "Change"))
    body = f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table class="headline">{body}</table></div>'


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
        change = "–" if old is None else f"{100 * (row['f1'] - old):+.1f}"
        taken, n = worst.get(label, ("", 0))
        verdict = "soft" if old is None or abs(row["f1"] - old) < 0.0005 else "good" if row["f1"] > old else "bad"
        rows.append(
            f'<tr><th scope="row" data-value="{html.escape(label)}">{html.escape(label)}</th>'
            + _number(row["support"], f"{row['support']:,}")
            + _number(row["precision"], percent(row["precision"]))
            + _number(row["recall"], percent(row["recall"]))
            + _number(row["f1"], percent(row["f1"]), "bar", f"--share:{row['f1']:.1%}")
            + _number(-1 if old is None else old, percent(old))
            + _number(0 if old is None else row["f1"] - old, change, verdict)
            + f'<td data-value="{html.escape(taken)}" class="soft">{html.escape(cut(taken, 48))}'
            + (f" ({n})</td></tr>" if n else "</td></tr>")
        )
    names = ("Documents", "Precision", "Recall", "F1", "F1 of the probe", "Change")
    head = '<th data-kind="text"><button>Class</button></th>'
    head += "".join(f'<th class="number" data-kind="number"><button>{name}</button></th>' for name in names)
    return _tall(rows, head + '<th data-kind="text"><button>Taken for</button></th>')


def mistakes(rows: Sequence[tuple[float, str, str, str]]) -> str:
    """Probability, predicted class, true class and beginning of the text of each mistake."""
    body = [
        f'<tr><td class="number">{probability:.1%}</td><td>{html.escape(predicted)}</td><td>{html.escape(label)}</td>'
        f'<td class="text">{html.escape(cut(text, 400))}</td></tr>'
        for probability, predicted, label, text in rows
    ]
    return _tall(body, '<th class="number">Probability</th><th>Predicted</th><th>Label</th><th>Text</th>')


def suspects(rows: Sequence[Mapping[str, Any]]) -> str:
    """Score, label, proposed label and text of each suspected label error, with its evidence, if any, folded."""
    body = []
    for row in rows:
        evidence = "".join(
            f'<tr><td class="number">{percent(each["share"])}</td><td>{html.escape(str(each["label"]))}</td>'
            f'<td class="text">{html.escape(cut(str(each["text"]), 200))}</td></tr>'
            for each in row.get("evidence", ())
        )
        text = html.escape(cut(str(row["text"]), 400))
        folded = f"<details><summary>{text}</summary><table><tbody>{evidence}</tbody></table></details>"
        body.append(
            f'<tr><td class="number">{plain(row["score"])}</td><td>{html.escape(str(row["label"]))}</td>'
            f'<td>{html.escape(str(row["proposed"]))}</td><td class="text">{folded if evidence else text}</td></tr>'
        )
    return _tall(body, '<th class="number">Score</th><th>Label</th><th>Proposed</th><th>Text</th>')


def descriptions(texts: Mapping[str, Sequence[str]]) -> str:
    """One row per described class: its name and its lines."""
    return _tall(
        f'<tr><th scope="row">{html.escape(name)}</th><td class="text">{"<br>".join(map(html.escape, lines))}</td></tr>'
        for name, lines in texts.items()
    )


def details(info: Mapping[str, Any]) -> str:
    """Everything needed to repeat the run, folded: data, encoder, settings, versions, machine."""
    keys = ("data", "encoder", "unlabeled", "predictor", "settings", "versions", "environment")
    shown = {key: values for key in keys if (values := info.get(key))}
    return "".join(
        f"<details><summary>{key.capitalize()}</summary>{two_columns(values)}</details>"
        for key, values in shown.items()
    )


def two_columns(values: Mapping[str, Any]) -> str:
    """Names and values."""
    rows = (
        f'<tr><th scope="row">{html.escape(str(name))}</th><td>{html.escape(_format_value(value))}</td></tr>'
        for name, value in values.items()
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def class_buttons(classes: Iterable[tuple[int, str, str]]) -> str:
    """Buttons that select classes in the maps of a page: number, name and color of each."""
    buttons = (
        f'<button value="{number}" aria-pressed="false"><i style="background:{color}"></i>'
        f"{html.escape(cut(name, 48))}</button>"
        for number, name, color in classes
    )
    return f'<div class="chips">{"".join(buttons)}</div>'


def _tall(rows: Iterable[str], head: str = "") -> str:
    """Rows of HTML as a table that scrolls."""
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="scroll tall"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def percent(value: float | None) -> str:
    """A fraction as a percentage of one decimal; a dash for none."""
    return "–" if value is None else f"{value:.1%}"


def plain(value: float | None) -> str:
    """Three decimals; a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Seconds below two minutes, else minutes, else hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def cut(text: str, width: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def _verdict(metrics: Mapping[str, Any], split: str) -> str:
    after, before = metrics["model"]["macro_f1"], metrics["probe"]["macro_f1"]
    if after is None or before is None:
        return "No scores: no document has a label. Label some of those with the least confident predictions."
    if split == "cross-fitted":
        return (
            f"Cross-fitted on the training labels, macro-F1 is {percent(before)} for a linear probe of the untouched "
            f"encoder and <b>{percent(after)}</b> after fine-tuning, which flatters: the encoder has seen these labels."
        )
    if abs(after - before) < 0.0005:
        change = f"leaves macro-F1 unchanged at <b>{after:.1%}</b>"
    else:
        change = f"{'raises' if after > before else 'lowers'} macro-F1 from {before:.1%} to <b>{after:.1%}</b>"
    return f"Fine-tuning {change} on the {html.escape(split)} documents, against a linear probe of the same encoder."


def _documents(kind: str, number: int | None) -> str:
    return f"{kind} document{'' if number == 1 else 's'}"


def _format_value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format_value(part)}" for name, part in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: float, shown: str, kind: str = "", style: str = "") -> str:
    styled = f' style="{style}"' if style else ""
    return f'<td class="number {kind}" data-value="{value}"{styled}>{shown}</td>'
