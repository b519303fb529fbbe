"""The page for labeling: who is answered, what the page is told, what is learned, and the file that is written."""

from __future__ import annotations

import csv
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Call, Toy

from graphloss.disk import locked
from graphloss.losses.graph import unit
from graphloss.run import label_server
from graphloss.run.label_guesses import Guesses, class_probabilities
from graphloss.run.label_journal import Journal
from graphloss.run.label_server import HOST, Listener, application, listening
from graphloss.run.label_session import BATCH, Desk, Session
from graphloss.text.tables import read_whole

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

NASTY = "<script>alert(1)</script> & <img src=x onerror=alert(2)>"


def blobs(n: int, classes: int, *, d: int = 24, seed: int = 0) -> tuple[torch.Tensor, list[str]]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    z = unit(torch.randn(classes, d, generator=generator)[y] + 0.6 * torch.randn(n, d, generator=generator))
    return z, [f"class {label}" for label in y.tolist()]


def desk_of(path: Path, n: int = 60, classes: int = 3) -> tuple[Desk, list[str], list[list[str | None]]]:
    z, truth = blobs(n, classes)
    texts = [NASTY, *(f"text {row}" for row in range(1, n))]
    written: list[list[str | None]] = []
    session = Session(texts, [None] * n, range(n), Journal(path, {}))
    advisor = Guesses(
        z, texts, {}, lambda lines: torch.randn(len(lines), 24, generator=torch.Generator().manual_seed(9))
    )
    about = {"title": "t", "out": "o", "review": False}
    desk = Desk(session, advisor, lambda found: written.append(list(found)), about, {})
    desk.begin()
    return desk, truth, written


@dataclass
class Server:
    """A page that is answered by a real server in a thread."""

    desk: Desk
    truth: list[str]
    written: list[list[str | None]]
    listener: Listener

    def ask(
        self, path: str, body: Any = None, *, token: str | None = None, host: str | None = None, **headers: str
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        line = http.client.HTTPConnection(HOST, self.listener.port, timeout=30)
        sent = {"Host": f"{HOST}:{self.listener.port}" if host is None else host} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        token = self.listener.token if token is None else token
        line.request("GET" if data is None else "POST", f"/{token}/{path}", data, sent)
        response = line.getresponse()
        raw = response.read()
        line.close()
        kind = response.getheader("content-type", "")
        return response.status, json.loads(raw) if kind == "application/json" else raw.decode(), response.headers

    def answer(self, kind: str, label: str | None = None, turn: int | None = None) -> tuple[int, Any]:
        body = {"turn": self.desk.session.turn if turn is None else turn, "answer": kind, "label": label}
        return self.ask("answer", body)[:2]

    def settled(self) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while (state := self.ask("state")[1])["learning"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return dict(state)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    desk, truth, written = desk_of(tmp_path / "j")
    with listening(0) as listener:
        config = uvicorn.Config(application(desk, listener.token, listener.port), log_level="error", lifespan="off")
        runs = uvicorn.Server(config)
        thread = threading.Thread(target=runs.run, kwargs={"sockets": [listener.socket]})
        thread.start()
        yield Server(desk, truth, written, listener)
        runs.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def test_nothing_is_answered_without_the_token(server: Server) -> None:
    state = server.desk.session.turn
    refused = 0
    for token in (
        "",
        "x",
        server.listener.token[:-1],
        server.listener.token + "x",
        server.listener.token.upper(),
        "ä%20",
    ):
        for path, body in (("", None), ("state", None), ("map", None), ("answer", {"turn": 0, "answer": "unsure"})):
            status, said, _ = server.ask(path, body, token=token.replace("ä", "%C3%A4"))
            assert status == 403 and "text 1" not in said and server.listener.token not in said
            refused += 1
    assert refused == 24 and server.desk.session.turn == state
    assert server.ask("state")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "10.0.0.1:{port}", "127.0.0.1:{port}.evil", ""]
)
def test_a_request_by_another_name_is_refused(server: Server, host: str) -> None:
    port = str(server.listener.port)
    assert server.ask("state", host=host.replace("{port}", port))[0] == 403
    assert server.ask("state", host=f"localhost:{port}")[0] == 200


def test_nothing_listens_but_on_the_loopback_address(server: Server) -> None:
    assert server.listener.socket.getsockname()[0] == "127.0.0.1"
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        if not str(address).startswith("127."):
            with pytest.raises(OSError), socket.create_connection((address, server.listener.port), timeout=2):  # noqa: PT011
                pass


def test_no_other_page_may_read_and_nothing_of_a_text_is_markup(server: Server) -> None:
    status, page, headers = server.ask("", Origin="http://evil.example")
    assert status == 200 and not [name for name in headers if name.lower().startswith("access-control")]
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert page.count(f'nonce="{nonce}"') == 2 and "{nonce}" not in page
    assert "http://" not in page and "https://" not in page and "innerHTML" not in page
    assert NASTY not in page and server.ask("state")[2]["x-content-type-options"] == "nosniff"
    assert nonce not in server.ask("")[2]["content-security-policy"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"a"', b'{"turn": 0}', b'{"turn": "x", "answer": "skip"}', b'{"turn": 0, "answer": "shrug"}',
     b'{"turn": 0, "answer": "label"}', b'{"turn": 0, "answer": "label", "label": ["a"]}', b"[" * 9000, b" " * 20_000],
)  # fmt: skip
def test_what_is_no_answer_is_refused_and_nothing_changes(server: Server, body: bytes) -> None:
    status, said, _ = server.ask("answer", body)
    assert status == 400 and said["error"] and server.desk.session.turn == 0
    assert server.ask("answer", {"turn": 0, "answer": "skip"}, Content_Type="text/plain")[0] == 400
    assert server.ask("state")[0] == 200


def test_an_answer_comes_once_from_two_windows(server: Server) -> None:
    status, state = server.answer("label", "a", turn=0)
    assert status == 200 and state["turn"] == 1
    status, late = server.answer("label", "b", turn=0)
    assert status == 409 and late["turn"] == 1 and server.desk.session.counts() == {"a": 1}


def test_a_full_disk_is_said_and_the_text_stays(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Journal, entry: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        status, said = server.answer("label", "a")
        assert status == 507 and "No space left on device" in said["error"]
    status, state = server.answer("label", "a")
    assert status == 200 and state["labeled"] == 1


def test_guesses_and_a_map_come_while_one_labels(server: Server) -> None:
    first = server.ask("state")[1]
    assert "guess" not in first and first["classes"] == [] and first["row"] == server.desk.session.proposed[0] + 1
    assert first["reason"].startswith("stands for")
    right = guessed = 0
    for number in range(2 * BATCH + 4):
        state = server.settled()
        label = server.truth[state["row"] - 1]
        if state.get("guess"):
            guessed += 1
            right += state["guess"][0]["name"] == label
            assert sum(each["probability"] for each in state["guess"]) <= 1.0001 and state["why"]["text"]
        assert server.answer("label", label)[0] == 200, number
    state = server.settled()
    assert guessed > 2 * BATCH - 6 and right > 0.7 * guessed and state["round"] >= 4
    assert state["forecast"].startswith("32 more labels: ") and first["forecast"] == ""
    assert state["labeled"] == 2 * BATCH + 4 and sum(each["count"] for each in state["classes"]) == 2 * BATCH + 4
    assert sum(name is not None for name in server.written[-1]) >= 2 * BATCH  # written after each batch
    assert server.ask("map")[1] == {"points": []}
    advisor = server.desk.advisor
    assert isinstance(advisor, Guesses)
    advisor.draw()
    found = server.ask("map")[1]
    assert len(found["points"]) == 60 and len(found["current"]) == 2
    assert sum(point[2] >= 0 for point in found["points"]) == 2 * BATCH + 4
    assert all(0 <= point[0] <= 1 and 0 <= point[1] <= 1 for point in found["points"])


def test_texts_beyond_the_map_stand_where_the_most_similar_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphloss.run import label_guesses

    monkeypatch.setattr(label_guesses, "MAPPED", 40)
    z, _ = blobs(100, 3)
    advisor = Guesses(z, ["t"] * 100, {}, lambda lines: z[:0])
    advisor.draw()
    assert advisor._map is not None
    rows, flat, nearest = advisor._map
    assert len(rows) == 40 and flat.shape == (40, 2) and nearest[rows].tolist() == list(range(40))
    for row in range(100):
        assert (z[rows] @ z[row])[nearest[row]] == (z[rows] @ z[row]).max()
    labels = [None if row in rows else "a" for row in range(100)]
    found = advisor.points(labels, ["a"], 3)
    assert len(found["points"]) == 100 and sum(point[2] == 0 for point in found["points"]) == 60


def test_descriptions_guess_before_there_is_a_label() -> None:
    z, truth = blobs(60, 3)
    names = sorted(set(truth))
    lines = torch.stack([z[[row for row in range(60) if truth[row] == name]].mean(0) for name in names])
    y, nothing = torch.tensor([names.index(name) for name in truth]), torch.zeros(0)
    p = class_probabilities(z, torch.full((60,), -1), unit(lines), torch.arange(3), 3)
    assert p is not None and (p.argmax(1) == y).float().mean() > 0.95
    assert class_probabilities(z, torch.tensor([0, *[-1] * 59]), z[:0], nothing, 3) is None
    p = class_probabilities(z, y, z[:0], nothing, 3)  # nothing is left without a label
    assert p is not None and (p.argmax(1) == y).float().mean() > 0.95


def test_a_round_takes_at_most_five_seconds_for_5000_texts() -> None:
    z, truth = blobs(5000, 8, d=384)
    advisor = Guesses(z, ["t"] * 5000, {}, lambda lines: z[: len(lines)])
    labels = [*truth[:48], *[None] * 4952]
    Guesses(z[:60], ["t"] * 60, {}, advisor.encode).learn([*truth[:20], *[None] * 40], sorted(set(truth)), 8)  # imports
    began = time.process_time()  # of all threads: what the test's machine does beside it does not count
    rows = advisor.learn(labels, sorted(set(truth)), 64)
    assert time.process_time() - began < 5 and len(set(rows)) == 64 and min(rows) >= 48


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def pile(tmp_path: Path) -> Path:
    rows = [["1", "=a formula"], ["-2", " "], ["3", "where is my card"], ["4", "my pin is wrong"]]
    return write_csv(tmp_path / "pile.csv", ["number", "text"], rows)


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[Desk]:
    """Instead of a server: label the first two texts, and give the desk back."""
    desks: list[Desk] = []

    def serve(desk: Desk, listener: Listener, on_address: Callable[[str], None]) -> None:
        on_address(listener.address)
        desks.append(desk)
        for name in ("card", "pin"):
            assert desk.answer(desk.session.turn, "label", name) is not None

    monkeypatch.setattr(label_server, "serve", serve)
    return desks


def test_the_file_has_all_columns_row_numbers_and_the_labels(
    pile: Path, tiny_encoder: Path, tmp_path: Path, call: Call, answered: list[Desk]
) -> None:
    out = tmp_path / "labels.csv"
    words = ("label", pile, "--model", tiny_encoder, "--out", out, "--no-open")
    code, said, error = call(*words)
    assert code == 0 and said.startswith("http://127.0.0.1:") and "2 of 3 labeled" in error
    with out.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["number", "text", "label", "row", "reason"] and [row[2] for row in rows[1:]].count("") == 1
    assert {row[1] for row in rows[1:]} == {"'=a formula", "where is my card", "my pin is wrong"}  # no cell computes
    assert all(row[0] == row[3] and row[4] == ("label" if row[2] else "") for row in rows[1:])
    assert sorted(read_whole(out).texts) == ["=a formula", "my pin is wrong", "where is my card"]  # as they were
    assert answered[0].session.classes == ["card", "pin"]


def test_descriptions_are_all_the_classes_and_labels_of_the_file_are_kept(
    tiny_encoder: Path, tmp_path: Path, call: Call, answered: list[Desk]
) -> None:
    texts = ["my card", "my pin", "another card", "pin again", "card card"]
    rows = [[text, "old" if place == 1 else "", str(-place)] for place, text in enumerate(texts)]
    pile = write_csv(tmp_path / "pile.csv", ["text", "label", "score"], rows)
    (tmp_path / "c.toml").write_text('pin = "the pin"\ncard = ["the card", "a card"]\n')
    out = tmp_path / "labels.csv"
    code, _, error = call(
        "label", pile, "--describe", tmp_path / "c.toml", "--model", tiny_encoder, "--out", out, "--no-open"
    )
    assert code == 0, error
    state = answered[0].state()
    assert [each["name"] for each in state["classes"]] == ["pin", "card", "old"] and state["fixed"]
    assert state["classes"][0]["line"] == "the pin" and state["total"] == 4 and state["guess"]
    with out.open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert [*found[0]] == ["text", "label", "score", "row", "reason"] and len(found) == 5
    assert {row["label"] for row in found[:3]} == {"card", "pin", "old"}
    scores = read_whole(out).columns.index("score")
    assert sorted(row[scores] for row in read_whole(out).rows) == ["-1", "-2", "-3", "-4", "0"]


def test_what_cannot_be_labeled_ends_with_2_and_a_way_out(
    pile: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "labels.csv", 0
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "theirs.csv").write_text("text,label\na,b\n")
    labeled = write_csv(tmp_path / "done.csv", ["text", "label"], [["a", "x"], ["b", "y"]])
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        for words, said in (
            ((pile, "--port", port), f"--port {port}: cannot be used"),
            ((pile, "--port", 70000), "65535"),
            ((pile, "--out", tmp_path / "no" / "labels.csv"), "give a file in a folder that is there"),
            ((pile, "--out", tmp_path / "labels.json"), "expected a name that ends in .csv"),
            ((pile, "--out", tmp_path / "theirs.csv"), "is there already, and no theirs.csv.journal beside it"),
            ((tmp_path / "empty.txt", "--out", out), "holds no text"),
            ((labeled, "--out", out), "every text has a label in column 'label'; to check labels"),
            ((tmp_path / "nothing.csv", "--out", out), "there is no such file"),
            ((pile, "--describe", tmp_path / "no.toml", "--out", out), "no such file"),
            (("--out", out), "expected a file of texts"),
            (("--review", tmp_path / "norun", "--out", out), "no such run folder"),
            ((pile, "--review", tmp_path, "--model", "m", "--out", out), "the run has its own encoder"),
        ):
            code, _, error = call("label", *words)
            assert code == 2 and said in error and "Traceback" not in error, (words, error)
            seen += 1
    assert seen == 12 and not out.exists() and not [*tmp_path.glob("*.journal"), *tmp_path.glob(".*")]
    (tmp_path / "labels.csv.journal").write_text('{"texts": 9, "fingerprint": "x"}\n')
    code, _, error = call("label", pile, "--out", out)
    assert code == 2 and "other texts than these (9 of them; here are 4)" in error
    assert not [*tmp_path.glob(".*")]
    with locked(tmp_path / ".labels.csv.lock"):
        code, _, error = call("label", pile, "--out", out)
    assert code == 2 and "another `graphloss label` writes it" in error
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, error = call("label", pile, "--out", tmp_path / "other.csv")
    assert code == 2 and "pip install 'graphloss[serve]'" in error


def test_review_writes_the_labels_corrected_or_kept(
    toy: Toy, tiny_encoder: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [{"music": "space"}.get(name, name) if row % 3 == 0 else name for row, name in enumerate(toy.labels)]
    rows = [[str(row), text, name] for row, (text, name) in enumerate(zip(toy.texts, wrong, strict=True))]
    data = write_csv(tmp_path / "toy.csv", ["number", "text", "label"], rows)
    run = tmp_path / "run"
    code, _, error = call("train", data, "--model", tiny_encoder, "--epochs", 1, "--validation", 0, "--out", run)
    assert code == 0, error
    answers: list[tuple[str, str, str]] = []

    def serve(desk: Desk, listener: Listener, on_address: Callable[[str], None]) -> None:
        for kind in ("change", "keep", "unsure", "other"):
            state = desk.state()
            proposed = state["guess"][0]["name"]
            assert state["review"] and state["given"] != proposed and state["guess"][0]["probability"] > 0.5
            label = {"change": proposed, "keep": state["given"], "other": "football"}.get(kind)
            answers.append((state["text"], state["given"], label or state["given"]))
            assert desk.answer(state["turn"], "label" if label else kind, label) is not None
        assert desk.points() == {"points": []}

    monkeypatch.setattr(label_server, "serve", serve)
    for number, words in enumerate(((), (data,))):  # the texts of the run; a file with columns of its own
        answers.clear()
        out = tmp_path / f"corrected{number}.csv"
        code, _, error = call("label", *words, "--review", run, "--out", out, "--no-open")
        assert code == 0 and "3 of" in error, error
        with out.open(newline="", encoding="utf-8") as stream:
            found = list(csv.DictReader(stream))
        assert ("number" in found[0]) == bool(words) and len(found) == 64
        changed = {text: label for text, _, label in answers}
        assert {row["text"]: row["label"] for row in found} == dict(zip(toy.texts, wrong, strict=True)) | changed
        assert len({text for text, given, label in answers if given != label}) >= 1
