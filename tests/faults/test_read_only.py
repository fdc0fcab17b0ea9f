"""A home that cannot be written to, full or read-only: all that reads still does."""

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from medperf_cache import Storage
from medperf_client.airgap.bundles import export_bundle, import_bundle, send_bundle
from medperf_client.errors import MedPerfError, UsageError
from tests.support.consortium import APPROVE, Consortium, Member
from tests.support.consortium_fixtures import beginning, consortium  # noqa: F401
from tests.support.disks import KIB, full, read_only
from tests.support.forks import IMPORT_ROOTS
from tests.support.people import Person, new, queue
from tests.support.proxy import FINE, Fault, Request

READS = [
    *("benchmark ls", "benchmark view 1", "benchmark status 1"),
    *("container ls", "container ls --mine", "container view 2", "association ls -bm"),
    *("test ls", "test view latest", "queue ls", "queue ls --all", "queue view q1"),
    *("storage ls", "profile ls", "profile view", "auth status", "sync --dry-run"),
    *("ledger ls", "ledger verify"),
]
WRITES = [
    "sync",
    "queue edit q1 --set approval_status=REJECTED",
    "association approve --benchmark 1 --model_uid 2 -y",
    "profile set task_timeout 5",
]


@pytest.fixture(params=[full, read_only], ids=["full", "read-only"])
def closed(request: pytest.FixtureRequest, small_disk: Path) -> AbstractContextManager[None]:
    """For a block the disk takes nothing."""
    closing: AbstractContextManager[None] = request.param(small_disk)
    return closing


@pytest.fixture
def member(small_disk: Path, consortium: Consortium) -> Member:  # noqa: F811
    """A member with a home on the small disk, who has used all there is."""
    token = consortium.registry.token_for("reader@example.org")
    member = Member(small_disk / "home", consortium.registry.url, token)
    member.does("profile", "set", "allow_process", "true")
    member.json("test", "run", "--benchmark", "1")
    member.does("benchmark", "fetch", "1")
    approve = ("association", "approve", "--benchmark", "1", "--model_uid", "2", "-y")
    member.does(*approve, "--offline")
    return member


def outputs(member: Member, *options: str) -> dict[str, object]:
    """What every command that reads prints for scripts."""
    return {
        words: json.loads(member.does(*words.split(), "--json", *options))
        for words in READS
        # When something was used last is not noted where nothing can be.
        if words != "storage ls"
    }


def test_whatever_only_reads_reads(member: Member, closed: AbstractContextManager[None]) -> None:
    before = outputs(member)
    with closed:
        for words in READS:
            done = member.run(*words.split())
            assert done.returncode == 0 and "Traceback" not in done.stderr, (words, done.stderr)
        assert outputs(member, "--offline") == outputs(member) == before


def test_where_nothing_was_ever_kept_there_is_nothing_to_read(
    small_disk: Path, closed: AbstractContextManager[None]
) -> None:
    nobody = Member(small_disk / "home", "http://127.0.0.1:9", "mpf_nobody")
    with closed:
        for words in ("queue ls", "storage ls", "test ls", "auth status", "sync --dry-run"):
            done = nobody.run(*words.split())
            assert (done.returncode, done.stderr) == (0, ""), (words, done.stderr)
        listed = nobody.run("benchmark", "ls", "--offline")
        assert listed.returncode == 1 and "there is no copy of it here yet" in listed.stderr
        status = nobody.run("benchmark", "status", "1")
        assert status.returncode == 2 and "no benchmark with UID 1" in status.stderr
        queued = nobody.run(*APPROVE)
        assert queued.returncode == 1 and "MEDPERF_HOME" in queued.stderr, queued.stderr


def test_news_that_cannot_be_kept_are_no_trouble(
    member: Member,
    closed: AbstractContextManager[None],
    consortium: Consortium,  # noqa: F811
) -> None:
    with closed:
        other = consortium.member(f"other-{os.getpid()}-{id(closed)}")
        options = consortium.container_options("model_mlp")
        name = f"new-{id(closed) % 10**6}"
        done = other.run("container", "submit", "--name", name, *options, "--operational", "-y")
        assert done.returncode in (0, 1)
        shown = member.run("container", "ls")
        assert shown.returncode == 0 and "data_preparator" in shown.stdout
        if done.returncode == 0:
            assert "cannot be freshened" in shown.stderr and name not in shown.stdout


def test_whatever_has_to_write_says_so_and_leaves_nothing(
    member: Member, closed: AbstractContextManager[None]
) -> None:
    before = outputs(member, "--offline")
    with closed:
        for words in WRITES:
            done = member.run(*words.split())
            assert done.returncode == 1, words
            assert done.stderr.count("\n") <= 3 and "Traceback" not in done.stderr, done.stderr
            assert "Make room" in done.stderr or "MEDPERF_HOME" in done.stderr, done.stderr
    assert outputs(member, "--offline") == before


def test_gc_makes_the_room_that_a_full_disk_lacks(member: Member, small_disk: Path) -> None:
    storage = Storage(member.home / "cache")
    storage.blobs.add([bytes(512 * KIB)])
    pinned = [item for item in member.json("storage", "ls")["items"] if item["pins"]]
    with full(small_disk):
        assert member.run("queue", "edit", "q1", "--set", "approval_status=x").returncode == 1
        assert member.json("storage", "gc", "--max-size", "0")["bytes"] > 512 * KIB
        left = member.json("storage", "ls")["items"]
        assert {item["sha256"] for item in left} == {item["sha256"] for item in pinned}
        member.does("queue", "drop", "q1", "-y")
    assert member.json("test", "run", "--benchmark", "1")["passed"]


def test_gc_keeps_on_a_full_disk_what_waits_to_be_uploaded(
    member: Member,
    small_disk: Path,
    consortium: Consortium,  # noqa: F811
) -> None:
    folder = consortium.candidate
    files = ("--container-config-file", str(folder / "container_config.yaml"))
    files += ("--parameters-file", str(folder / "workspace" / "parameters.yaml"))
    member.does("container", "submit", "--name", "waits", *files, "-y", "--offline")
    waiting = {one for entry in member.json("queue", "ls") for one in entry["uploads"]}
    with full(small_disk):
        member.does("storage", "gc", "--max-size", "0")
    assert waiting and waiting <= {item["sha256"] for item in member.json("storage", "ls")["items"]}


def test_nothing_is_sent_that_no_receipt_can_tell_of(
    person: Person, small_disk: Path, closed: AbstractContextManager[None], tmp_path: Path
) -> None:
    member = Member(person.home.data, person.proxy.url, person.token)
    queue(person, new("carried", person))
    bundle, receipt = small_disk / "queue.bundle", tmp_path / "receipt"
    member.does("bundle", "export", str(bundle), "--queue")
    send = ("sync", "--bundle", str(bundle))
    with closed:
        refused = member.run(*send)
        assert refused.returncode == 1 and refused.stdout == ""
        assert f"nothing was sent: {bundle}.receipt cannot be written" in refused.stderr
        assert "--receipt FILE" in refused.stderr and "MEDPERF_HOME" not in refused.stderr
        assert list(person.site().registry.pages("/me/mlcubes/")) == []
        sent = member.does(*send, "--receipt", str(receipt))
    assert f"Wrote {receipt}: bring it back" in sent
    assert len(list(person.site().registry.pages("/me/mlcubes/"))) == 1
    assert member.json("bundle", "import", str(receipt))["settled"][0]["state"] == "sent"


def test_a_medium_that_fills_up_meanwhile_costs_no_more_than_another_receipt(
    person: Person, small_disk: Path, tmp_path: Path
) -> None:
    queue(person, new("carried", person))
    bundle, receipt = small_disk / "queue.bundle", tmp_path / "receipt"
    export_bundle(person.site(), bundle, queue=True)
    with pytest.raises(UsageError, match="is the bundle that is to be sent"):
        send_bundle(person.site(), bundle, bundle)
    with ExitStack() as stack:

        def faults(request: Request) -> Fault:
            if request.method == "POST":
                stack.enter_context(full(small_disk))
            return FINE

        person.proxy.faults = faults
        with pytest.raises(MedPerfError, match="1 sent, but no receipt tells") as told:
            send_bundle(person.site(), bundle)
        assert "Nothing is sent twice" in told.value.hint
        send_bundle(person.site(), bundle, receipt)
    assert [one.state for one in import_bundle(person.site(), receipt).settled] == ["sent"]
    assert len(list(person.site().registry.pages("/me/mlcubes/"))) == 1


def test_a_bundle_that_cannot_be_written_leaves_the_queue_and_names_the_file(
    person: Person, small_disk: Path, closed: AbstractContextManager[None]
) -> None:
    member = Member(person.home.data, person.proxy.url, person.token)
    queue(person, new("stays", person))
    with closed:
        for words in (("bundle", "export", "--queue"), ("queue", "export")):
            refused = member.run(*words, str(small_disk / "queue.bundle"))
            assert refused.returncode == 1
            assert f"{small_disk / 'queue.bundle'} cannot be written" in refused.stderr
            assert "MEDPERF_HOME" not in refused.stderr
    assert [entry["state"] for entry in member.json("queue", "ls")] == ["queued"]


WRITER = """
import os, sys
from pathlib import Path
from medperf_cache.outbox import Outbox
Outbox(Path(sys.argv[1])).add("mlcube", "POST", "/mlcubes/", {"name": "last", "state": "x"})
print("written", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_wrote_last_is_read(
    member: Member, closed: AbstractContextManager[None]
) -> None:
    (outbox,) = member.home.glob("registries/*/outbox")
    environment = {**member.environment, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(outbox)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None and writer.stdout.readline() == "written\n"
    writer.kill()
    writer.communicate()
    assert (outbox / "cache.db-wal").stat().st_size > 0
    (outbox / "cache.db-shm").unlink()
    with closed:
        listed = member.json("queue", "ls")
    assert [entry["body"].get("name") for entry in listed] == [None, "last"]
