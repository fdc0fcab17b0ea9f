"""Whatever other members write: no command ends in a traceback, or hands a terminal over."""

import gc
import io
import itertools
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medperf_cache import Catalog, Storage
from medperf_cache.bundle import write
from medperf_cache.outbox import LOST, QUEUED, REJECTED, SENDING, SENT, Outbox
from medperf_client.airgap.carried import About
from medperf_client.cli import main, medperf
from medperf_client.containers.spec import parse
from medperf_client.errors import MedPerfError, Offline
from medperf_client.execution.compatibility import read_yaml
from medperf_client.kinds import KINDS
from medperf_client.ledger.records import Ledger
from medperf_client.registry.client import _document
from medperf_client.settings.config import Home, load_config
from tests.support.commands import leaves
from tests.support.hostile import (
    HASTE,
    KNOWN_WORDS,
    KNOWN_YAML,
    SECONDS,
    SHOWN,
    mappings,
    several,
    values,
    words,
    yamls,
)

# What shows words of others, from what is here or from what the registry says.
OFFLINE = [
    *("benchmark ls", "benchmark view 1", "benchmark status 1", "benchmark fetch 1"),
    *("container ls", "container ls --mine", "container view 1", "association ls -bm"),
    *("container view 2", "test ls", "test view latest", "test run -b 1", "test run -b 1 -m 2"),
    *("queue ls --all", "queue view q1", "queue export out.bundle", "queue resend"),
    *("queue drop q1 -y", "sync --dry-run", "storage ls", "storage verify", "auth status"),
    *("bundle view hostile.bundle", "bundle import hostile.bundle", "bundle export out.bundle"),
    *("container associate -b 1 --model_uid 2 -y", "benchmark approve 1 -y"),
    *("association reject -b 1 -m 2 -y", "queue retry q1"),
    *("dataset ls", "dataset ls -m 1", "dataset view", "dataset view 1", "association ls -bd"),
    *("association approve -b 1 -d 1 -y", "benchmark results 1", "benchmark follow ls"),
    *("result ls", "result ls -b 1", "result view", "result view 1", "result submit --all -y"),
    *("dataset prepare -d 1 -y", "dataset set-operational -d 1 -y", "dataset rm -d 1 -y"),
    *("dataset associate -d 1 -b 1 -y", "dataset export -d 1 -o exported", "run -b 1 -d 1 -m 1 -y"),
    *("dataset import -d 1 -i hostile.bundle", "benchmark run -b 1 -d 1"),
    *("result create -b 1 -d 1 -m 1", "benchmark follow -b 1 -d 1"),
    *("result review b1m2d1", "dataset review 1", "benchmark ranking 1"),
    *("result export -b 1 -o out.zip", "result export -b 1 -o out.csv --format csv"),
    "result export -b 1 -o out.json --format json",
    *("key ls", "key create", "key revoke 1 -y", "key export", "result verify 1"),
    *("ledger ls", "ledger view 2", "ledger verify", "ledger export out.html --bodies"),
    "ledger export out.csv --format csv",
]
ONLINE = [
    *("sync", "benchmark ls", "container ls", "association ls -bm", "benchmark view 1"),
    *("benchmark invite 1 a@example.org", "benchmark approve 1 -y", "benchmark reject 1 -y"),
    *("association approve -b 1 -m 2 -y", "association set-priority -b 1 -m 2 -p 3"),
    *("auth login --token mpf_x", "benchmark fetch 1"),
    *("dataset ls", "dataset view 1", "association ls -bd", "association approve -b 1 -d 1 -y"),
    *("result ls -b 1", "benchmark results 1", "benchmark ranking 1"),
    "result export -b 1 -o out.zip",
]
# They show what their own user wrote, or nothing.
OWN = {
    *("auth logout", "profile ls", "profile view", "profile create", "profile activate"),
    *("profile set", "profile delete", "container create", "completion", "storage gc"),
    *("storage unpin", "storage share", "storage status", "queue edit", "test rm", "policy view"),
    "policy check",
    # What they show of others is what `benchmark view`, `test run` and `benchmark run` show.
    *("benchmark submit", "container submit", "dataset submit", "jobs ls", "jobs cancel"),
    *("jobs logs", "jobs collect", "jobs wait"),
}
OTHERS = ("association", "dataset", "dataset_association", "result", "signing_key")
# What may be anything in an entity, where that is not the same in all.
MORE = {
    "association": ("metadata", "priority"),
    "dataset": ("report", "generated_metadata", "owner"),
    "dataset_association": ("metadata",),
    "result": ("metadata",),
    "signing_key": ("name", "owner", "revoked_at"),
}
ROLES = ("data_preparator", "model", "evaluator")
COMMANDS = itertools.count(1)
MOST_WAITING = 8
NOW = "2026-01-01T00:00:00+00:00"


def test_every_command_is_tried_or_has_nothing_of_others_to_show() -> None:
    tried = OFFLINE + ONLINE
    untried = {
        name
        for name in leaves(medperf, "")
        if not any(f"{words} ".startswith(f"{name} ") for words in tried)
    }
    assert untried == OWN


class Words(BaseHTTPRequestHandler):
    """A registry that says what it is told to say."""

    said: bytes = b"{}"
    status = 200

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.said)))
        self.end_headers()
        self.wfile.write(self.said)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def registry_words() -> Iterator[str]:
    """Where `Words` are said."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Words)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, registry_words: str) -> Iterator[Path]:
    """The home of a member, in the environment; the process is as it was afterwards."""
    folder = tmp_path_factory.mktemp("home")
    where, handlers = os.getcwd(), [signal.getsignal(one) for one in (15, 1)]
    patch = pytest.MonkeyPatch()
    patch.setenv("MEDPERF_HOME", str(folder))
    patch.setenv("MEDPERF_SERVER_URL", registry_words)
    patch.setenv("MEDPERF_TOKEN", "mpf_x")
    os.chdir(folder)
    yield folder
    os.chdir(where)
    patch.undo()
    for number, handler in zip((15, 1), handlers, strict=True):
        signal.signal(number, handler)


def entity(kind: str, uid: int) -> st.SearchStrategy[dict[str, Any]]:
    """An entity in the form that the client asks for, and whatever else in it."""
    made = {str: words(), bool: st.booleans(), dict: mappings(), int: st.just(1)}
    fields = {name: made[expected] for name, expected in KINDS[kind].form.items()}
    times = {name: words() for name in ("created_at", "modified_at", "approved_at", "reason")}
    more = {name: values() for name in MORE.get(kind, ("metadata", "user_metadata", "owner"))}
    optional = {**times, **{name: one for name, one in more.items() if name not in fields}}
    return st.fixed_dictionaries({**fields, "id": st.just(uid)}, optional=optional)


CONTAINERS = st.tuples(entity("mlcube", 1), entity("mlcube", 2))
CASE = st.fixed_dictionaries(
    {
        "benchmark": entity("benchmark", 1),
        "containers": CONTAINERS,
        **{kind: entity(kind, 1) for kind in OTHERS},
        "yaml": yamls(),
        "words": words(),
        "body": mappings(),
        "about": st.one_of(st.just({}), st.just({}), mappings()),
        "receipt_for": st.one_of(st.none(), words()),
        "results": mappings(),
        "state": st.sampled_from([QUEUED, SENDING, SENT, REJECTED, LOST]),
        "pins": st.booleans(),
    }
)


def as_the_registry_sends(kind: str, value: dict[str, Any]) -> dict[str, Any] | None:
    """An entity as it is once it came in; None if it would not."""
    try:
        return KINDS[kind].checked(_document(json.dumps(value).encode()))
    except (Offline, ValueError, RecursionError):
        return None


def lay_out(home: Path, server_url: str, case: dict[str, Any], shown: list[str]) -> None:
    """Have a home hold what others wrote; a bundle of theirs, and a ledger, if `shown` needs it."""
    own = Home(home, home / "cache")
    folder = own.registry(server_url)
    catalog, storage = Catalog(folder / "catalog"), Storage(own.cache)
    config = storage.blobs.add([case["yaml"].encode("utf-8", "surrogatepass")])
    with catalog.transaction():
        catalog.clear()
        catalog.me = {"id": 1, "email": case["words"]}
        catalog.fetched_at = "2026-01-01T00:00:00+00:00"
        for kind, one in (
            ("benchmark", case["benchmark"]),
            *(("mlcube", container) for container in case["containers"]),
            *((kind, case[kind]) for kind in OTHERS),
        ):
            one = {**one, **({"mlcube_hash": config} if case["pins"] and kind == "mlcube" else {})}
            if (sound := as_the_registry_sends(kind, one)) is not None:
                catalog.put(kind, sound)
        token = sha256(b"mpf_x").hexdigest()
        catalog.put("viewer", {"id": 0, "token_sha256": token})
    outbox = Outbox(folder / "outbox")
    if len(outbox.entries()) > MOST_WAITING:
        # Else every case would look at, and send, what all the cases before it have queued.
        shutil.rmtree(folder / "outbox")
        outbox = Outbox(folder / "outbox")
    body = _document(json.dumps(case["body"]).encode())
    path = "/mlcubes/2/benchmarks/1/"
    if not outbox.entries():
        outbox.add("association", "PUT", path, {"approval_status": "APPROVED"})
    for entry in outbox.entries():
        answer = {**body, "id": 1} if case["state"] == SENT else None
        shown = {"state": case["state"], "reason": case["words"], "answer": answer}
        outbox.change(entry.uid, **shown)
    names = {role: {"name": case["words"], "uid": 1} for role in ROLES}
    report = {"uid": "20260101-000000-aaaa", "benchmark": 1, "passed": True, "steps": [], **names}
    reports = folder / "reports"
    reports.mkdir(exist_ok=True)
    results = _document(json.dumps({**report, "results": case["results"]}).encode())
    (reports / "20260101-000000-aaaa.json").write_text(json.dumps(results))
    if any(one.startswith("bundle") for one in shown):
        _lay_bundle(home, server_url, case, storage, outbox)
    if any(one.startswith("ledger") for one in shown):
        _lay_ledger(folder, server_url, case)


def _lay_ledger(folder: Path, server_url: str, case: dict[str, Any]) -> None:
    shutil.rmtree(folder / "ledger", ignore_errors=True)
    (folder / "ledger.head").unlink(missing_ok=True)
    ledger = Ledger(folder / "ledger", server_url, lambda: {"id": 1, "email": case["words"]})
    line = ledger.write("POST", "/mlcubes/", json.dumps(case["body"]).encode(), None)
    ledger.answered(line, 400, b"", case["body"], case["words"])


def _lay_bundle(
    home: Path, server_url: str, case: dict[str, Any], storage: Storage, outbox: Outbox
) -> None:
    says = About(server_url, NOW, fetched_at=NOW, cursor=2**61, receipt_for=case["receipt_for"])
    about = {**asdict(says), **_document(json.dumps(case["about"]).encode())}
    carried = [("mlcube", one) for one in case["containers"]] + [("benchmark", case["benchmark"])]
    queue = [{**asdict(entry), "attempts": 1} for entry in outbox.entries()]
    documents = {}
    for name, rows in (("catalog", carried), ("outbox", queue)):
        documents[name] = home / f"{name}.rows"
        documents[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(home / "hostile.bundle", storage, about, documents)


def command(*arguments: str) -> tuple[int, str, str]:
    """What a command ended with and printed, run as `medperf` is, but for a process of its own."""
    streams = sys.stdin, sys.stdout, sys.stderr, sys.argv
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(b"")), out, err
    sys.argv = ["medperf", *arguments]
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdin, sys.stdout, sys.stderr, sys.argv = streams
        # A process of its own would have ended; what it leaves is looked for now and then.
        if next(COMMANDS) % 25 == 0:
            gc.collect()
    assert isinstance(code, int) or code is None
    return code or 0, printed(out), printed(err)


def printed(stream: io.TextIOWrapper) -> str:
    """What was written to it."""
    stream.seek(0)
    return stream.read()


def check(arguments: list[str]) -> None:
    """Run a command: it ends in time, says nothing to a terminal but text, and no traceback."""
    began = time.monotonic()
    code, out, err = command(*arguments)
    assert code in (0, 1, 2, 3), (arguments, code, err)
    assert "Traceback" not in err
    strange = {char for char in set(out + err) if not char.isprintable() and char not in "\n\t"}
    assert not strange, (arguments, strange)
    if "--json" in arguments and out:
        assert out.isascii()
        json.loads(out)
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("part", range(5))
def test_what_is_here_of_others_is_only_shown(
    home: Path, registry_words: str, cases: int, part: int
) -> None:
    # What is laid out takes longer than what shows it: so each case is shown several times.
    @settings(HASTE, max_examples=cases // (10 * SHOWN))
    @given(case=CASE, shown=several(OFFLINE), as_json=st.booleans())
    def holds(case: dict[str, Any], shown: list[str], as_json: bool) -> None:
        lay_out(home, registry_words, case, shown)
        for one in shown:
            prints = as_json and not one.startswith(("queue drop", "queue export", "queue retry"))
            check([*one.split(), "--offline", *(["--json"] if prints else [])])

    holds()


def change_of(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """What a change log says of an entity."""
    return entity(kind, 1).map(lambda one: {"type": kind, "id": one["id"], "entity": one})


ANSWERS = st.one_of(
    mappings(),
    st.builds(lambda word: {"detail": word}, words()),
    st.builds(lambda key, word: {key: [word]}, words(), words()),
    st.builds(
        lambda changes: {"changes": changes, "next": 9, "more": False, "log": "0" * 64},
        st.lists(
            st.one_of(
                values(),
                *map(change_of, ("mlcube", "benchmark", *OTHERS)),
            ),
            max_size=2,
        ),
    ),
    st.builds(lambda one: {**one, "id": 1, "email": "a@b"}, mappings()),
    values(),
)


@pytest.mark.parametrize("part", range(2))
def test_what_the_registry_says_is_only_shown(
    home: Path, registry_words: str, cases: int, part: int
) -> None:
    @settings(HASTE, max_examples=cases // (10 * SHOWN))
    @given(
        case=CASE,
        shown=several(ONLINE),
        answer=ANSWERS,
        status=st.sampled_from([200, 200, 200, 201, 400, 403, 404, 422]),
    )
    def holds(case: dict[str, Any], shown: list[str], answer: Any, status: int) -> None:
        lay_out(home, registry_words, case, [])
        Words.said, Words.status = json.dumps(answer).encode(), status
        for one in shown:
            check(one.split())

    holds()


def test_configurations_and_results_are_read_or_refused(tmp_path: Path, cases: int) -> None:
    file = tmp_path / "hostile.yaml"

    @settings(HASTE, max_examples=cases // 10)
    @given(text=yamls(), size=words())
    def holds(text: str, size: str) -> None:
        content = text.encode("utf-8", "surrogatepass")
        task = {"run_args": {"command": "x", "shm_size": size, "gpus": size}}
        document = {"container_type": "DockerImage", "image": size, "tasks": {"infer": task}}
        for given_ in (content, json.dumps(document).encode()):
            file.write_bytes(given_)
            for read in (
                lambda: parse(given_, "hostile"),  # noqa: B023
                lambda: read_yaml(file, "hostile"),
                lambda: load_config(file),
            ):
                began = time.monotonic()
                try:
                    read()
                except MedPerfError as error:
                    str(error).encode("utf-8", "backslashreplace")
                assert time.monotonic() - began < SECONDS

    holds()


@pytest.mark.parametrize("word", KNOWN_WORDS, ids=range(len(KNOWN_WORDS)))
def test_each_word_that_is_known_to_harm_is_only_shown(
    home: Path, registry_words: str, word: str
) -> None:
    made = {str: word, bool: True, dict: {word: word}, int: 1}
    kinds = {
        kind: {name: made[expected] for name, expected in KINDS[kind].form.items()}
        for kind in ("benchmark", "mlcube", *OTHERS)
    }
    case = {
        "benchmark": {**kinds["benchmark"], "metadata": {word: word}},
        "containers": [{**kinds["mlcube"], "id": uid, "created_at": word} for uid in (1, 2)],
        **{kind: {**kinds[kind], "reason": word, "approved_at": word} for kind in OTHERS},
        "yaml": json.dumps({word: word}),
        "words": word,
        "body": {word: word},
        "about": {},
        "receipt_for": word,
        "results": {word: [word, {word: word}]},
        "state": REJECTED,
        "pins": False,
    }
    for words_ in OFFLINE:
        lay_out(home, registry_words, case, [words_])
        check([*words_.split(), "--offline"])


@pytest.mark.parametrize("text", KNOWN_YAML, ids=range(len(KNOWN_YAML)))
def test_each_yaml_that_is_known_to_harm_is_read_or_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    for read in (
        lambda: parse(text, "hostile"),
        lambda: read_yaml(tmp_path / "file", "hostile"),
        lambda: load_config(tmp_path / "file"),
    ):
        try:
            read()
        except MedPerfError as error:
            assert len(str(error)) < 10_000
