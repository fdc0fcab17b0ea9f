"""Whenever a release or a sync is killed, all that left has its line, and the lines are sound.

MEDPERF_TEST_KILLS says how often each of them is killed.
"""

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medperf_cache.digests import file_digest
from medperf_client.kinds.association import association_submission
from tests.support.consortium import EXAMPLE, Consortium, Member
from tests.support.consortium_fixtures import beginning, own_consortium  # noqa: F401
from tests.support.hospital import as_committee
from tests.support.kills import kill_at_random
from tests.support.ledgers import behind, is_write, unlined
from tests.support.people import REPORT, Person, container
from tests.support.proxy import Proxy
from tests.support.proxy import proxy as proxied
from tests.support.registry import Registry

KILLS = int(os.environ.get("MEDPERF_TEST_KILLS", "6"))


def test_killed_syncs_send_nothing_without_its_line(with_benchmark: Registry) -> None:
    chance = random.Random(15)
    with proxied(with_benchmark.url) as proxy:
        person = Person(with_benchmark, proxy)
        member = Member(person.home.data, proxy.url, person.token)
        person.sync()
        whole = longest_sync(person, member)
        hit = 0
        for number in range(KILLS):
            queue_a_chain(person, f"killed-{number}")
            hit += kill_at_random(member, ["sync"], whole * 1.2, chance)
            check(proxy, member)
        person.sync()
        check(proxy, member)
        assert hit > 0 and person.site().queue.waiting() == []
        # At least one write of each chain left, and each that did was seen to have its line.
        assert sum(map(is_write, proxy.requests)) >= 2 * KILLS


def longest_sync(person: Person, member: Member) -> float:
    """How long a sync takes that is not killed, in seconds."""
    queue_a_chain(person, "whole")
    started = time.monotonic()
    member.does("sync")
    return time.monotonic() - started


def queue_a_chain(person: Person, name: str) -> None:
    """A container, and a request for it that has to wait for its UID."""
    queue = person.site().queue
    entry = queue.add(container(f"{name}-{person.name}"))
    queue.add(association_submission(queue.reference(entry.uid), 1, REPORT))


def check(proxy: Proxy, member: Member) -> None:
    """All that came has its line, and the lines are as they were written."""
    assert unlined(proxy, member.json("ledger", "ls")) == []
    assert member.json("ledger", "verify")["findings"] == []


@pytest.fixture
def proxy(own_consortium: Consortium) -> Iterator[Proxy]:  # noqa: F811
    """What stands between a site and the registry."""
    with proxied(own_consortium.registry.url) as proxy:
        yield proxy


@pytest.fixture
def site(
    own_consortium: Consortium,  # noqa: F811
    proxy: Proxy,
    tmp_path: Path,
) -> Member:
    """A hospital with a result on its dataset 1, which takes part in the benchmark."""
    site = behind(own_consortium, proxy, "hospital")
    site.does("benchmark", "fetch", "1")
    data = shutil.copytree(EXAMPLE / "data" / "demo", tmp_path / "data")
    paths = ("-d", str(data / "measurements"), "-l", str(data / "diagnoses"))
    site.does("dataset", "submit", "-b", "1", *paths, "--name", "north", "-y")
    site.does("dataset", "prepare", "-d", "1", "-y")
    site.does("dataset", "set_operational", "-d", "1", "-y")
    site.does("dataset", "associate", "-d", "1", "-b", "1", "-y")
    as_committee(own_consortium).does("association", "approve", "-b", "1", "-d", "1", "-y")
    site.does("sync")
    site.does("benchmark", "run", "-b", "1", "-d", "1")
    return site


def test_killed_releases_send_nothing_without_its_line(proxy: Proxy, site: Member) -> None:
    chance = random.Random(16)
    (result,) = site.home.glob("registries/*/results/*.json")
    unreleased = json.loads(result.read_text())
    words = ["result", "submit", "--all", "-b", "1", "-d", "1", "-y"]
    started = time.monotonic()
    site.does(*words)
    whole, hit = time.monotonic() - started, 0
    for number in range(KILLS):
        # As if the model had been run once more, and had come to something else.
        again = {**unreleased["results"], "auroc": number / 1000}
        result.write_text(json.dumps({**unreleased, "results": again}))
        hit += kill_at_random(site, words, whole * 1.2, chance)
        check(proxy, site)
    site.does("sync")
    check(proxy, site)
    assert hit > 0 and site.json("queue", "ls") == []
    assert sum(request.path.endswith("/results/") for request in proxy.requests) > 1


def test_killed_exports_write_nothing_without_its_line(
    with_benchmark: Registry, tmp_path: Path
) -> None:
    chance = random.Random(17)
    with proxied(with_benchmark.url) as proxy:
        person = Person(with_benchmark, proxy)
        member = Member(person.home.data, proxy.url, person.token)
        person.sync()
        person.site().storage.blobs.add([os.urandom(20_000_000)])
        started = time.monotonic()
        member.does("bundle", "export", str(tmp_path / "whole.bundle"))
        whole, hit = time.monotonic() - started, 0
        for number in range(KILLS):
            file = tmp_path / f"killed-{number}" / "all.bundle"
            file.parent.mkdir()
            words = ["bundle", "export", str(file)]
            hit += kill_at_random(member, words, whole * 1.2, chance)
            lines = {row["file"]: row["sha256"] for row in member.json("ledger", "ls")}
            if any(path.stat().st_size for path in file.parent.iterdir()):
                assert str(file) in lines
            if file.exists():
                assert lines[str(file)] == file_digest(file)
            assert member.json("ledger", "verify")["findings"] == []
        assert hit > 0
