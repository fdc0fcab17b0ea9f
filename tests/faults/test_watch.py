"""A site that watches its registry: alone, in silence, until it is told to end."""

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from medperf_client.registry.client import Registry as Client
from tests.support.consortium import Member
from tests.support.people import Person, names, new, queue
from tests.support.proxy import FINE, Fault, Request, status

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
def watch(member: Member) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts `sync --watch`, which looks every second and does not outlive the test."""
    started: list[subprocess.Popen[str]] = []
    timers: list[threading.Timer] = []

    def start() -> subprocess.Popen[str]:
        process = member.start("sync", "--watch", "--interval", "1")
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


Watch = Callable[[], subprocess.Popen[str]]


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
