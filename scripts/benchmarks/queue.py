"""A long queue: adding to it, listing it, and what it costs to send each of many."""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.consortium import Member
from tests.support.people import REPORT, Person, container
from tests.support.proxy import Proxy
from tests.support.registry import Registry

from benchmarks.stage import MEDPERF, environment
from benchmarks.timing import Run, command
from medperf_cache.outbox import REFERENCE, Outbox
from medperf_client.exchange.queue import Queue, subject
from medperf_client.kinds.association import association_submission
from medperf_client.settings.config import Home

WAITING, REQUESTS = 1000, 100
ADD_GOAL_SECONDS, LIST_GOAL_SECONDS = 0.010, 0.3
FEW, MANY, SEND_GOAL = 10, 100, 1.2


def measure(rounds: int = 15) -> dict[str, Any]:
    """One more request with 1,000 waiting, `queue ls` of them, 100 in all; each of many sent."""
    with TemporaryDirectory(prefix="medperf-bench-") as temporary:
        folder = Path(temporary)
        member = Member(folder / "home", "http://127.0.0.1:9", "mpf_bench")
        place = Home(member.home, member.home / "cache").registry("http://127.0.0.1:9")
        queue = Queue(Outbox(place / "outbox", subject))
        hundred = Queue(Outbox(folder / "hundred", subject))
        for number in range(REQUESTS):
            hundred.add(container(f"model-{number}"))
        for number in range(WAITING // 2):
            queue.add(container(f"model-{number}"))
        _requests(queue, WAITING // 2)
        listing = command([MEDPERF, "queue", "ls"], environment(member), folder)
        return {
            "queue_add": _against(ADD_GOAL_SECONDS, _requests(queue, rounds), waiting=WAITING),
            "queue_ls": _against(LIST_GOAL_SECONDS, _timed(listing, rounds), waiting=WAITING),
            "queue_requests": _against(
                REQUESTS * ADD_GOAL_SECONDS, [sum(_requests(hundred, REQUESTS))], requests=REQUESTS
            ),
            "queue_send": _send(folder),
        }


def _against(goal: float, seconds: list[float], **more: Any) -> dict[str, Any]:
    """A figure whose goal is a time."""
    median = statistics.median(seconds)
    ratio = {"ratio": round(median / goal, 3), "goal": 1.0}
    return {"seconds": round(median, 4), "goal_seconds": goal, **ratio, **more}


def _timed(run: Run, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


def _requests(queue: Queue, number: int) -> list[float]:
    """Add so many requests, each for another queued container; how long each took."""
    models = iter(range(1, number + 1))
    return _timed(
        lambda: queue.add(association_submission({REFERENCE: f"q{next(models)}"}, 1, REPORT)),
        number,
    )


def _send(folder: Path) -> dict[str, Any]:
    """How long each of many containers takes to be sent, against each of few."""
    each = {}
    for registry in Registry.serving(folder / "registry"):
        proxy = Proxy(registry.url)
        person = Person(registry, proxy)
        person.sync()
        for number in (FEW, MANY):
            site = person.site()
            for one in range(number):
                site.queue.add(container(f"{number}-{one}"))
            started = time.perf_counter()
            assert len(site.sender.send().sent) == number
            each[number] = (time.perf_counter() - started) / number
        proxy.stop()
    return {
        "seconds": round(each[MANY], 4),
        "baseline_seconds": round(each[FEW], 4),
        "ratio": round(each[MANY] / each[FEW], 3),
        "goal": SEND_GOAL,
        "entries": MANY,
    }
