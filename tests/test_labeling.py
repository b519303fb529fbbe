"""Labeling: what a session keeps through kills and undone answers, and which texts it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphloss.errors import InputError
from graphloss.run import label_journal as journals
from graphloss.run.label_journal import Journal
from graphloss.run.label_session import BATCH, Session

TEXTS = ["one", "two", "three", "four", "five"]
ABOUT = {"texts": 5}


def session(path: Path, given: list[str | None] | None = None, **options: object) -> Session:
    given = given or [None] * len(TEXTS)
    order = [row for row, label in enumerate(given) if label is None]
    return Session(TEXTS, given, order, Journal(path, ABOUT), **options)  # type: ignore[arg-type]


def test_a_session_goes_on_where_it_ended(tmp_path: Path) -> None:
    first = session(tmp_path / "j")
    assert first.current == 0
    first.answer("label", "  odd\u00a0one ")
    first.answer("unsure")
    first.answer("skip")
    first.answer("label", "=even")
    first.journal.close()
    again = session(tmp_path / "j")
    assert again.labels() == ["odd one", None, None, "=even", None] and again.current == 4
    assert (again.count("label"), again.count("unsure"), again.count("skip"), again.turn) == (2, 1, 1, 4)
    assert again.classes == ["odd one", "=even"]
    again.answer("label", "=even")
    assert again.current == 2  # what was put off comes last, and what one was not sure about does not come again
    again.answer("label", "odd one")
    assert again.current is None and again.counts() == {"odd one": 2, "=even": 2}
    with pytest.raises(InputError, match="every text is answered"):
        again.answer("label", "odd one")


def test_undo_takes_back_one_answer_after_another_through_a_restart(tmp_path: Path) -> None:
    first = session(tmp_path / "j")
    for name in ("a", "b", "c"):
        first.answer("label", name)
    first.answer("undo")
    assert first.current == 2 and first.labels()[:3] == ["a", "b", None] and first.classes == ["a", "b"]
    first.journal.close()
    again = session(tmp_path / "j")
    assert again.current == 2  # the text of the undone answer
    again.answer("undo")
    again.answer("undo")
    assert again.current == 0 and again.labels() == [None] * 5
    with pytest.raises(InputError, match="no answer to take back"):
        again.answer("undo")
    again.answer("label", "z")
    assert again.labels()[0] == "z" and len((tmp_path / "j").read_text().splitlines()) == 1 + 7


def test_an_undone_answer_gives_the_one_before_it_back(tmp_path: Path) -> None:
    one = session(tmp_path / "j", [None, "a", "a", "b", "b"])
    one.answer("skip")
    assert one.current == 0  # nothing but the skipped text is left
    one.answer("label", "a")
    assert one.current is None
    one.answer("undo")
    assert one.current == 0 and one.count("skip") == 1 and one.labels()[0] is None


def test_a_line_torn_by_a_kill_is_dropped_wherever_it_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "j"
    first = session(path)
    for name in ("card ärger", "b"):
        first.answer("label", name)
    first.journal.close()
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    seen = 0
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = sum(cut >= sum(map(len, lines[:end])) for end in (2, 3))
        again = session(path)
        assert sum(label is not None for label in again.labels()) == complete
        again.answer("label", "c")  # what is written next is whole again
        again.journal.close()
        last = session(path)
        assert sum(label is not None for label in last.labels()) == complete + 1
        last.journal.close()
        seen += 1
    assert seen == len(whole) + 1 > 100


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"not json\n", "line 2: not an answer"),
        (b"[1]\n", "line 2: not an answer"),
        (b'{"row": 9, "answer": "label", "label": "a"}\n', "line 2: not an answer about these texts"),
        (b'{"row": 1, "answer": "label"}\n', "line 2: not an answer about these texts"),
        (b'{"row": 1, "answer": "shrug"}\n', "line 2: not an answer about these texts"),
        (b'{"row": 1, "answer": "skip", "label": "a"}\n', "line 2: not an answer about these texts"),
    ],
)
def test_a_damaged_line_is_named(line: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(json.dumps(ABOUT).encode() + b"\n" + line)
    with pytest.raises(InputError, match=said):
        session(path)


def test_a_journal_about_other_texts_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "j", {"texts": 7}).close()
    with pytest.raises(InputError, match=r"other texts than these \(7 of them"):
        session(tmp_path / "j")


def test_an_answer_is_on_the_disk_before_the_session_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = session(tmp_path / "j")
    synced: list[bytes] = []
    monkeypatch.setattr(journals.os, "fsync", lambda file: synced.append((tmp_path / "j").read_bytes()))
    one.answer("label", "a")
    assert len(synced) == 1 and b'"label": "a"' in synced[0]

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journals.os, "fsync", full)
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(OSError, match="No space"):
        one.answer("label", "b")
    assert (tmp_path / "j").read_bytes() == before and one.current == 1 and one.labels()[1] is None


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "x" * 101, None, 7])
def test_a_name_that_is_none_is_refused_and_nothing_changes(name: object, tmp_path: Path) -> None:
    one = session(tmp_path / "j")
    with pytest.raises(InputError, match="expected"):
        one.answer("label", name)  # type: ignore[arg-type]
    assert one.turn == 0 and one.current == 0


def test_described_classes_are_all_that_there_are(tmp_path: Path) -> None:
    one = session(tmp_path / "j", classes=["card", "pin"], fixed=True)
    with pytest.raises(InputError, match=r"no class is called 'cart' Did you mean 'card'\?"):
        one.answer("label", "cart")
    one.answer("label", "pin")
    assert one.classes == ["card", "pin"]


def test_labels_that_the_pile_had_are_kept_and_not_asked(tmp_path: Path) -> None:
    one = session(tmp_path / "j", [None, "b", None, "a", None])
    assert one.classes == ["a", "b"] and one.current == 0
    one.answer("label", "c")
    assert one.current == 2 and one.labels() == ["c", "b", None, "a", None] and one.counts()["c"] == 1


def test_proposed_rows_come_first_and_the_shown_text_stays(tmp_path: Path) -> None:
    one = session(tmp_path / "j")
    one.proposed = [4, 0, 2]
    assert one.current == 0  # it was shown before they came
    one.answer("unsure")
    assert one.current == 4
    one.answer("skip")
    assert one.current == 2
    one.answer("label", "a")
    assert one.current == 1


def test_a_model_learns_after_a_second_class_and_after_each_batch(tmp_path: Path) -> None:
    texts = [str(i) for i in range(60)]
    one = Session(texts, [None] * 60, range(60), Journal(tmp_path / "j", {}))
    due = []
    for number in range(1, 50):
        one.answer("label", "b" if number == 3 else "a")
        if one.due():
            due.append(number)
            one.begin_batch()
    assert due == [3, 3 + BATCH, 3 + 2 * BATCH]


def test_the_journal_is_flushed_with_its_folder_when_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[bool] = []
    monkeypatch.setattr(journals.os, "fsync", lambda file: folders.append(Path(f"/proc/self/fd/{file}").is_dir()))
    Journal(tmp_path / "j", {}).close()
    assert folders == [False, True]
