"""Means, intervals, paired differences and Holm's correction, each beside a literal computation; cells into rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from graphloss.research.bench.statistics import estimate, holm, paired
from graphloss.research.bench.summary import COMPARED, SCORES, summarize

T_TABLE = {2: 12.7062, 3: 4.3027, 5: 2.7764, 10: 2.2622}  # of a printed table: n seeds -> t(0.975, n - 1)


def literal_mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    variance = math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1)
    return mean, T_TABLE[len(values)] * math.sqrt(variance / len(values))


def literal_holm(ps: Sequence[float]) -> list[float]:
    """For each p the largest of (m - rank + 1) p' over the p' that are no larger, one at the most."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    steps = {i: min(1.0, (len(ps) - rank) * ps[i]) for rank, i in enumerate(order)}
    return [max(steps[j] for j in order[: order.index(i) + 1]) for i in range(len(ps))]


@pytest.mark.parametrize("n", sorted(T_TABLE))
def test_an_interval_is_that_of_students_t(n: int) -> None:
    values = np.random.default_rng(n).normal(0.7, 0.05, n).tolist()
    found = estimate(values)
    mean, half = literal_mean_and_half(values)
    assert found.seeds == n and found.low is not None and found.high is not None
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.high - found.mean == pytest.approx(half, rel=1e-4) and half > 0
    assert found.mean - found.low == pytest.approx(half, rel=1e-4)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_paired_differences_are_those_of_a_paired_t_test(n: int) -> None:
    rng = np.random.default_rng(100 + n)
    theirs = rng.normal(0.6, 0.1, n)
    ours = theirs + rng.normal(0.02, 0.03, n)
    found = paired(ours.tolist(), theirs.tolist())
    said = stats.ttest_rel(ours, theirs)
    mean, half = literal_mean_and_half((ours - theirs).tolist())
    assert found.p == pytest.approx(said.pvalue, rel=1e-9) and 0 < said.pvalue < 1
    assert found.mean == pytest.approx(mean) and found.seeds == n
    assert found.low == pytest.approx(mean - half, rel=1e-3, abs=1e-6)
    assert found.high == pytest.approx(mean + half, rel=1e-3, abs=1e-6)


def test_one_seed_has_no_interval_and_no_p_value() -> None:
    assert estimate([0.5]) == (0.5, None, None, 1)
    assert paired([0.5], [0.4])[1:] == (None, None, None, 1)


def test_differences_without_spread_have_a_p_value_only_if_they_are_zero() -> None:
    assert paired([0.5, 0.7], [0.5, 0.7]).p == 1.0
    assert paired([0.6, 0.8], [0.5, 0.7]).p is None


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [[0.1, 0.2]]])
def test_what_is_no_number_a_seed_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="finite number per seed"):
        estimate(values)


def test_what_does_not_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="expected pairs, got 2 and 3"):
        paired([0.1, 0.2], [0.1, 0.2, 0.3])


def test_holm_by_hand() -> None:
    # in rising order 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, none below its predecessor
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.4]) == [pytest.approx(0.8), None, pytest.approx(0.8)]
    assert holm([]) == []


def test_holm_beside_the_literal_rule_and_never_below_the_p_value() -> None:
    rng, seen = np.random.default_rng(0), 0
    for m in range(1, 12):
        ps = (rng.uniform(size=m) ** 3).tolist()
        found = holm(ps)
        assert found == pytest.approx(literal_holm(ps))
        assert all(corrected is not None and p <= corrected <= 1 for p, corrected in zip(ps, found, strict=True))
        seen += m
    assert seen == 66


def cell(data: str, shots: str, loss: str, mode: str, seed: int, base: float) -> dict[str, Any]:
    """A result with as much as the tables need, its scores drawn around `base`."""
    rng = np.random.default_rng([seed, len(data), len(shots), len(loss), len(mode)])
    scores = {
        who: {what: base + rng.normal(0, 0.02) for what in ("accuracy", "macro_f1", "ece")}
        for who in ("head", "probe", "knn", "default")
    }
    return {
        "data": data,
        "shots": shots,
        "loss": loss,
        "mode": mode,
        "seed": seed,
        "split": "test",
        "scores": scores,
        "macro_silhouette": float(rng.normal(0.1, 0.02)),
        "to_99": None if loss == "untouched" else {"epochs": 1.0 + seed, "seconds": 10.0 * (1 + seed)},
        "training_seconds": 30.0 + seed,
    }


ARMS = (
    ("untouched", "none"),
    ("ce", "combined"),
    ("gloss", "combined"),
    ("supcon", "combined"),
    ("gloss", "standalone"),
)


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    """Two data sets, two shots, five arms, four seeds; one data set is harder."""
    return [
        cell(data, shots, loss, mode, seed, base + 0.02 * (loss == "gloss"))
        for seed, (data, base), shots, (loss, mode) in itertools.product(
            range(4), (("r8", 0.8), ("ohsumed", 0.5)), ("8", "all"), ARMS
        )
    ]


def test_rows_hold_the_means_and_the_differences_of_their_seeds(cells: list[dict[str, Any]]) -> None:
    rows = summarize(cells)
    assert len(rows) == 4 * 5 + 5
    seen = 0
    for row in rows:
        if row["data"] == "overall":
            continue
        mine, base = (
            [
                one["scores"]["head"]["macro_f1"]
                for one in cells
                if (one["data"], one["shots"], one["loss"], one["mode"]) == (row["data"], row["shots"], *arm)
            ]
            for arm in ((row["loss"], row["mode"]), ("ce", "combined"))
        )
        assert len(mine) == len(base) == 4
        assert row["scores"]["head_macro_f1"]["mean"] == pytest.approx(np.mean(mine))
        if row["loss"] == "ce":
            assert row["against_ce"] is None
            continue
        found = row["against_ce"]["head_macro_f1"]
        assert found["mean"] == pytest.approx(np.mean(np.subtract(mine, base)))
        assert found["p"] == pytest.approx(stats.ttest_rel(mine, base).pvalue)
        seen += 1
    assert seen == 16


def test_cross_entropy_stands_beside_every_mode(cells: list[dict[str, Any]]) -> None:
    rows = summarize(cells)
    assert sum(row["loss"] == "ce" and row["data"] == "r8" and row["shots"] == "8" for row in rows) == 1
    compared = {(row["loss"], row["mode"]) for row in rows if row["against_ce"]}
    assert compared == {arm for arm in ARMS if arm[0] != "ce"}


def test_the_overall_row_is_paired_by_seed(cells: list[dict[str, Any]]) -> None:
    row = next(
        r for r in summarize(cells) if r["data"] == "overall" and r["loss"] == "gloss" and r["mode"] == "combined"
    )

    def by_seed(loss: str, mode: str) -> list[float]:
        return [
            float(
                np.mean(
                    [
                        one["scores"]["head"]["accuracy"]
                        for one in cells
                        if (one["loss"], one["mode"], one["seed"]) == (loss, mode, seed)
                    ]
                )
            )
            for seed in range(4)
        ]

    mine, base = by_seed("gloss", "combined"), by_seed("ce", "combined")
    assert row["scores"]["head_accuracy"]["mean"] == pytest.approx(np.mean(mine))
    assert row["against_ce"]["head_accuracy"]["p"] == pytest.approx(stats.ttest_rel(mine, base).pvalue)


def test_p_values_are_corrected_over_all_rows_of_a_score(cells: list[dict[str, Any]]) -> None:
    rows = [row for row in summarize(cells) if row["against_ce"]]
    for name in COMPARED:
        found = [row["against_ce"][name] for row in rows]
        assert [one["p_holm"] for one in found] == pytest.approx(literal_holm([one["p"] for one in found]))
        assert {one["comparisons"] for one in found} == {20}
    assert len(COMPARED) == 10 and len(SCORES) == 13


def test_seeds_that_are_missing_on_one_side_are_left_out_of_the_pairs(cells: list[dict[str, Any]]) -> None:
    fewer = [one for one in cells if not (one["loss"] == "gloss" and one["seed"] == 2)]
    row = next(r for r in summarize(fewer) if r["loss"] == "gloss" and r["data"] == "r8")
    assert row["seeds"] == [0, 1, 3] and row["against_ce"]["head_macro_f1"]["seeds"] == 3


def test_without_cross_entropy_there_is_nothing_to_compare(cells: list[dict[str, Any]]) -> None:
    rows = summarize(one for one in cells if one["loss"] != "ce")
    assert rows and not any(row["against_ce"] for row in rows)
