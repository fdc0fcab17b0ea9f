"""A sync killed with SIGKILL at any moment loses nothing and sends nothing twice.

MEDPERF_TEST_KILLS says how often.
"""

import os
import random
import time

from medperf_client.kinds.association import association_submission
from medperf_client.registry.client import Registry as Client
from tests.support.people import REPORT, Person, container
from tests.support.proxy import Proxy
from tests.support.registry import Registry

KILLS = int(os.environ.get("MEDPERF_TEST_KILLS", "6"))


def test_killed_syncs_lose_and_double_nothing(with_benchmark: Registry) -> None:
    chance = random.Random(200)
    proxy = Proxy(with_benchmark.url)
    person = Person(with_benchmark, proxy)
    person.sync()
    started = time.monotonic()
    person.killed_sync(60)
    whole = time.monotonic() - started
    for number in range(KILLS):
        proxy.stop()
        queue_a_chain(person, number)
        proxy.start()
        person.killed_sync(chance.uniform(0, whole * 1.3))
    person.sync()
    assert person.site().queue.waiting() == []
    client = Client(with_benchmark.url, person.token)
    mine = sorted(one["name"] for one in client.pages("/me/mlcubes/"))
    assert mine == sorted(f"killed-{number}" for number in range(KILLS))
    associations = list(client.pages("/me/mlcubes/associations/"))
    assert len(associations) == KILLS == len({one["model_mlcube"] for one in associations})
    assert person.site().catalog.all("association") == associations
    proxy.stop()


def queue_a_chain(person: Person, number: int) -> None:
    """A container, and a request for it that has to wait for its UID."""
    model = person.submit(container(f"killed-{number}"), "no")
    assert model == f"q{2 * number + 1}"
    reference = person.site().queue.reference(model)
    assert person.submit(association_submission(reference, 1, REPORT), "no") is not None
