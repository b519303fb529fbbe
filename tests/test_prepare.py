"""Fetching known data sets, against a server on this machine; every document here is invented."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from graphloss.cli import app
from graphloss.errors import InputError
from graphloss.research.datasets import registry
from graphloss.research.datasets.fetch import BLOCK, Source, fetch
from graphloss.research.datasets.parsers import members, read_topics
from graphloss.research.datasets.prepare import Prepared, check_names, divide, prepare_corpus
from graphloss.research.datasets.registry import DATASETS, PublicDataset, fingerprint
from graphloss.text.corpus import load_corpus
from graphloss.text.data_sources import KNOWN, list_corpora

HASTE: dict[str, Any] = {"pause": 0.0, "timeout": 5.0}


class Server:
    """What a home does: gives files, and misbehaves as it is told to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []  # after so many bytes of the body each next answer breaks off
        self.codes: list[int] = []  # answers before the file
        self.asked: list[str] = []  # path of each request
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                content = server.files.get(self.path)
                code = server.codes.pop(0) if server.codes else 200 if content is not None else 404
                if code != 200:
                    self.send_error(code)
                    return
                assert content is not None
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: server.cut.pop(0)] if server.cut else content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    yield server
    server.close()


@pytest.fixture
def dead() -> str:
    """The address of a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


CONTENT = np.random.default_rng(0).bytes(3 * BLOCK + 123)


# Transfers


def test_a_file_is_fetched_whole(server: Server, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT
    source = Source("file", (f"{server.url}/file",))
    seen: list[tuple[str, int, int | None]] = []
    path = fetch(source, tmp_path / "new" / "folder", on_bytes=lambda *told: seen.append(told), **HASTE)
    assert path == tmp_path / "new" / "folder" / "file" and path.read_bytes() == CONTENT
    assert seen[-1] == ("file", len(CONTENT), len(CONTENT)) and len(seen) >= 4
    assert [path.name for path in path.parent.iterdir()] == ["file"]
    assert fetch(source, path.parent, **HASTE) == path and server.asked == ["/file"]  # what is there is not asked for


def test_a_transfer_that_breaks_off_is_begun_again(server: Server, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT
    server.cut = [1000, 2 * BLOCK]
    assert fetch(Source("file", (f"{server.url}/file",)), tmp_path, **HASTE).read_bytes() == CONTENT
    assert server.asked == ["/file"] * 3


def test_a_transfer_that_breaks_off_each_time_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT
    server.cut = [500, 500, 700]
    source = Source("file", (f"{server.url}/file",))
    with pytest.raises(InputError, match=r"ended after 700 of 196,731 bytes \(tried 3 times\)"):
        fetch(source, tmp_path, **HASTE)
    assert not list(tmp_path.iterdir())
    assert fetch(source, tmp_path, **HASTE).read_bytes() == CONTENT


def test_the_next_address_is_tried(server: Server, dead: str, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT
    urls = (f"{dead}/file", f"{server.url}/missing", f"{server.url}/file")
    assert fetch(Source("file", urls), tmp_path, **HASTE).read_bytes() == CONTENT
    assert server.asked == ["/missing", "/file"]


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (429, 3), (503, 3)])
def test_what_is_asked_for_again(server: Server, tmp_path: Path, code: int, requests: int) -> None:
    server.codes = [code] * 3
    with pytest.raises(InputError, match=rf"{server.url}/file: the server answered {code} "):
        fetch(Source("file", (f"{server.url}/file",)), tmp_path, **HASTE)
    assert len(server.asked) == requests


def test_a_dead_server(dead: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{dead}/file: the server cannot be reached .*refused.*tried 3 times"):
        fetch(Source("file", (f"{dead}/file",)), tmp_path, **HASTE)


def test_a_silent_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(InputError, match=r"(sent nothing|timed out)"):
            fetch(Source("file", (url,)), tmp_path, tries=2, pause=0, timeout=0.1)


# Archives


def archive(files: dict[str, bytes], *, link: str | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
        if link:
            item = tarfile.TarInfo(link)
            item.type, item.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(item)
    return stream.getvalue()


def test_members_come_in_order_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive({"top/b/2": b"two", "top/a/1": "\xe9n".encode("latin-1"), "top/a/._1": b"", "top/x": b""}))
    assert list(members(path)) == [("top", "a", "1", "én"), ("top", "b", "2", "two")]
    assert [item.name for item in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("name", ["../../escaped/x/1", "top/../../../x/1", "/top/a/1"])
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "inner" / "a.tar.gz"
    path.parent.mkdir()
    path.write_bytes(archive({"top/a/1": b"fine", name: b"not fine"}))
    with pytest.raises(InputError, match=r"leads out of it"):
        list(members(path))
    assert [item.name for item in tmp_path.rglob("*")] == ["inner", "a.tar.gz"]


def test_an_archive_with_a_link_or_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive({"top/a/1": b"fine"}, link="top/a/2"))
    with pytest.raises(InputError, match=r"leads out of it"):
        list(members(path))
    path.write_bytes(archive({f"top/a/{n}": np.random.default_rng(n).bytes(5000) for n in range(9)})[:20_000])
    with pytest.raises(InputError, match=r"cannot be read as a tar archive"):
        list(members(path))
    path.write_bytes(b"<html>not here</html>")
    with pytest.raises(InputError, match=r"cannot be read as a tar archive"):
        list(members(path))


# Readers: each on files in the form of its home


def written(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def test_reading_reviews(tmp_path: Path) -> None:
    files = {
        "text_train.txt": b" good \x97 caf\xe9 . \r\nbad\x85so . \r\n",
        "label_train.txt": b"1\r\n0\r\n",
        "text_test.txt": "fair\u2026 \r\n".encode(),
        "label_test.txt": b"0\r\n",
    }
    train, test = DATASETS["mr"].read(written(tmp_path, files))
    assert train == [("good \u2014 caf\xe9 .", "positive"), ("bad\u2026so .", "negative")]  # Windows-1252
    assert test == [("fair\u2026", "negative")]  # UTF-8
    with pytest.raises(InputError, match=r"text_train.txt has 2 lines, label_train.txt 1"):
        DATASETS["mr"].read(written(tmp_path, files | {"label_train.txt": b"1\r\n"}))


def test_reading_topics(tmp_path: Path) -> None:
    files = {"train.txt": b"ship\ta tug sails \nacq\ta firm buys", "test.txt": b"ship\tit sank\n"}
    train, test = DATASETS["r8"].read(written(tmp_path, files))
    assert train == [("a tug sails", "ship"), ("a firm buys", "acq")] and test == [("it sank", "ship")]
    with pytest.raises(InputError, match=r"test.txt has a line without a tab"):
        DATASETS["r52"].read(written(tmp_path, files | {"test.txt": b"<html>\n"}))


def test_reading_intents(tmp_path: Path) -> None:
    files = {
        "train.csv": 'text,category\r\n"where, now?",lost\r\n£5?,fee\r\n'.encode(),
        "test.csv": b"text,category\r\n",
    }
    assert DATASETS["banking77"].read(written(tmp_path, files)) == ([("where, now?", "lost"), ("£5?", "fee")], [])
    with pytest.raises(InputError, match=r"train.csv has the columns"):
        DATASETS["banking77"].read(written(tmp_path, files | {"train.csv": b"404: Not Found"}))


def test_reading_newsgroups(tmp_path: Path) -> None:
    content = archive(
        {
            "20news-bydate-train/sci.tea/10": b"From: a\n\nhot",
            "20news-bydate-test/sci.tea/9": b"From: b\n\n\xfcber",
            "20news-bydate-train/rec.kites/2": b"From: c\n\nhigh",
        }
    )
    train, test = DATASETS["20ng"].read(written(tmp_path, {"20news-bydate.tar.gz": content}))
    assert train == [("From: c\n\nhigh", "rec.kites"), ("From: a\n\nhot", "sci.tea")]
    assert test == [("From: b\n\nüber", "sci.tea")]


def test_reading_abstracts(tmp_path: Path) -> None:
    top = "ohsumed-first-20000-docs"
    content = archive(
        {
            f"{top}/training/C04/0000002": b"two\n of one",
            f"{top}/training/C14/0000001": b"one of two",
            f"{top}/training/C04/0000001": b"one of two",
            f"{top}/training/C99/0000002": b"no category of ours",
            f"{top}/test/C23/0010003": b"three",
        }
    )
    train, test = DATASETS["ohsumed"].read(written(tmp_path, {f"{top}.tar.gz": content}))
    assert train == [("two\n of one", "C04 Neoplasms")]
    assert test == [("three", "C23 Pathological Conditions, Signs and Symptoms")]


# Validation


@pytest.mark.parametrize("seed", range(5))
def test_every_class_gives_its_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"one": 1, "two": 2, "few": 9, **{f"c{n}": int(rng.integers(20, 400)) for n in range(6)}}
    labels = [label for label, size in sizes.items() for _ in range(size)]
    labels = [labels[i] for i in rng.permutation(len(labels))]
    total = round(0.1 * len(labels))
    chosen = divide(labels, total, seed=seed)
    assert len(chosen) == len(set(chosen)) == total and chosen == sorted(chosen)
    counts = Counter(labels[place] for place in chosen)
    assert counts["one"] == 0 and counts["two"] == 1 and counts["few"] == 1
    assert all(abs(counts[label] - total * size / len(labels)) <= 1 for label, size in sizes.items())
    assert chosen == divide(labels, total, seed=seed) != divide(labels, total, seed=seed + 1)


def test_every_class_gives_the_same_number() -> None:
    labels = ["a"] * 30 + ["b"] * 12 + ["c"] * 90
    assert Counter(labels[place] for place in divide(labels, 30, even=True)) == {"a": 10, "b": 10, "c": 10}
    for total in (2, 130):
        with pytest.raises(ValueError, match=r"expected total of 3 to 129 documents"):
            divide(labels, total)


# All of it


TOPICS = {"ship": 40, "acq": 25, "earn": 3}


def topics(seed: int = 0, *, extra: str = "") -> tuple[bytes, bytes]:
    """Train and test in the form of the Reuters files, of invented words."""
    rng = np.random.default_rng(seed)
    words = ["tug", "sails", "firm", "buys", "net", "loss", "gale", "port", "deal", "share"]
    lines = [f"{label}\t{n} {' '.join(rng.choice(words, 6))}" for label, size in TOPICS.items() for n in range(size)]
    lines = [lines[i] for i in rng.permutation(len(lines))]
    test = [f"{label}\t{' '.join(rng.choice(words, 5))} {n}" for n, label in enumerate([*TOPICS, *TOPICS])]
    return ("\n".join(lines) + extra + "\n").encode(), "\n".join(test).encode()


def dataset(server: Server, tmp_path: Path, **changes: Any) -> PublicDataset:
    """A data set of 68 and 6 invented documents; of train 7 are for validation."""
    train, test = topics()
    server.files |= {"/train.txt": train, "/test.txt": test}
    files = tuple(Source(name, (f"{server.url}/{name}",)) for name in ("train.txt", "test.txt"))
    folder = tmp_path / "expected"
    folder.mkdir(exist_ok=True)
    known = read_topics(written(folder, {"train.txt": train, "test.txt": test}))
    return PublicDataset(files, read_topics, (61, 7, 6), 3, *map(fingerprint, known))._replace(**changes)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no other place for data."""
    monkeypatch.delenv("GRAPHLOSS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "graphloss"


def prepare(name: str, **options: Any) -> Prepared:
    return prepare_corpus(name, **HASTE, **options)


def test_a_prepared_data_set_loads_by_its_name(server: Server, tmp_path: Path, cache: Path) -> None:
    done = prepare("r8", datasets={"r8": dataset(server, tmp_path)})
    assert (done.documents, done.same, done.warnings, done.already) == (
        {"train": 61, "validation": 7, "test": 6},
        True,
        [],
        False,
    )
    assert done.folder == str(cache / "r8") and [path.name for path in cache.iterdir()] == ["r8"]
    corpus = load_corpus("r8")
    assert (len(corpus.train), len(corpus.validation), corpus.label_names) == (61, 7, sorted(TOPICS))
    assert corpus.test is not None and len(corpus.test) == 6
    train, _ = topics()
    texts = {line.split("\t")[1] for line in train.decode().splitlines()}
    assert set(corpus.train.texts) | set(corpus.validation.texts) == texts and len(texts) == 68
    assert not set(corpus.train.texts) & set(corpus.validation.texts)
    assert set(corpus.validation.names) == set(TOPICS)
    record = json.loads((cache / "r8" / "prepared.json").read_text())
    assert record["files"] == {name: [f"{server.url}/{name}"] for name in ("train.txt", "test.txt")}
    assert record["date"].startswith("20") and record["same"] == {"train": True, "test": True}


def test_what_is_there_is_left_alone_unless_forced(server: Server, tmp_path: Path, cache: Path) -> None:
    table = {"r8": dataset(server, tmp_path)}
    prepare("r8", datasets=table)
    before = load_corpus("r8").fingerprint
    asked = len(server.asked)
    done = prepare("r8", datasets=table)
    assert done.already and "already" in done.line() and len(server.asked) == asked
    done = prepare("r8", datasets=table, force=True)
    assert not done.already and len(server.asked) == 2 * asked and "61 train" in done.line()
    assert load_corpus("r8").fingerprint == before  # the same validation documents
    assert [path.name for path in cache.iterdir()] == ["r8"]


def test_other_documents_in_the_same_number_are_a_warning(server: Server, tmp_path: Path, cache: Path) -> None:
    table = {"r8": dataset(server, tmp_path, test="0" * 64)}
    done = prepare("r8", datasets=table)
    assert done.same is False and len(done.warnings) == 1
    assert "documents of test are as many as expected, but not the same" in done.warnings[0]
    assert json.loads((cache / "r8" / "prepared.json").read_text())["same"] == {
        "train": True,
        "test": False,
    }


def test_another_number_of_documents_is_an_error(server: Server, tmp_path: Path, cache: Path) -> None:
    table = {"r8": dataset(server, tmp_path, sizes=(60, 7, 6))}
    with pytest.raises(InputError, match=r"68 documents for train and 6 for test, of 3 and 3 classes; expected 67"):
        prepare("r8", datasets=table)
    assert not (cache / "r8").exists() and not list(cache.rglob("*.txt"))


def test_a_kill_before_the_end_leaves_no_half_folder(
    server: Server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"r8": dataset(server, tmp_path)}

    def killed(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("r8", datasets={"r8": table["r8"]._replace(read=killed)})
    with monkeypatch.context() as patched:
        patched.setattr("pyarrow.parquet.write_table", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare("r8", datasets=table)
    assert [path.name for path in cache.iterdir()] == [".downloads"]
    assert "r8" not in {entry.name for entry in list_corpora() if entry.available}
    with pytest.raises(InputError, match=r"no data for 'r8'.*`graphloss data prepare r8`"):
        load_corpus("r8")
    asked = len(server.asked)
    prepare("r8", datasets=table)
    assert len(server.asked) == asked == 2  # what had come was not fetched again
    assert len(load_corpus("r8").train) == 61


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_somebody_else_is_never_replaced(server: Server, tmp_path: Path, cache: Path, force: bool) -> None:
    own = cache / "r8" / ("train.csv" if force else "notes.txt")
    own.parent.mkdir(parents=True)
    own.write_text("text,label\nmine,a\n")
    with pytest.raises(InputError, match=r"was not written by this command. Move it away"):
        prepare("r8", datasets={"r8": dataset(server, tmp_path)}, force=force)
    assert own.exists() and not server.asked


def test_data_in_graphloss_data_is_enough(
    server: Server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own" / "r8"
    own.mkdir(parents=True)
    (own / "train.csv").write_text("text,label\nmine,a\nyours,b\n")
    monkeypatch.setenv("GRAPHLOSS_DATA", str(own.parent))
    table = {"r8": dataset(server, tmp_path)}
    assert prepare("r8", datasets=table).folder == str(own) and not server.asked
    done = prepare("r8", datasets=table, force=True)
    assert done.folder == str(cache / "r8") and "GRAPHLOSS_DATA comes before the cache" in done.warnings[-1]
    assert prepare("r8", datasets=table, root=tmp_path / "else").folder == str(tmp_path / "else" / "r8")


def test_a_broken_transfer_says_what_to_do(server: Server, tmp_path: Path, cache: Path) -> None:
    table = {"r8": dataset(server, tmp_path)}
    server.cut = [100, 100, 100]
    with pytest.raises(InputError) as caught:
        prepare("r8", datasets=table)
    message = str(caught.value)
    for part in (f"{server.url}/train.txt", "ended after 100 of", "Try again later"):
        assert part in message
    assert f"into {cache / 'r8'} by hand, or set GRAPHLOSS_DATA" in message
    assert not list((cache / ".downloads" / "r8").iterdir())
    prepare("r8", datasets=table)
    assert len(load_corpus("r8").train) == 61


# The command


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`graphloss data prepare …`, with its exit code, output and errors."""
    from graphloss import cli

    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["graphloss", "data", "prepare", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = int(left.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_command(
    server: Server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setitem(DATASETS, "r8", dataset(server, tmp_path, train="0" * 64))
    monkeypatch.setitem(DATASETS, "mr", dataset(server, tmp_path))
    code, out, err = command("r8", "mr")
    assert code == 0 and out.splitlines() == [
        f"{name}: 61 train, 7 validation, 6 test documents in {cache / name}" for name in ("r8", "mr")
    ]
    assert err.count("warning: ") == 1 and "documents of train are as many as expected" in err
    code, out, err = command("r8")
    assert code == 0 and "already" in out
    code, out, err = command("mr", "--json", "--force")
    told = json.loads(out)
    assert code == 0 and told["name"] == "mr" and told["same"] is True and told["documents"]["validation"] == 7


def test_the_command_without_a_network(
    server: Server, dead: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    good = dataset(server, tmp_path)
    monkeypatch.setitem(DATASETS, "mr", good._replace(files=(Source("train.txt", (f"{dead}/train.txt",)),)))
    monkeypatch.setitem(DATASETS, "r8", good)
    code, out, err = command("mr", "r8", "--json")
    assert code == 2 and "Traceback" not in err and err.startswith("error: mr: ")
    for part in (f"{dead}/train.txt", "cannot be reached", f"into {cache / 'mr'} by hand", "GRAPHLOSS_DATA"):
        assert part in err
    assert json.loads(out)["name"] == "r8"  # the one that could be fetched was


def test_an_unknown_name_is_refused_before_anything_is_fetched(server: Server, cache: Path, command: Command) -> None:
    code, out, err = command("r8", "r53")
    assert code == 2 and out == "" and "got 'r53'" in err and "r52" in err and not cache.exists()
    assert CliRunner().invoke(app, ["data", "prepare"]).exit_code == 2


def test_every_known_name_has_a_home() -> None:
    assert list(DATASETS) == list(KNOWN) and len(DATASETS) == 6
    assert check_names(["r8", "all"]) == list(KNOWN) and check_names(["r8", "r8"]) == ["r8"]
    seen = 0
    for known in DATASETS.values():
        assert sum(known.sizes) > 7_000 and 2 <= known.classes <= 77
        assert all(len(print_) == 64 and int(print_, 16) for print_ in (known.train, known.test))
        for source in known.files:
            seen += 1
            assert source.urls and all(url.startswith(("https://", "http://")) for url in source.urls)
    assert seen == 12


def test_a_fingerprint_knows_documents_not_their_order_or_spacing() -> None:
    documents = [("a  b\n", "x"), ("c", "y"), ("c", "y")]
    assert fingerprint(documents) == registry.fingerprint([("c ", "y"), ("a b", "x"), ("c", "y")])
    others = [documents[:2], [("a b", "y"), *documents[1:]], [("ab", "x"), *documents[1:]]]
    assert len({fingerprint(other) for other in [documents, *others]}) == 4


def test_the_list_says_how_to_get_one(cache: Path) -> None:
    entries = {entry.name: entry.where for entry in list_corpora() if not entry.available}
    assert set(entries) == set(KNOWN)
    assert entries["ohsumed"] == "not here: graphloss data prepare ohsumed"
