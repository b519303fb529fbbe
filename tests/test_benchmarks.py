"""The results of the benchmarks: tables whose rows are told apart by their key, and a list of all that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_a_row_is_added_or_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from result_table import ResultTable

    table = ResultTable(tmp_path / "scores.jsonl", ("data", "seed"))
    assert table.rows() == [] and table.find("r8", 0) is None
    for data, seed, score in (("r8", 1, 0.5), ("mr", 0, 0.6), ("r8", 1, 0.7)):
        table.put({"data": data, "seed": seed, "score": score})
    assert table.rows() == [{"data": "mr", "seed": 0, "score": 0.6}, {"data": "r8", "seed": 1, "score": 0.7}]
    assert table.find("r8", 1) == table.rows()[1] and table.find("r8", "1") == table.rows()[1]
    with pytest.raises(ValueError, match="Out of range float"):
        table.put({"data": "r8", "seed": 2, "score": float("nan")})
    assert len(table.rows()) == 2


def test_the_committed_tables_have_a_row_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import losses

    for table, count in ((losses.RESULTS, 280), (losses.TUNED, 13)):
        keys = ["-".join(str(row[name]) for name in table.key) for row in table.rows()]
        assert keys == sorted(set(keys)) and len(keys) >= count


def test_the_list_of_benchmarks_has_them_all() -> None:
    listed = set(re.findall(r"`([\w.]+\.(?:py|jsonl?))", (BENCHMARKS / "README.md").read_text(encoding="utf-8")))
    there = {
        path.name for path in [*BENCHMARKS.glob("*.py"), *(BENCHMARKS / "results").iterdir()] if path.suffix != ".lock"
    }
    assert listed == there and len(there) >= 30
