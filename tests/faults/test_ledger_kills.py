"""Whenever a release or a sync is killed, all that left has its line, and the lines are sound.

MEDPERF_TEST_KILLS says how often each of them is killed.
"""

import base64
import json
import os
import random
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from medperf_cache.digests import file_digest
from medperf_client.evidence.statement import document_digest
from medperf_client.kinds.association import association_submission
from tests.support.consortium import EXAMPLE, Consortium, Member
from tests.support.consortium_fixtures import beginning, own_consortium  # noqa: F401
from tests.support.hospital import as_committee
from tests.support.kills import kill_at_random
from tests.support.ledgers import behind, is_write, unlined
from tests.support.people import REPORT, Person, container
from tests.support.proxy import Proxy, Request
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


def test_whenever_either_of_two_is_killed_nothing_leaves_that_both_did_not_agree_to(
    own_consortium: Consortium,  # noqa: F811
    proxy: Proxy,
    site: Member,
    tmp_path: Path,
) -> None:
    chance = random.Random(18)
    (tmp_path / "shared").mkdir()
    second = behind(own_consortium, proxy, "colleague")
    for member in (site, second):
        member.does("profile", "set", "releases_folder", str(tmp_path / "shared"))
        member.does("key", "create")
        (member.home / "policy.yaml").write_text("release: {persons: 2}\n")
    for member in (site, second):
        member.does("sync")
    (result,) = site.home.glob("registries/*/results/*.json")
    unreleased = json.loads(result.read_text())
    submit = ["result", "submit", "--all", "-b", "1", "-d", "1", "-y"]

    def asked() -> list[str]:
        """What waits for the second one."""
        listed = second.json("result", "review")
        return [one["id"] for one in listed if one["state"] == "pending"]

    def settled(number: int) -> None:
        """Have both of them get to the end of what they were cut off in."""
        # It waits, unless they agreed before it was cut off.
        assert site.run(*submit).returncode in (0, 1)
        for request in asked():
            second.does("result", "review", request)
            second.does("result", "review", request, "--approve", "-y")
        if json.loads(result.read_text())["entry"] is None:
            site.does(*submit)
        site.does("sync")
        sent = [request for request in proxy.requests if request.path.endswith("/results/")]
        assert json.loads(sent[-1].body)["results"]["auroc"] == number / 1000

    def again(number: int) -> None:
        figures = {**unreleased["results"], "auroc": number / 1000}
        result.write_text(json.dumps({**unreleased, "results": figures}))

    again(900)
    started = time.monotonic()
    settled(900)
    # About as long as one command of these takes.
    whole, hit = (time.monotonic() - started) / 4, 0
    for number in range(KILLS):
        again(number)
        hit += kill_at_random(site, submit, whole * 1.2, chance)
        for request in asked():
            words = ["result", "review", request, "--approve", "-y"]
            hit += kill_at_random(second, words, whole * 1.2, chance)
        hit += kill_at_random(site, submit, whole * 1.2, chance)
        hit += kill_at_random(site, ["sync"], whole * 1.2, chance)
        if json.loads(result.read_text())["entry"] is None:
            settled(number)
    site.does("sync")
    rows = [row for member in (site, second) for row in member.json("ledger", "ls")]
    assert unlined(proxy, rows) == []
    assert site.json("ledger", "verify")["findings"] == []
    assert hit > 0 and site.json("queue", "ls") == []
    releases = [request for request in proxy.requests if request.path.endswith("/results/")]
    bodies = [json.loads(one.body) for one in releases if is_whole(one)]
    assert len({body["results"]["auroc"] for body in bodies}) == KILLS + 1
    for body in bodies:
        statement = json.loads(base64.b64decode(body["metadata"]["statement"]["payload"]))
        (verdict,) = statement["predicate"]["release"]["verdicts"]
        agreed = json.loads(base64.b64decode(verdict["payload"]))
        assert agreed["predicate"]["verdict"] == "approved"
        assert agreed["subject"][0]["digest"]["sha256"] == document_digest(body["results"])
    lines = [one for one in site.json("ledger", "ls") if one["path"] == "/results/"]
    assert {one["agreed"] for one in lines} == {"colleague@example.org"}


def is_whole(request: Request) -> bool:
    """Whether all of a request came: its sender may have been killed meanwhile."""
    return len(request.body) == int(request.headers.get("content-length", 0))


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


def test_killed_exports_of_results_leave_the_earlier_file_or_a_whole_one(
    with_benchmark: Registry, tmp_path: Path
) -> None:
    chance = random.Random(18)
    with proxied(with_benchmark.url) as proxy:
        person = Person(with_benchmark, proxy)
        member = Member(person.home.data, proxy.url, person.token)
        person.sync()
        catalog = person.site().catalog
        model = catalog.get("benchmark", 1)["reference_model_mlcube"]  # type: ignore[index]
        of = {"owner": 1, "benchmark": 1, "model": model, "dataset": 1}
        for uid in range(1, 400):
            catalog.put("result", {"id": uid, **of, "results": {"auroc": 1 / uid}})
        file = tmp_path / "results" / "results.zip"
        file.parent.mkdir()
        words = ["result", "export", "-b", "1", "-o", str(file), "--offline"]
        started = time.monotonic()
        member.does(*words)
        whole, hit = time.monotonic() - started, 0
        for _ in range(KILLS):
            hit += kill_at_random(member, words, whole * 1.1, chance)
            with zipfile.ZipFile(file) as archive:
                assert archive.testzip() is None and len(archive.namelist()) > 2 * 399
            lines = [row["sha256"] for row in member.json("ledger", "ls")]
            assert file_digest(file) in lines
        assert hit > 0 and member.json("ledger", "verify")["findings"] == []
