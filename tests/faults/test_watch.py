"""A site that watches its registry: alone, in silence, until it is told to end."""

import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from medperf_client.exchange import listener
from medperf_client.exchange.listener import Listener
from medperf_client.registry.client import Registry as Client
from tests.support.consortium import Member
from tests.support.people import Person, names, new, queue
from tests.support.proxy import FINE, Fault, Request, status
from tests.support.registry import Registry

BYE = "Interrupted. Nothing was left half-done."
BUSY = status("503 Service Unavailable")
PATIENCE_SECONDS = 60


class Looks:
    """What a watching site asks its registry, as it comes; `faults` answers it."""

    def __init__(self) -> None:
        self._came = threading.Semaphore(0)
        self.fault, self.requests = FINE, list[Request]()

    def faults(self, request: Request) -> Fault:
        """Goes wrong as `fault` says."""
        self.requests.append(request)
        self._came.release()
        return self.fault

    def wait_for(self, count: int) -> None:
        """Return once so many more requests came."""
        for _ in range(count):
            assert self._came.acquire(timeout=PATIENCE_SECONDS), "nothing was asked"


@pytest.fixture
def looks(person: Person) -> Looks:
    """What is asked from now on."""
    looks = Looks()
    person.proxy.faults = looks.faults
    return looks


@pytest.fixture
def member(person: Person) -> Member:
    """The person at their shell."""
    return Member(person.home.data, person.proxy.url, person.token)


@pytest.fixture
def watch(member: Member) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `sync --watch`, which looks every second and does not outlive the test."""
    started: list[subprocess.Popen[str]] = []
    timers: list[threading.Timer] = []

    def start(*options: str) -> subprocess.Popen[str]:
        process = member.start("sync", "--watch", "--interval", "1", *options)
        started.append(process)
        # Whoever waits for a line that never comes is told by the end of the stream.
        timer = threading.Timer(PATIENCE_SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        timers.append(timer)
        return process

    yield start
    # Later tests ask which threads there are.
    for timer in timers:
        timer.cancel()
        timer.join()
    for process in started:
        process.kill()
        process.communicate()


Watch = Callable[..., subprocess.Popen[str]]


def ended(process: subprocess.Popen[str], by: int = signal.SIGTERM) -> tuple[str, str]:
    """What a watching process wrote since it was last read, once it has ended as asked."""
    process.send_signal(by)
    out, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    return out, said.strip()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_is_quiet_while_nothing_happens_and_ends_when_it_is_told(
    looks: Looks, watch: Watch, by: int
) -> None:
    process = watch()
    looks.wait_for(3)
    assert ended(process, by) == ("", BYE)
    asked = {(one.method, one.path.partition("?")[0]) for one in looks.requests}
    assert asked == {("GET", "/api/v0/changes/")}


def test_two_do_not_fight(looks: Looks, watch: Watch, member: Member) -> None:
    first = watch()
    looks.wait_for(1)
    second = watch()
    said = second.communicate()
    assert said == ("", "Error: another `medperf sync --watch` is watching this registry\n")
    assert second.returncode == 1
    # Who syncs by hand meanwhile may.
    member.does("sync")
    looks.wait_for(2)
    assert first.poll() is None
    first.kill()
    first.wait()
    third = watch()
    looks.wait_for(1)
    assert ended(third) == ("", BYE)


def test_what_was_queued_while_the_registry_was_away_is_sent_when_it_is_back(
    person: Person, direct: Client, watch: Watch
) -> None:
    person.proxy.stop()
    process = watch()
    assert process.stdout is not None and process.stderr is not None
    assert "cannot be reached: Connection refused" in process.stderr.readline()
    queue(person, new("a", person))
    person.proxy.start()
    said = process.stdout.readline()
    (one,) = direct.pages("/me/mlcubes/")
    assert said == f"sent q1 as {one['id']}: container {one['name']}\n"
    assert process.stderr.readline() == "the registry answers again\n"
    assert ended(process) == ("", BYE)


def test_an_outage_is_told_once_however_long_it_is(looks: Looks, watch: Watch) -> None:
    looks.fault = BUSY
    process = watch()
    looks.wait_for(3)
    looks.fault = FINE
    looks.wait_for(2)
    out, said = ended(process)
    assert out == ""
    trouble, again, *rest = filter(None, said.splitlines())
    assert "the registry answered 503" in trouble and again == "the registry answers again"
    assert rest == [BYE]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_while_it_sends_it_sends_once(
    person: Person, direct: Client, watch: Watch, by: int
) -> None:
    (entry,) = queue(person, new("a", person))
    sending, gone = threading.Event(), threading.Event()

    def wait(request: Request) -> Fault:
        if request.method == "POST" and not gone.is_set():
            sending.set()
            gone.wait(PATIENCE_SECONDS)
        return FINE

    person.proxy.faults = wait
    process = watch()
    assert sending.wait(PATIENCE_SECONDS)
    assert ended(process, by) == ("", BYE)
    gone.set()
    (sent,) = person.site().sync().sent
    assert sent.uid == "q1" and names(direct) == [entry.body["name"]]


@pytest.fixture
def benchmark(with_benchmark: Registry, person: Person, direct: Client) -> Iterator[str]:
    """The path of the person's benchmark, which they know of, and which an admin may change."""
    roles = ("data_preparation_mlcube", "reference_model_mlcube", "data_evaluator_mlcube")
    body = {"name": f"of-{person.name}", "demo_dataset_tarball_hash": "0" * 64}
    body |= {"demo_dataset_tarball_url": "https://example.org/demo.tar.gz", "state": "OPERATION"}
    made = direct.post("/benchmarks/", {**body, **dict.fromkeys(roles, 1)}, person.name)
    person.sync()
    yield f"/benchmarks/{made['id']}/"


def change(registry: Registry, path: str, **values: Any) -> None:
    """Have something happen that is news to the person."""
    admin = Client(registry.url, registry.token_for("admin@example.org"))
    admin.put(path, values, str(uuid4()))


def test_each_line_of_news_is_handed_to_a_program(
    with_benchmark: Registry, person: Person, benchmark: str, watch: Watch, tmp_path: Path
) -> None:
    heard = tmp_path / "what was heard"
    script = f'(printf "%s|" "$1"; cat) >> {shlex.quote(str(heard))}; echo thanks'
    process = watch("--notify", f"sh -c {shlex.quote(script)} sh 'MedPerf: {{}}!'")
    change(with_benchmark, benchmark, approval_status="APPROVED")
    assert process.stdout is not None and process.stderr is not None
    told = process.stdout.readline().removeprefix("news: ")
    assert told.endswith(" is APPROVED\n")
    # What the program says is no news.
    assert process.stderr.readline() == "thanks\n"
    change(with_benchmark, benchmark, user_metadata={"paper": "out"})
    again = process.stdout.readline().removeprefix("news: ")
    assert process.stderr.readline() == "thanks\n"
    assert heard.read_text() == "".join(f"MedPerf: {one.strip()}!|{one}" for one in (told, again))
    assert ended(process) == ("", BYE)


def test_a_program_that_fails_stops_no_watch_and_is_told_once(
    with_benchmark: Registry, person: Person, benchmark: str, watch: Watch, tmp_path: Path
) -> None:
    program, ran = tmp_path / "program", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\necho >> {shlex.quote(str(ran))}; exit 3\n")
    program.chmod(0o755)
    process = watch("--notify", str(program))
    assert process.stdout is not None and process.stderr is not None
    change(with_benchmark, benchmark, approval_status="APPROVED")
    assert process.stdout.readline().endswith(" is APPROVED\n")
    assert process.stderr.readline() == f"--notify: {program} ended with 3\n"
    change(with_benchmark, benchmark, user_metadata={"n": 1})
    assert process.stdout.readline().endswith(" has changed: user_metadata\n")
    end = time.monotonic() + PATIENCE_SECONDS
    while len(ran.read_text()) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    program.unlink()
    change(with_benchmark, benchmark, user_metadata={"n": 2})
    assert process.stdout.readline().endswith(" has changed: user_metadata\n")
    assert f"--notify: {program} cannot be run: " in process.stderr.readline()
    program.symlink_to("/bin/true")
    change(with_benchmark, benchmark, user_metadata={"n": 3})
    assert process.stdout.readline().endswith(" has changed: user_metadata\n")
    assert process.stderr.readline() == "--notify works again\n"
    assert ended(process) == ("", BYE)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--notify", "true"), "--notify is for a watch"),
        (("--watch", "--notify", ""), "names no program that can be run"),
        (("--watch", "--notify", "/nowhere/mail -s News"), "names no program that can be run"),
        (("--watch", "--notify", "mail 'News"), "cannot be split into words: No closing quotation"),
    ],
)
def test_what_is_no_program_is_told_before_anything_is_watched(
    member: Member, words: tuple[str, ...], told: str
) -> None:
    done = member.run("sync", *words)
    assert done.returncode == 2 and told in done.stderr


def test_a_program_that_is_stuck_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "SECONDS", 0.5)
    said = Listener("sleep 60").hear("news")
    assert said == "--notify: sleep took more than 0.5 seconds, and was ended"


@pytest.mark.parametrize("line", ["", "n" * (1 << 20), "a\0b", "\udcff", "--help"])
def test_a_program_that_reads_nothing_hears_any_line(line: str) -> None:
    assert Listener("true").hear(line) == ""
    # Too long, or no argument of a program at all.
    odd = len(line) > 1000 or "\0" in line
    assert bool(Listener("true {}").hear(line)) == odd
