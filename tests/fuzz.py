"""Hostile and careless inputs, all kinds and random ones, until a time is over: `make fuzz SEED=0 SECONDS=600`.

Whatever comes in, what comes out is the right answer or one message: no traceback, no changed answer. Every fault is
printed with what repeats it; the exit code is 1 if there is any.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import data_files
import settings_files
from damage import Damage, all_damages
from kills import campaign, material

Fault = str | None


def folders(work: Path, encoder: Path, chance: random.Random) -> Iterator[tuple[str, Callable[[], Fault]]]:
    """Every kind of damage to a run folder, then files of it with random bytes changed, cut, doubled or swapped."""
    from test_damage import make_run

    from graphloss.errors import InputError
    from graphloss.inference import run_folder
    from graphloss.text.encoder import load

    (work / "folders").mkdir()
    loaded = load(str(encoder))
    whole, other = make_run(work / "folders" / "whole", loaded, 0), make_run(work / "folders" / "other", loaded, 1)
    files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]

    def at_random(run: Path, other: Path, seed: int) -> None:
        own = random.Random(seed)
        name = own.choice(files)
        content = bytearray((run / name).read_bytes())
        place = own.randrange(len(content))
        deed = own.randrange(4)
        if deed == 0:
            content[place] ^= 1 << own.randrange(8)
        elif deed == 1:
            content[place : place + own.randint(1, 100)] = b""
        elif deed == 2:
            content[place:place] = own.randbytes(own.randint(1, 100))
        else:
            second = own.choice([each for each in files if (run / each).read_bytes() != bytes(content)])
            content = bytearray((run / second).read_bytes())
        (run / name).write_bytes(bytes(content))

    def tried(damage: Damage) -> Callable[[], Fault]:
        def check() -> Fault:
            run = work / "folders" / "run"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(whole, run)
            damage.do(run, other)
            try:
                run_folder.read_model(run)
            except InputError as error:
                return None if damage.file in str(error) else f"{damage.file} is not named: {error}"
            return "an answer"

        return check

    for damage in all_damages(whole):
        yield f"folder: {damage.name}", tried(damage)
    while True:
        seed = chance.randrange(2**32)
        yield f"folder: random {seed}", tried(Damage("", "", lambda run, other, s=seed: at_random(run, other, s)))


def data(work: Path, chance: random.Random) -> Iterator[tuple[str, Callable[[], Fault]]]:
    """Every kind of data file, then good ones with random bytes changed."""
    from graphloss.errors import InputError
    from graphloss.text.corpus import load_corpus

    def tried(case: data_files.Case, known: bool) -> Callable[[], Fault]:
        def check() -> Fault:
            folder = work / "data"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            source = case.make(folder)
            try:
                corpus = load_corpus(str(source), validation=0, describe="off", **case.options)
            except InputError as error:
                expected = not known or (isinstance(case.outcome, str) and case.outcome in str(error))
                return None if expected else f"refused: {error}"
            found = list(zip(corpus.train.texts, corpus.train.names, strict=True))
            if known and found != case.outcome:
                return f"other documents than expected: {found[:3]}"
            return None if all(text.strip() for text, _ in found) else "a text that is none"

        return check

    for case in data_files.all_cases():
        yield f"data: {case.name}", tried(case, True)
    while True:
        for case in data_files.random_cases(chance.randrange(2**32), 20):
            yield case.name, tried(case, False)


def settings(work: Path, chance: random.Random) -> Iterator[tuple[str, Callable[[], Fault]]]:
    """Every kind of settings file, then random mixtures of their bytes."""
    from graphloss.errors import InputError
    from graphloss.training.settings_errors import read_file

    cases = settings_files.all_cases()

    def tried(case: settings_files.Case, known: bool) -> Callable[[], Fault]:
        def check() -> Fault:
            file = work / f"settings{case.suffix}"
            file.write_bytes(case.content)
            began = time.process_time()
            try:
                first, second = read_file(file)
                found: Any = first | second
            except InputError as error:
                found = str(error)
            if (spent := time.process_time() - began) > 5:
                return f"took {spent:.0f} s"
            if not known:
                return None
            if isinstance(case.outcome, str):
                return None if case.outcome in found else f"expected {case.outcome!r}: {found}"
            return None if found == case.outcome else f"read as {found}"

        return check

    for case in cases:
        yield f"settings: {case.name}", tried(case, True)
    while True:
        seed = chance.randrange(2**32)
        own = random.Random(seed)
        first, second = own.choice(cases), own.choice(cases)
        cut, start = own.randrange(len(first.content) + 1), own.randrange(len(second.content) + 1)
        content = (first.content[:cut] + second.content[start:])[:50_000]
        mixed = settings_files.Case(f"random {seed}", own.choice((first, second)).suffix, content, "")
        yield f"settings: random {seed} ({first.name} + {second.name})", tried(mixed, False)


def losses(chance: random.Random) -> Iterator[tuple[str, Callable[[], Fault]]]:
    """Every loss on random careless tensors: a finite value with a finite gradient, or a message of ours."""
    import torch
    from test_loss_inputs import LOSSES

    values = (0.0, 1.0, -1.0, 1e-42, 1e-30, 1e30, 3e38, float("nan"), float("inf"), -float("inf"))
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64)
    kinds = (torch.int64, torch.int32, torch.uint8, torch.int8, torch.float32, torch.bool)

    def tried(name: str, seed: int) -> Callable[[], Fault]:
        def check() -> Fault:
            own, g = random.Random(seed), torch.Generator().manual_seed(seed)
            n, d = own.choice((0, 1, 2, 3, 12, 40)), own.choice((1, 2, 5, 32))
            z = torch.randn(n, d, generator=g) * own.choice((1.0, 1.0, 1e-20, 1e20))
            for _ in range(own.choice((0, 0, 1, 3))):
                if n:
                    z[own.randrange(n)] = own.choice(values)
            z = z.to(own.choice(dtypes))
            labels = torch.randint(-1, own.choice((1, 2, 5, 100)), (own.choice((n, n, n, n + 1)),), generator=g)
            labels = (labels * own.choice((1, 1, 10**6))).to(own.choice(kinds))
            if own.random() < 0.1:
                z = z.T
            z = z.requires_grad_() if z.is_floating_point() else z
            sound = z.is_floating_point() and bool(z.detach().float().isfinite().all())
            try:
                value = LOSSES[name]()(z, labels)
            except (ValueError, TypeError):
                return None  # ours by its type; that it says what came and the repair is tested kind by kind
            if not sound:
                return None if not bool(value.isfinite()) or bool(value.requires_grad) else "a number out of nothing"
            if not bool(value.isfinite()):
                return f"the value {float(value.detach())} of finite embeddings"
            (gradient,) = torch.autograd.grad(value, z, allow_unused=True)
            return None if gradient is None or bool(gradient.isfinite().all()) else "a gradient that is not finite"

        return check

    while True:
        name, seed = chance.choice(list(LOSSES)), chance.randrange(2**32)
        yield f"loss: {name}, random {seed}", tried(name, seed)


def run(stage: Iterator[tuple[str, Callable[[], Fault]]], seconds: float) -> tuple[int, list[str]]:
    """Try the inputs of a stage in turn until the time is over; how many, and what was wrong."""
    end, count, wrong = time.monotonic() + seconds, 0, []
    for name, check in stage:
        if time.monotonic() > end:
            break
        count += 1
        try:
            fault = check()
        except Exception as error:
            fault = f"{type(error).__name__}: {error} at {traceback.extract_tb(error.__traceback__)[-1]}"
        if fault:
            wrong.append(f"{name}: {fault}")
    return count, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=600, help="a tenth for each of four stages, the rest for kills"
    )
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    chance, failed = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        work = Path(folder)
        encoder, table = material(work)
        for name, stage in (
            ("damaged run folders", folders(work, encoder, chance)),
            ("data files", data(work, chance)),
            ("settings files", settings(work, chance)),
            ("inputs of losses", losses(chance)),
        ):
            count, wrong = run(stage, given.seconds / 10)
            failed += len(wrong)
            print(f"{name}: {count:,} tried, {len(wrong)} faults", *wrong[:40], sep="\n  ", flush=True)
        kept = Path(tempfile.mkdtemp(prefix="kills-"))
        killed, faults = campaign(given.seed, given.kills, given.seconds * 0.6, kept, encoder, table)
        failed += faults
        print(f"kills: {sum(killed.values()):,}, {faults} faults")
    print(f"seed {given.seed}: {failed} faults")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
