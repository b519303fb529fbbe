"""The report of a made-up run: complete, self-contained, safe against hostile texts, and clear about damaged runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.inference.checksums import sealed
from graphloss.inference.linear_probe import linear_probe
from graphloss.inference.metrics import score
from graphloss.report import figures
from graphloss.report.card import model_card
from graphloss.report.page import render, write_report
from graphloss.report.predictions import Document
from graphloss.training.settings import TrainSettings

NAMES = ["billing", "card & <b>payment</b>", "account", "other"]
HOSTILE = '</script><script>alert("x")</script> & <img src=x onerror=alert(1)>'


UNSCORED = {"status": "running", "labels": ["a"], "settings": {}, "data": {"source": "a.csv", "fingerprint": "ab"}}


def write_run(folder: Path, *, n: int = 60, maps: bool = True, **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(4), rng.integers(0, 4, n - 4)])
    centers = rng.normal(size=(4, 8))
    before, after = (centers[y] + noise * rng.normal(size=(n, 8)) for noise in (1.2, 0.6))
    p0, p1 = (linear_probe(z, y, 4, inverse_regularization=0.3).probabilities(z).numpy() for z in (before, after))
    p1[:2] = p1[[2, 3]]  # mistakes that are surely there
    columns: dict[str, Any] = {
        "text": [f"text {i} of a made-up document" for i in range(n)],
        "label": [NAMES[c] for c in y],
        "predicted": [NAMES[c] for c in p1.argmax(1)],
        "probability": p1.max(1),
    }
    columns["text"][0] = HOSTILE
    if maps:
        for name, z in (("x", after[:, 0]), ("y", after[:, 1]), ("x0", before[:, 0]), ("y0", before[:, 1])):
            columns[name] = np.where(np.arange(n) < n - 5, z, np.nan).astype(np.float32)
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    rows = [
        {"epoch": e, "step": 4 * e, "loss": 1 / e, "ce": 0.9 / e, "graph": 1.1 / e, "coverage": 0.97, "seconds": 1.5}
        | {"macro_f1": 0.9 - 0.3 / e, "accuracy": 0.92 - 0.3 / e, "macro_silhouette": -1.0 if e == 1 else 0.2}
        for e in (1, 2, 3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = {
        "graphloss": "0.1.0",
        "status": "finished",
        "created": "2026-01-02T03:04:05+00:00",
        "name": "tickets <i>2026</i>",
        "labels": NAMES,
        "settings": {"loss": "gloss", "mode": "combined", "sigma": "auto", "weight": 0.5, "epochs": None, "seed": 0},
        "data": {
            "source": "tickets.csv",
            "sizes": {"train": 200, "labeled": 150, "validation": 20, "test": n},
            "fingerprint": "ab12",
        },
        "versions": {"torch": "2.13.0"},
        "environment": {"python": "3.11", "threads": 2},
        "encoder": {"name": "all-MiniLM-L6-v2", "dimension": 8, "max_length": 256},
        "predictor": {"kind": "mix", "sigma": 0.3, "graph_share": 0.5, "neighbor_weight": 0.0},
        "best_epoch": 2,
        "metrics": {
            "split": "test",
            "model": asdict(score(y, p1, after, NAMES)),
            "probe": asdict(score(y, p0, before, NAMES)),
            "seconds": 214.2,
            "coverage": 0.975,
        },
    } | changes
    run_folder.write_info(folder, info)
    return folder


class Page(HTMLParser):
    """What a browser would make of the report: the elements, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.shown = ""
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif not self.inside:
            self.shown += data

    def figures(self) -> list[dict[str, Any]]:
        kinds = [attrs.get("type") for tag, attrs in self.elements if tag == "script"]
        return [json.loads(s) for kind, s in zip(kinds, self.scripts, strict=True) if kind == "application/json"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_every_section_is_there_and_every_figure_has_its_place(page: Page) -> None:
    sections = [attrs["id"] for tag, attrs in page.elements if tag == "section"]
    assert sections == [
        "result",
        "learning-curves",
        "classes",
        "confusion-matrix",
        "embedding-maps",
        "calibration",
        "most-confident-mistakes",
        "settings-and-environment",
    ]
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    assert links == [f"#{anchor}" for anchor in sections]
    places = [attrs["data-figure"] for _, attrs in page.elements if attrs.get("data-figure")]
    data = [attrs["id"] for tag, attrs in page.elements if tag == "script" and attrs.get("type")]
    assert places == data and len(data) == len(page.figures()) == 7
    assert all(figure["data"] for figure in page.figures())


def test_the_headline_says_what_was_measured(run: Path, page: Page) -> None:
    metrics = json.loads((run / "graphloss.json").read_text())["metrics"]
    for which in ("model", "probe"):
        for key in ("accuracy", "macro_f1", "ece"):
            assert f"{metrics[which][key]:.1%}" in page.shown
        assert f"{metrics[which]['macro_silhouette']:.3f}" in page.shown
    assert "4 min" in page.shown and "97.5%" in page.shown and "150 of them labeled" in page.shown


def test_the_page_loads_nothing_from_anywhere(page: Page) -> None:
    for tag, attrs in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert "src" not in attrs
        assert not attrs.get("href") or attrs["href"].startswith("#")
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") and tag == "meta")
    assert policy is not None and policy.startswith("default-src 'none'")
    assert "http" not in policy and "unsafe-eval" not in policy
    assert sum("Plotly.newPlot(plot" in script for script in page.scripts) == 1
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1  # plotly itself, once


def test_texts_and_labels_of_the_user_are_shown_but_never_run(run: Path, page: Page) -> None:
    assert HOSTILE in page.shown  # the first document is a mistake, so its text stands in the table
    assert "card & <b>payment</b>" in page.shown and "tickets <i>2026</i>" in page.shown
    assert not [tag for tag, attrs in page.elements if tag == "img" or any(name.startswith("on") for name in attrs)]
    assert len(page.scripts) == 7 + 2  # the figures' data, plotly, ours: no script came in with a text
    for figure in page.figures():  # plotly reads HTML in hover texts and tick labels, so they are escaped once more
        said = json.dumps(figure)
        assert "<script" not in said and "<img" not in said and "<b>payment" not in said
    raw = (run / "report.html").read_text(encoding="utf-8")
    assert "alert(&quot;x&quot;)" in raw and '<script>alert("x")' not in raw


def test_the_class_table_can_be_sorted_by_its_values(page: Page) -> None:
    values = [attrs["data-value"] for tag, attrs in page.elements if tag in ("th", "td") and "data-value" in attrs]
    assert len(values) == 4 * 8
    supports = [int(str(value)) for value in values[1::8]]
    assert supports == sorted(supports, reverse=True) and sum(supports) == 60
    assert all(np.isfinite(float(str(v))) for i in range(1, 7) for v in values[i::8])


def test_the_maps_show_the_documents_that_have_a_place(page: Page) -> None:
    classes = [json.loads(str(attrs["data-classes"])) for _, attrs in page.elements if "data-classes" in attrs]
    assert [len(row) for row in classes] == [55, 55] and set(classes[0]) == {0, 1, 2, 3}
    assert "A sample of 55." in page.shown


def test_without_maps_history_or_mistakes_the_sections_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", maps=False)
    (run / "metrics.jsonl").unlink()
    sections = [attrs["id"] for tag, attrs in Page(write_report(run).read_text("utf-8")).elements if tag == "section"]
    assert "embedding-maps" not in sections and "learning-curves" not in sections and "classes" in sections
    info = json.loads((run / "graphloss.json").read_text())
    right = [Document("a text", "account", "account", 0.9)] * 3
    assert "most-confident-mistakes" not in render(info, [], right)
    assert "settings-and-environment" in render(info, [], [])


def test_undefined_scores_and_a_loss_of_quality_are_said_as_they_are(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    info = json.loads((run / "graphloss.json").read_text())
    metrics = info["metrics"]
    metrics["split"] = "validation"
    metrics["model"] |= {"macro_f1": 0.5, "macro_silhouette": None}
    metrics["probe"] |= {"macro_f1": 0.75}
    metrics["coverage"] = None
    text = render(info, [], [])
    assert "lowers macro-F1 from 75.0% to <b>50.0%</b>" in text
    assert '<td class="number bad">-25.0 points</td>' in text
    assert "slightly optimistic" in text  # validation chose the epoch
    assert '<td class="number ours">–</td>' in text


def test_cross_fitted_scores_are_no_raise_and_a_run_without_labels_shows_no_scores(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    info = json.loads((run / "graphloss.json").read_text())
    metrics = info["metrics"] | {"split": "cross-fitted"}
    metrics["probe"] |= {"macro_f1": 0.571}
    metrics["model"] |= {"macro_f1": 1.0}
    text = render(info | {"metrics": metrics}, [], [Document("a text", "account", "account", 0.9)])
    assert "Cross-fitted on the training labels, macro-F1 is 57.1% for a linear probe" in text
    assert "<b>100.0%</b> after fine-tuning, which flatters" in text and "Fine-tuning raises" not in text
    assert "<b>1</b> cross-fitted document</span>" in text and '<table class="headline">' in text
    none = {"accuracy": None, "macro_f1": None, "ece": None, "macro_silhouette": None, "per_class": []}
    text = render(info | {"metrics": metrics | {"split": "unverified", "model": none, "probe": none}}, [], [])
    assert (
        "No scores: no document has a label" in text
        and 'id="result"' not in text
        and '<table class="headline">' not in text
    )


def test_labels_in_doubt_are_listed(run: Path) -> None:
    info = json.loads((run / "graphloss.json").read_text())
    row = {"text": HOSTILE, "label": "account", "proposed": "other", "score": 0.91234}
    text = render(info | {"doubted_labels": [row]}, [], [])
    shown = Page(text).shown
    assert (
        "1 of 1 label that other documents contradicted" in shown and HOSTILE in shown and "0.912accountother" in shown
    )
    many = render(info | {"doubted_labels": [row] * 101}, [], [])
    assert "100 of 101 labels that other documents contradicted" in many and many.count("0.912</td>") == 100
    assert "Labels in doubt" not in render(info | {"doubted_labels": []}, [], [])


def test_the_report_needs_no_torch(run: Path) -> None:
    code = (
        f"import sys, pathlib; from graphloss.report.page import write_report; write_report(pathlib.Path({str(run)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["False"], done.stderr


def test_the_report_appears_whole_or_not_at_all(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_report(run).read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_report(run)
    assert (run / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"), [("metrics", {}), ("metrics", {"split": "test", "model": 7}), ("best_epoch", "x")]
)
def test_a_value_without_sense_is_named(tmp_path: Path, name: str, value: Any) -> None:
    run = write_run(tmp_path / "run")
    run_folder.write_info(run, run_folder.read_info(run) | {name: value})
    with pytest.raises(InputError, match=r"graphloss\.json: a value of the report makes no sense"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("predictions.parquet", None, "missing"),
        ("predictions.parquet", b"not parquet", "damaged"),
        ("metrics.jsonl", b"{half a line", "damaged"),
        ("graphloss.json", b"{", "damaged"),
        (
            "graphloss.json",
            json.dumps(sealed(UNSCORED)).encode(),
            "no scores",
        ),
    ],
)
def test_a_damaged_run_is_an_input_error(tmp_path: Path, file: str, content: bytes | None, said: str) -> None:
    run = write_run(tmp_path / "run")
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_bytes(content)
    with pytest.raises(InputError, match=said):
        write_report(run)
    assert not (run / "report.html").exists()


def test_77_classes_stay_apart_in_names_and_colors() -> None:
    names = [f"a rather long name of a class that differs late {i}" for i in range(77)]
    assert len(set(figures.short_names(names))) == 77
    assert len(set(figures.class_colors(77))) == 77 and len(set(figures.class_colors(4))) == 4
    rng = np.random.default_rng(0)
    truth = [names[i] for i in rng.integers(0, 77, 500)]
    predicted = [t if rng.random() < 0.9 else names[rng.integers(77)] for t in truth]
    figure, orders = figures.confusion(names, truth, predicted, dict.fromkeys(names, 0.5))
    assert 800 < figure.layout.height < 1300
    assert all(sorted(order) == sorted(orders["by size"]) and len(order) == 77 for order in orders.values())
    shown = sum(cell[0] for trace in figure.data for line in trace.customdata for cell in line)
    assert shown == 500
    hidden = figures.confusion(["a", "b", "nowhere"], ["a", "b"], ["a", "a"], {})[1]["by name"]
    assert hidden == ["a", "b"]


def test_curves_leave_gaps_and_mark_the_best_epoch() -> None:
    history = [
        {"epoch": 1.0, "loss": 2.0, "macro_silhouette": -1.0, "macro_f1": 0.5},
        {"epoch": 2.0, "loss": float("nan"), "macro_silhouette": 0.25, "macro_f1": 0.75},
    ]
    drawn = figures.curves(history, 2)
    assert list(drawn) == ["Training loss", "Validation"]
    lines = {trace.name: list(trace.y) for figure in drawn.values() for trace in figure.data}
    assert lines == {"loss": [2.0, None], "macro-F1": [0.5, 0.75], "silhouette": [None, 0.25]}
    assert drawn["Validation"].layout.shapes[0].x0 == 2
    assert figures.curves([], None) == {}
    unchecked = [{"epoch": 1, "loss": 2.0, "coverage": 0.9}, {"epoch": 2, "loss": 1.0, "coverage": 0.8}]
    assert list(figures.curves(unchecked, 2)) == ["Training loss"]  # coverage alone is no validation


def test_the_model_card_reads_as_markdown_with_a_yaml_head(run: Path) -> None:
    info = json.loads((run / "graphloss.json").read_text())
    card = model_card(info)
    head, body = re.match(r"---\n(.*?)\n---\n(.*)", card, re.S).groups()
    meta = yaml.safe_load(head)
    assert meta["library_name"] == "sentence-transformers" and "graphloss" in meta["tags"]
    result = meta["model-index"][0]["results"][0]["metrics"][0]
    assert result["value"] == pytest.approx(info["metrics"]["model"]["accuracy"], abs=1e-4)
    assert 'TextClassifier.from_pretrained("RUN")' in body and 'SentenceTransformer("RUN/encoder")' in body
    assert "`account`" in body and "<b>" not in body and "150 labeled documents" in body
    assert "0.5 of the graph" in body and "0.3" in body
    fitted = {
        "model": info["metrics"]["model"] | {"per_class": [{"support": 1}, {"support": 2}]},
        "split": "cross-fitted",
    }
    flattering = model_card(info | {"metrics": info["metrics"] | fitted})
    assert "model-index" not in flattering and "scores are optimistic" in flattering
    assert "Classes with one label: 1. Left out, it is predicted by a description alone" in flattering
    near = model_card(info | {"predictor": {"kind": "knn", "sigma": 0.3, "graph_share": 0.5}})
    assert "of the ten nearest only" in near and "head.safetensors" not in near
    headed = model_card(info | {"predictor": {"sigma": 0.3, "graph_share": 0.0}})
    taught = model_card(info | {"predictor": {"sigma": 0.3, "graph_share": 0.0, "neighbor_weight": 0.45}})
    assert "0.55 of the head and 0.45 of the neighbors" in taught and "unlabeled.safetensors" in taught
    three = model_card(info | {"predictor": {"sigma": 0.3, "graph_share": 0.5, "neighbor_weight": 0.2}})
    assert "0.4 of the head, 0.4 of the graph and 0.2 of the neighbors" in three
    assert "of the graph" not in headed and "linear on these" in headed
    for settings, said in (
        ({"loss": "supcon", "temperature": 0.2}, "loss supcon, mode combined, weight 0.5, temperature 0.2, seed 0."),
        ({"loss": "ce"}, "loss ce, mode combined, seed 0."),
        ({"mode": "standalone", "memory": 4}, "loss gloss, mode standalone, sigma auto, memory 4, seed 0."),
    ):
        assert said in model_card(info | {"settings": asdict(TrainSettings()) | settings})
    many = model_card(info | {"labels": [f"label {i}" for i in range(130)]})
    assert "130: " in many and "and 30 more" in many


def test_suspected_label_errors_are_shown_once_there_was_an_audit(run: Path) -> None:
    before = Page(write_report(run).read_text())
    evidence = [{"text": "<script>alert(1)</script>", "label": NAMES[1], "share": 0.25}]
    row = {"text": "a & b", "label": NAMES[0], "proposed": NAMES[1], "score": 0.875, "evidence": evidence}
    (run / "audit.jsonl").write_text("".join(json.dumps(row | {"text": f"a & {i}"}) + "\n" for i in range(130)))
    page = Page(write_report(run).read_text())
    assert "Suspected label errors" not in before.shown and "Suspected label errors" in page.shown
    assert "100 of 130" in page.shown and "a & 99" in page.shown and "a & 100" not in page.shown
    assert "0.875" in page.shown and "25.0%" in page.shown and page.shown.count("<script>alert(1)</script>") == 100
    (run / "audit.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"audit\.jsonl: damaged"):
        write_report(run)


def test_the_card_says_what_texts_are_there_and_no_path_of_the_machine(run: Path) -> None:
    info = json.loads((run / "graphloss.json").read_text())
    card = model_card(info | {"encoder": info["encoder"] | {"name": "/home/somebody/models/mine"}})
    assert "/home" not in card and "`mine`, fine-tuned" in card
    assert "support.parquet" in card and "readable texts" in card
