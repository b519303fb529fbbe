"""Kills at random moments of training, tuning, comparing and resuming: nothing is lost, and the end has the same bits.

    python tests/kills.py --seed 0 --kills 50 --seconds 600 [--only tune]

Each command runs in a forked process, which has the libraries loaded already, and is killed (SIGKILL) after a random
share of the time that an undisturbed one takes. It is then repeated, as its user would, and half of the time killed
again. In the end its files must be those of the undisturbed one, but for clocks; what stood finished on the disk at a
kill must still stand there. A fault is printed at once, with what differs, and its folder is kept.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HALF = "half.csv"  # the same texts, every other one without its label


class Job(NamedTuple):
    """A command into the folder `out`; what is to be equal in the end, and what may only grow."""

    name: str
    words: Callable[[Path], list[Any]]
    again: Callable[[Path], list[Any]]
    bits: Callable[[Path], Any]
    finished: Callable[[Path], Any]


def forked(words: list[Any], folder: Path, log: Path, *, seconds: float | None = None) -> int:
    """Run a command in a process of its own; kill it after so many seconds. The exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            os.chdir(folder)
            sys.argv = ["graphloss", *map(str, words)]
            from graphloss.cli import main
            from graphloss.research.tuning import killed_trials
            from graphloss.training import size_defaults

            # these kills are not the trial's doing; and one unclaimed for two seconds has no process
            killed_trials.RETRIES, killed_trials.GRACE = 1_000, 2
            size_defaults.FEWEST_PSEUDO_LABELS = 1  # of the few texts here
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    begun = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if seconds is not None and time.monotonic() - begun > seconds:
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.005)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def timeless(value: Any) -> Any:
    """A JSON value without clocks and machines."""
    if isinstance(value, dict):
        clocks = ("seconds", "created", "environment", "files", "checksum", "peak", "started", "duration", "minutes")
        return {k: timeless(v) for k, v in value.items() if not any(clock in k for clock in clocks)}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def lines(path: Path) -> list[Any]:
    return [timeless(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def run_bits(run: Path) -> Any:
    """Every file, byte for byte; of those that tell times, all but these."""
    info = json.loads((run / "graphloss.json").read_text())
    assert info["status"] == "finished" and not (run / "checkpoints").exists(), "not finished"
    files = {path.relative_to(run).as_posix(): path for path in sorted(run.rglob("*")) if path.is_file()}
    assert not [name for name in files if ".writing" in name], "something half written is left"
    told = {"graphloss.json": timeless(info), "metrics.jsonl": lines(run / "metrics.jsonl"), "report.html": None}
    return {name: told[name] if name in told else digest(path) for name, path in files.items()}


def checkpoints(run: Path) -> dict[str, str]:
    """The newest checkpoint, which training may replace by a newer one alone."""
    steps = [int(path.name.rpartition("-")[2]) for path in run.glob("checkpoints/checkpoint-*")]
    return {"step": str(max(steps))} if steps else {}


def cells(out: Path) -> dict[str, Any]:
    return {path.name: timeless(json.loads(path.read_text())) for path in out.glob("cells/[!.]*.json")}


def bench_bits(out: Path) -> Any:
    """All cells, the grid, and the tables made of them."""
    tables = timeless(json.loads((out / "results.json").read_text()))
    return {"cells": cells(out), "bench.json": digest(out / "bench.json"), "results.json": tables}


def trials(out: Path) -> dict[str, Any]:
    """The scored trials in their order; a killed one has another number when it is begun again."""
    rows = [row for row in lines(out / "trials.jsonl") if row["state"] in ("complete", "pruned")]
    return {str(place): row | {"number": None} for place, row in enumerate(rows)}


def tune_bits(out: Path) -> Any:
    """All scored trials, and the settings that are left for a training."""
    return {"trials": trials(out), "best.toml": (out / "best.toml").read_text()}


def differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """Where two values differ: files, and inside those that are read, keys and places."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = sorted(found.keys() | wanted.keys())
        return [each for n in names for each in differences(found.get(n), wanted.get(n), f"{where}/{n}")]
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [e for n, pair in enumerate(zip(found, wanted, strict=True)) for e in differences(*pair, f"{where}/{n}")]
    return [] if found == wanted else [f"{where}: {str(found)[:300]} instead of {str(wanted)[:300]}"]


def jobs(data: Path, encoder: Path) -> list[Job]:
    small = ["--model", encoder, "--max-length", 32, "--batch-size", 24, "-q"]
    half = data.with_name(HALF)
    train = lambda out: ["train", data, "--out", out, "--epochs", 4, *small]  # noqa: E731
    twice = lambda out: ["train", half, "--out", out, "--epochs", 4, *small]  # noqa: E731
    bench = lambda out: [  # noqa: E731
        *("bench", data, "--shots", 6, "--seeds", 2, "--epochs", 2, "--losses", "ce,gloss", "--out", out, *small)
    ]
    tune = lambda out: ["tune", data, "--trials", 3, "--epochs", 2, "--out", out, *small]  # noqa: E731

    def again(begin: Callable[[Path], list[Any]]) -> Callable[[Path], list[Any]]:
        resume = lambda out: ["train", "--resume", "--out", out]  # noqa: E731
        return lambda out: resume(out) if (out / "graphloss.json").exists() else begin(out)

    return [
        Job("train", train, again(train), run_bits, lambda out: {}),
        Job("pseudo-labels", twice, again(twice), run_bits, lambda out: {}),
        Job("bench", bench, bench, bench_bits, cells),
        Job("tune", tune, tune, tune_bits, trials),
    ]


def one(job: Job, chance: random.Random, folder: Path, took: float, wanted: Any) -> tuple[int, str]:
    """Kill a command, repeat it until it ends, and compare; how often it was killed, and what is wrong."""
    out, log, kills = folder / "out", folder / "log", 0
    words = job.words(out)
    while True:
        limit = chance.uniform(0, took) if kills == 0 or chance.random() < 0.5 else None
        code = forked(words, folder, log, seconds=limit)
        if code == 0:
            break
        if code != -signal.SIGKILL:
            return kills, f"exit code {code}: {log.read_text()[-600:]}"
        kills += 1
        before = job.finished(out)
        step = checkpoints(out)
        words = job.again(out)
        if step and not checkpoints(out):
            return kills, "a checkpoint is lost"
        if lost := [name for name, value in before.items() if job.finished(out).get(name) != value]:
            return kills, f"lost: {lost}"
    after = job.finished(out)
    if kills and (gone := [name for name, value in before.items() if after.get(name) != value]):
        return kills, f"lost or changed after the repetition: {gone}"
    try:
        found = job.bits(out)
    except AssertionError as error:
        return kills, str(error)
    unlike = differences(found, wanted)
    return kills, "; ".join(["other bits than without a kill", *unlike[:9]]) if unlike else ""


def campaign(
    seed: int, kills: int, seconds: float, work: Path, encoder: Path, data: Path, only: str = ""
) -> tuple[dict[str, int], int]:
    """Kill commands in turn until so many kills or seconds are over; the kills of each, and the number of faults.

    Everything happens in the folder `work`, which stays if there is a fault.
    """
    import graphloss.cli
    import graphloss.research.bench.runner
    import graphloss.training.fit  # noqa: F401

    began, chance, faults = time.monotonic(), random.Random(seed), 0
    known: list[tuple[Job, float, Any]] = []
    for job in jobs(data, encoder):
        if only not in ("", job.name):
            continue
        folder = work / f"whole-{job.name}"
        folder.mkdir()
        start = time.monotonic()
        code = forked(job.words(folder / "out"), folder, folder / "log")
        assert code == 0, (folder / "log").read_text()[-2_000:]
        known.append((job, time.monotonic() - start, job.bits(folder / "out")))
    turn, done = 0, {job.name: 0 for job, *_ in known}
    while sum(done.values()) < kills and time.monotonic() - began < seconds:
        job, took, wanted = known[turn % len(known)]
        folder = work / f"{turn:03}-{job.name}"
        folder.mkdir()
        count, fault = one(job, chance, folder, took, wanted)
        done[job.name], turn = done[job.name] + count, turn + 1
        if fault:
            faults += 1
            print(f"{folder} (seed {seed}, {count} kills): {fault}", flush=True)
        else:
            shutil.rmtree(folder)
    if not faults:
        shutil.rmtree(work)
    return done, faults


def material(work: Path) -> tuple[Path, Path]:
    """A tiny encoder and a small table of texts."""
    import conftest

    class Factory:
        def mktemp(self, name: str) -> Path:
            path = work / name
            path.mkdir()
            return path

    bare = conftest.bare_encoder.__wrapped__(Factory())  # type: ignore[attr-defined]
    encoder = conftest.tiny_encoder.__wrapped__(bare)  # type: ignore[attr-defined]
    toy = conftest.make_toy({"cooking": 24, "football": 18, "music": 14, "space": 8})
    data = work / "toy.csv"
    with data.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *zip(toy.texts, toy.labels, strict=True)])
    with data.with_name(HALF).open("w", newline="") as stream:
        labels = [label if row % 2 else "" for row, label in enumerate(toy.labels)]
        csv.writer(stream).writerows([("text", "label"), *zip(toy.texts, labels, strict=True)])
    return encoder, data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--only", default="", choices=["train", "pseudo-labels", "bench", "tune"])
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="kills-"))
    done, faults = campaign(given.seed, given.kills, given.seconds, work, *material(work), given.only)
    each = ", ".join(f"{name} {count}" for name, count in done.items())
    print(f"{sum(done.values())} kills ({each}), {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
