"""With few labels and a pile of unlabeled text: graphloss beside what people pick today, on four data sets.

    GRAPHLOSS_DATA=FOLDER python benchmarks/headline.py run [--setfit PYTHON]    train what is missing
    GRAPHLOSS_DATA=FOLDER python benchmarks/headline.py teach                    unlabeled text anew, nothing trained
    GRAPHLOSS_DATA=FOLDER python benchmarks/headline.py piles                    the same with a few unlabeled texts
    python benchmarks/headline.py page                                           write the tables of README and of docs

Every method gets the same N labels per class and no other: nothing is set aside for validation, so that nobody chooses
an epoch by labels that the others do not have. The rest of train, up to `UNLABELED` documents, is unlabeled text for
the one that can use it, and `TEST` documents of the test split are scored, the same for all.

- probe: logistic regression on the untouched encoder
- setfit: SetFit 1.2 with its default head and `num_iterations=20`, in a Python of its own (`--setfit`): one epoch of
  batches of 16; where that takes over 20 minutes per cell, three draws of the labels, and where it takes over 40,
  `SETFIT_STEPS` steps of it
- ce, supcon: `TextClassifier`'s training with that loss, predicted by the head; gloss: with its default predictor
- gloss + unlabeled: the same training with the unlabeled text beside it, as `fit(..., unlabeled=...)` has it
- ce+unlabeled, supcon+unlabeled, by name in `--methods` alone: as much for the other losses, which of the two does it

To fit two cores, the lower three of the six layers stay as they are (`--freeze 3`) in ce, supcon and gloss where more
than `CHEAP` tokens are labeled; SetFit trains all, as it does by default. Each cell is a process of its own, so
that its peak memory is its own, of one thread.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import tempfile
import time
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result_table import FOLDER, ResultTable

from graphloss.inference.linear_probe import Probe, linear_probe
from graphloss.inference.metrics import score
from graphloss.inference.predictor import Predictor
from graphloss.inference.self_training import self_train_head
from graphloss.research.bench.storage import locked, write_json
from graphloss.text.corpus import load_corpus
from graphloss.text.encoder import encode, load
from graphloss.text.encoder_source import resolve
from graphloss.text.texts_and_labels import Documents
from graphloss.training.fit import fit
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import TrainSettings
from graphloss.training.settings_errors import make

RESULTS = ResultTable(FOLDER / "headline.jsonl", ("task", "shots", "seed", "method"))
WORK = Path(os.environ.get("TMPDIR", "/tmp")) / "graphloss-headline"
TOKENS = {"banking77": 32, "r8": 48, "mr": 48, "ohsumed": 96}
UNLABELED = {"banking77": 5000, "r8": 3000, "mr": 3000, "ohsumed": 2000}
TEST = {"banking77": 1000, "r8": 1000, "mr": 1000, "ohsumed": 600}
SHOTS = (1, 4, 8, 16)
CHEAP, FREEZE = 32 * 48, 3
WITH_TEXT = "+unlabeled"
METHODS = ("probe", "gloss", "ce", "supcon", "setfit")
SETFIT_STEPS = 150
# an epoch of these takes over 40 minutes of one core, and is cut; of those over 20 draws are fewer
SETFIT_CUT = {("banking77", 8), ("banking77", 16), ("ohsumed", 8), ("ohsumed", 16)}
SETFIT_DRAWS = {("banking77", 4): 3, ("ohsumed", 4): 3}
SEEDS = 5
PILES = (1, 5, 20, 100, 400, 1000)
PILES_FILE = FOLDER / "few_unlabeled.json"


def drawn(task: str, shots: int, seed: int) -> dict[str, Any]:
    """The documents of a cell: texts and class indices of the labeled and of the scored, texts of the unlabeled."""
    corpus = load_corpus(task, shots=shots, keep_unlabeled=True, validation=0.0, seed=seed)
    assert corpus.test is not None
    labels, truth = np.array(corpus.train.labels), np.array(corpus.test.labels)
    given, rest = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
    rest = np.random.default_rng([seed, 9]).permutation(rest)[: UNLABELED[task]]
    scored = np.random.default_rng(5).permutation(len(truth))[: TEST[task]]
    return {
        "names": corpus.label_names,
        "texts": [corpus.train.texts[row] for row in given],
        "labels": labels[given].tolist(),
        "unlabeled": [corpus.train.texts[row] for row in rest],
        "test": [corpus.test.texts[row] for row in scored],
        "truth": truth[scored].tolist(),
    }


def scores(cell: dict[str, Any], p: np.ndarray | torch.Tensor) -> dict[str, float]:
    """Accuracy and macro-F1 of probabilities."""
    found = score(np.array(cell["truth"]), np.asarray(p), None, cell["names"])
    return {"accuracy": found.accuracy, "macro_f1": found.macro_f1}


def frozen_layers(task: str, cell: dict[str, Any]) -> int:
    """How many of the lower layers stay as they are."""
    return 0 if len(cell["texts"]) * TOKENS[task] <= CHEAP else FREEZE


def trained(task: str, cell: dict[str, Any], method: str, seed: int, kept: Path | None) -> dict[str, Any]:
    """Fine-tune with a loss; what it has learned is kept beside its embeddings, for the unlabeled text to add to."""
    asked = {"loss": method, "freeze": frozen_layers(task, cell), "max_length": TOKENS[task]}
    settings = make(TrainSettings, asked | {"seed": seed, "precision": "fp32"})
    encoder = load(resolve(None), max_length=TOKENS[task], device="cpu")
    clock = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        documents = Documents(cell["texts"], cell["labels"])
        checked = preflight(check_settings(settings, documents, Documents([], []), cell["names"]), encoder)
        fitted = fit(encoder, checked, folder=Path(folder))
    processor, predictor = time.process_time() - clock, fitted.model.predictor
    z = encode(fitted.model.encoder, cell["test"])
    p = predictor.probabilities(z) if method == "gloss" else predictor.head(z)
    result = (
        scores(cell, p)
        | {"head": scores(cell, predictor.head(z)), "mix": scores(cell, predictor.by("mix").probabilities(z))}
        | {"seconds": fitted.seconds, "processor_seconds": processor, "graph_share": predictor.graph_share}
        | {"freeze": settings.freeze}
    )
    if kept is not None:
        clock, began = time.process_time(), time.perf_counter()
        rest = encode(fitted.model.encoder, cell["unlabeled"])
        spent = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - clock}
        kept.parent.mkdir(parents=True, exist_ok=True)
        parts = {field.name: getattr(predictor, field.name) for field in fields(predictor)}
        torch.save({"predictor": parts, "unlabeled": rest.half(), "test": z, "encoding": spent}, kept)
    return result


def refitted(predictor: Predictor, unlabeled: torch.Tensor) -> Predictor:
    """With the head of unlabeled embeddings, the trained one where they are few."""
    return self_train_head(predictor, unlabeled, fallback=Probe(predictor.weight, predictor.bias))[0]


def taught(cell: dict[str, Any], kept: Path, alone: dict[str, Any]) -> dict[str, Any]:
    """What the unlabeled text adds to a trained encoder: its embeddings teach the head, as in `TextClassifier.fit`."""
    rows = torch.load(kept, weights_only=True)
    clock, began = time.process_time(), time.perf_counter()
    predictor = refitted(Predictor(**rows["predictor"]), rows["unlabeled"].float())
    spent = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - clock}
    z = rows["test"]
    return (
        scores(cell, predictor.probabilities(z))
        | {"head": scores(cell, predictor.head(z)), "mix": scores(cell, predictor.by("mix").probabilities(z))}
        | {name: alone[name] + rows["encoding"][name] + spent[name] for name in spent}
        | {"graph_share": predictor.graph_share}
    )


def probed(task: str, cell: dict[str, Any]) -> dict[str, Any]:
    """Regression on the untouched encoder."""
    encoder = load(resolve(None), max_length=TOKENS[task], device="cpu")
    clock, began = time.process_time(), time.perf_counter()
    probe = linear_probe(encode(encoder, cell["texts"]), cell["labels"], len(cell["names"]))
    spent = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - clock}
    return scores(cell, probe.probabilities(encode(encoder, cell["test"]))) | spent


def by_setfit(task: str, shots: int, cell: dict[str, Any], seed: int, python: str) -> dict[str, Any]:
    """SetFit, in the Python that has it."""
    steps = SETFIT_STEPS if (task, shots) in SETFIT_CUT else 10**6
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "asked.json", Path(folder) / "told.json"
        asked.write_text(
            json.dumps(
                {name: cell[name] for name in ("texts", "labels", "test")}
                | {"model": str(resolve(None)), "tokens": TOKENS[task], "seed": seed, "steps": steps}
            )
        )
        script = Path(__file__).with_name("headline_setfit.py")
        subprocess.run([python, script, asked, told], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answer = json.loads(told.read_text())
    p = np.zeros((len(cell["truth"]), len(cell["names"])), np.float32)
    p[np.arange(len(p)), answer.pop("predicted")] = 1.0
    return scores(cell, p) | answer


def run(task: str, shots: int, seed: int, method: str, python: str | None) -> None:
    """One cell in this process, written down."""
    torch.set_num_threads(1)
    cell, kept = drawn(task, shots, seed), WORK / "embeddings" / f"{task}-{shots}-{seed}.pt"
    loss = method.removesuffix(WITH_TEXT)
    if method == "setfit":
        assert python is not None
        result = by_setfit(task, shots, cell, seed, python)
    elif method == "probe":
        result = probed(task, cell)
    elif method == loss:
        result = trained(task, cell, method, seed, kept if method == "gloss" else None)
    else:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "kept.pt"
            result = taught(cell, kept, trained(task, cell, loss, seed, kept))
    note(cell, task, shots, seed, method, result)
    if method == "gloss":
        note(cell, task, shots, seed, method + WITH_TEXT, taught(cell, kept, result))


def note(cell: dict[str, Any], task: str, shots: int, seed: int, method: str, result: dict[str, Any]) -> None:
    """Write down the result of a cell."""
    about = {"task": task, "shots": shots, "seed": seed, "method": method, "labeled": len(cell["texts"])}
    about |= {"unlabeled": len(cell["unlabeled"]), "test": len(cell["test"]), "tokens": TOKENS[task]}
    about["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    RESULTS.put(about | result)
    name = f"{task}-{shots}-{seed} {method}"
    print(
        f"{name}: {100 * result['accuracy']:.1f} {100 * result['macro_f1']:.1f}, {result['seconds']:.0f} s", flush=True
    )


def teach_anew() -> None:
    """The results with unlabeled text once more, on the embeddings that are kept; memory is that of the training."""
    for kept in sorted((WORK / "embeddings").glob("*.pt")):
        task, shots, seed = kept.stem.split("-")
        alone = RESULTS.find(task, shots, seed, "gloss")
        if alone is None:
            continue
        before = RESULTS.find(task, shots, seed, "gloss" + WITH_TEXT) or {}
        cell = drawn(task, int(shots), int(seed))
        result = taught(cell, kept, alone) | {"peak_mib": max(before.get("peak_mib", 0), alone["peak_mib"])}
        note(cell, task, int(shots), int(seed), "gloss" + WITH_TEXT, result)


def teach_few() -> None:
    """What fewer unlabeled texts give, on the embeddings that are kept of the table: one row per draw."""
    rows = []
    for kept in sorted((WORK / "embeddings").glob("*.pt")):
        task, shots, seed = kept.stem.split("-")
        if int(seed) >= SEEDS:
            continue
        cell, held = drawn(task, int(shots), int(seed)), torch.load(kept, weights_only=True)
        predictor, z = Predictor(**held["predictor"]), held["test"]
        row: dict[str, Any] = {"task": task, "shots": int(shots), "seed": int(seed)}
        row["0"] = scores(cell, predictor.probabilities(z))
        for pile in PILES:
            few = refitted(predictor, held["unlabeled"][:pile].float())
            row[str(pile)] = scores(cell, few.probabilities(z))
        rows.append(row)
        print(kept.stem, flush=True)
    write_json(PILES_FILE, {"rows": rows})


def guarded(*cell: Any) -> None:
    """`run`, which says what went wrong: another process waits for it."""
    try:
        run(*cell)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None


def main() -> None:
    """Run what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "teach", "piles", "page"))
    parser.add_argument("--setfit", metavar="PYTHON", help="a Python that has setfit; without it SetFit is left out")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--columns", metavar="TASK-SHOTS,...", help="these alone, for example mr-1; default: all")
    given = parser.parse_args()
    if given.stage == "page":
        from headline_page import write

        write(RESULTS.rows(), PILES_FILE)
        return
    if given.stage in ("teach", "piles"):
        teach_anew() if given.stage == "teach" else teach_few()
        return
    (WORK / ".locks").mkdir(parents=True, exist_ok=True)
    fork = multiprocessing.get_context("fork")  # the libraries are loaded once, and each cell has its own peak
    for seed in range(given.seeds):
        for shots in SHOTS:
            for task in TOKENS:
                if given.columns and f"{task}-{shots}" not in given.columns.split(","):
                    continue
                for method in given.methods.split(","):
                    if method == "setfit" and (given.setfit is None or seed >= SETFIT_DRAWS.get((task, shots), SEEDS)):
                        continue
                    name = f"{task}-{shots}-{seed}-{method}"
                    with locked(WORK, name) as mine:
                        if mine and RESULTS.find(task, shots, seed, method) is None:
                            process = fork.Process(target=guarded, args=(task, shots, seed, method, given.setfit))
                            process.start()
                            process.join()


if __name__ == "__main__":
    main()
