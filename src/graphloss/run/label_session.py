"""A labeling session: which text is shown next, what was answered, and what that makes of the labels.

Every answer is in the journal before the next text is shown, and a session on an old journal resumes where that ended.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphloss.errors import InputError
from graphloss.run.label_journal import Journal
from graphloss.terminal import OBEYED
from graphloss.text.columns import did_you_mean

if TYPE_CHECKING:
    from graphloss.run.label_guesses import Guesses, Suspects

BATCH = 16
"""Answers after which a model learns from them and proposes anew."""

PROPOSED = 4 * BATCH
"""Texts proposed at once: more are answered while it learns."""

LONGEST_NAME = 100
"""Characters of the name of a class."""

KINDS = ("label", "unsure", "skip", "undo")
"""Answers: a label; not sure, which sets a text aside; not now, which puts it last; the last answer taken back."""


class Session:
    """One text after another: the proposed ones, then the others, then those that were put off.

    Args:
        texts: n of the pile.
        original: n labels that they had before, None for unlabeled.
        order: rows to show, unless others are proposed.
        journal: where answers are kept; those in it count.
        classes: names in the order in which the page shows them; those of `original` where there are none.
        fixed: whether no other classes may be used.
    """

    def __init__(
        self,
        texts: Sequence[str],
        original: Sequence[str | None],
        order: Sequence[int],
        journal: Journal,
        *,
        classes: Sequence[str] = (),
        fixed: bool = False,
    ) -> None:
        self.texts, self.original, self.order, self.journal, self.fixed = texts, original, order, journal, fixed
        self.begun_with = list(classes) or sorted({name for name in original if name is not None})
        self.proposed: Sequence[int] = []  # rows to show before all others
        self.stack: list[dict[str, Any]] = []  # answers that were not taken back
        self.answers: dict[int, dict[str, Any]] = {}  # the last one about each row
        self.since, self.learned_classes = 0, 0  # answers since a batch was begun, and classes with a label then
        for place, entry in enumerate(journal.entries[1:], 1):
            kind, row = entry.get("answer"), entry.get("row")
            right = isinstance(entry.get("label"), str) == (kind == "label")
            if kind not in KINDS or not right or (kind != "undo" and row not in range(len(texts))):
                raise journal.damaged(place, "not an answer about these texts")
            self._take(entry)
        self.current = self.next_row()

    @property
    def turn(self) -> int:
        """How many answers there were, those taken back and the taking back too."""
        return len(self.journal.entries) - 1

    @property
    def classes(self) -> list[str]:
        """Names of all classes: those begun with, then new ones in the order in which they came up."""
        return list(dict.fromkeys([*self.begun_with, *(each["label"] for each in self.stack if "label" in each)]))

    def labels(self) -> list[str | None]:
        """The n labels as they are now."""
        found = list(self.original)
        for row, entry in self.answers.items():
            found[row] = entry.get("label", self.original[row])
        return found

    def counts(self) -> Counter[str]:
        """How many texts have each label."""
        return Counter(name for name in self.labels() if name is not None)

    def count(self, kind: str) -> int:
        """How many texts have an answer of a kind."""
        return sum(entry["answer"] == kind for entry in self.answers.values())

    def answer(self, kind: str, label: object = None) -> None:
        """Answer for the current text, or take the last answer back, and show the next one.

        Raises:
            InputError: there is no such answer now; nothing is changed.
            OSError: it cannot be kept; nothing is changed.
        """
        entry: dict[str, Any] = {"answer": kind}
        if kind not in KINDS:
            raise InputError(f"expected an answer out of {', '.join(KINDS)}, got {kind!r:.60}")
        if kind == "undo" and not self.stack:
            raise InputError("there is no answer to take back")
        if kind != "undo":
            if self.current is None:
                raise InputError("every text is answered")
            entry = {"row": self.current} | entry | ({"label": self._name(label)} if kind == "label" else {})
        self.journal.append(entry)
        back = self._take(entry)
        self.current = self.next_row() if back is None else back

    def next_row(self) -> int | None:
        """The row to show next; None where every text is answered."""
        new = (row for rows in (self.proposed, self.order) for row in rows if row not in self.answers)
        put_off = (each["row"] for each in self.stack if each["answer"] == "skip" and each is self.answers[each["row"]])
        return next(new, next(put_off, None))

    def due(self) -> bool:
        """Whether a model should learn: a batch is full, or there is a second class for the first time."""
        return self.since >= BATCH or self.learned_classes < 2 <= len(self.counts())

    def begin_batch(self) -> list[str | None]:
        """The labels to learn from now."""
        self.since, self.learned_classes = 0, len(self.counts())
        return self.labels()

    def _name(self, name: object) -> str:
        if not isinstance(name, str) or not name.strip() or OBEYED.search(name.strip()):
            raise InputError("expected the name of a class: letters in one line")
        name = " ".join(name.split())
        if len(name) > LONGEST_NAME:
            raise InputError(f"expected a name of at most {LONGEST_NAME} characters, got {len(name):,}")
        if self.fixed and name not in self.begun_with:
            raise InputError(f"no class is called {name!r}{did_you_mean(name, self.begun_with)}")
        return name

    def _take(self, entry: dict[str, Any]) -> int | None:
        """Count an entry; the row that an undone answer was about."""
        if entry["answer"] != "undo":
            self.stack.append(entry)
            self.answers[entry["row"]] = entry
            self.since += 1
            return None
        if not self.stack:
            return None
        row = int(self.stack.pop()["row"])
        del self.answers[row]
        self.answers.update((row, each) for each in self.stack if each["row"] == row)  # the last one stays
        return row


class Desk:
    """A session, its advisor and its labels file: answers all requests of the page, safe to call from threads.

    `about` is what the page always shows, `title`, `out` and `review`; `lines` has a line about each class.
    """

    def __init__(
        self,
        session: Session,
        advisor: Guesses | Suspects,
        write: Callable[[list[str | None]], None],
        about: dict[str, Any],
        lines: dict[str, str],
    ) -> None:
        self.session, self.advisor, self.about, self.lines = session, advisor, about, lines
        self._write, self._writing, self._lock = write, threading.Lock(), threading.RLock()
        self._learning, self._problem = False, ""

    def state(self) -> dict[str, Any]:
        """What the page shows now."""
        with self._lock:
            session, row, counts = self.session, self.session.current, self.session.counts()
            shown: dict[str, Any] = {"row": None}
            if row is not None:
                shown = {"row": row + 1, "text": session.texts[row], "given": session.original[row]}
                shown |= self.advisor.about(row)
            return {
                **shown,
                **self.about,
                "turn": session.turn,
                "classes": [
                    {"name": name, "count": counts[name], "line": self.lines.get(name, "")} for name in session.classes
                ],
                "fixed": session.fixed,
                "labeled": session.count("label"),
                "unsure": session.count("unsure"),
                "skipped": session.count("skip"),
                "total": len(session.order),
                "batch": [session.since, BATCH],
                "learning": self._learning,
                "round": self.advisor.rounds,
                "forecast": self.advisor.forecast,
                "last": session.stack[-1] if session.stack else None,
                "problem": self._problem,
            }

    def answer(self, turn: int, kind: str, label: object) -> dict[str, Any] | None:
        """Answer about the current text; the new state, or None if `turn` is over already, as in a second window.

        Raises:
            InputError: there is no such answer.
            OSError: it cannot be kept.
        """
        with self._lock:
            if turn != self.session.turn:
                return None
            self.session.answer(kind, label)
            if self.session.due() and not self._learning:
                self._learning = True
                threading.Thread(target=self._learn_in_turn, daemon=True).start()
            return self.state()

    def points(self) -> dict[str, Any]:
        """The map, see `Guesses.points`."""
        with self._lock:
            labels, classes, current = self.session.labels(), self.session.classes, self.session.current
        return self.advisor.points(labels, classes, current)

    def begin(self) -> None:
        """Learn from what is labeled, before anything is shown."""
        self.learn()
        self.session.current = self.session.next_row()

    def learn(self) -> None:
        """Write the file, learn from all that is labeled, and propose texts."""
        with self._lock:
            labels, classes = self.session.begin_batch(), self.session.classes
            aside = self.session.count("unsure") + self.session.count("skip")
        self.write(labels)
        proposed = self.advisor.learn(labels, classes, PROPOSED + aside)
        with self._lock:
            shown = set(self.session.order)
            self.session.proposed = [row for row in proposed if row in shown]  # not a blank text

    def write(self, labels: list[str | None]) -> None:
        """Write the labels file; the page shows if it cannot be written, for the journal has every answer."""
        try:
            with self._writing:
                self._write(labels)
            self._problem = ""
        except OSError as error:
            self._problem = f"{self.about['out']} cannot be written ({error.strerror}); the journal has every answer"

    def _learn_in_turn(self) -> None:
        try:
            due = True
            while due:
                self.learn()
                with self._lock:
                    self._learning = due = self.session.due()
        except BaseException:  # its traceback is printed; the next batch tries again
            self._learning = False
            raise
