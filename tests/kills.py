"""Kills at random moments of training, tuning, comparing and resuming: nothing is lost, and the end has the same bits.

    python tests/kills.py --seed 0 --kills 50 --seconds 600

Each command runs in a forked process, which has the libraries loaded already, and is killed (SIGKILL) after a random
share of the time that an undisturbed one takes. It is then repeated, as its user would, and half of the time killed
again. In the end its files must be those of the undisturbed one, but for clocks; what stood finished on the disk at a
kill must still stand there.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
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
            from graphloss.research.tuning import storage

            storage.HEARTBEAT, storage.GRACE = 1, 2  # a killed trial is noticed at once
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
    tables = json.loads((out / "results.json").read_text())
    return cells(out), digest(out / "bench.json"), timeless(tables)


def trials(out: Path) -> dict[str, Any]:
    """The scored trials by their settings; a killed one has another number when it is begun again."""
    rows = [row for row in lines(out / "trials.jsonl") if row["state"] in ("complete", "pruned")]
    return {json.dumps(row.pop("settings"), sort_keys=True): row | {"number": None} for row in rows}


def tune_bits(out: Path) -> Any:
    """All scored trials, and the settings that are left for a training."""
    return trials(out), digest(out / "best.toml")


def jobs(data: Path, encoder: Path) -> list[Job]:
    small = ["--model", encoder, "--max-length", 32, "--batch-size", 24, "-q"]
    train = lambda out: ["train", data, "--out", out, "--epochs", 4, *small]  # noqa: E731
    resume = lambda out: ["train", *([] if (out / "graphloss.json").exists() else [data]), "--resume", "--out", out]  # noqa: E731
    bench = lambda out: [  # noqa: E731
        *("bench", data, "--shots", 6, "--seeds", 2, "--epochs", 2, "--losses", "ce,gloss", "--out", out, *small)
    ]
    tune = lambda out: ["tune", data, "--trials", 3, "--epochs", 2, "--out", out, *small]  # noqa: E731

    def again(out: Path) -> list[Any]:
        return resume(out) if (out / "graphloss.json").exists() else train(out)

    return [
        Job("train", train, again, run_bits, lambda out: {}),
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
    return kills, "" if found == wanted else "other bits than without a kill"


def campaign(seed: int, kills: int, seconds: float, work: Path, encoder: Path, data: Path) -> tuple[int, list[str]]:
    """Kill commands in turn until so many kills or seconds are over; how many, and what was wrong."""
    import graphloss.cli
    import graphloss.research.bench.runner
    import graphloss.training.fit  # noqa: F401

    began, chance, done, wrong = time.monotonic(), random.Random(seed), 0, []
    known: list[tuple[Job, float, Any]] = []
    for job in jobs(data, encoder):
        folder = work / f"whole-{job.name}"
        folder.mkdir()
        start = time.monotonic()
        code = forked(job.words(folder / "out"), folder, folder / "log")
        assert code == 0, (folder / "log").read_text()[-2_000:]
        known.append((job, time.monotonic() - start, job.bits(folder / "out")))
    turn = 0
    while done < kills and time.monotonic() - began < seconds:
        job, took, wanted = known[(0, 0, 1, 0, 2)[turn % 5]]
        folder = work / f"{turn:03}-{job.name}"
        folder.mkdir()
        count, fault = one(job, chance, folder, took, wanted)
        done, turn = done + count, turn + 1
        if fault:
            wrong.append(f"{folder.name} (seed {seed}): {fault}")
    return done, wrong


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
    return encoder, data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=600)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        work = Path(folder)
        done, wrong = campaign(given.seed, given.kills, given.seconds, work, *material(work))
    print(f"{done} kills, {len(wrong)} faults")
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
