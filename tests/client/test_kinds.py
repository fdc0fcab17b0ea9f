"""What holds for every kind of entity: queued, sent, carried across an air gap, and settled."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medperf_cache.outbox import SENT, Entry
from medperf_client.airgap.bundles import export_bundle, import_bundle, send_bundle
from medperf_client.exchange.words import Words
from medperf_client.kinds import KINDS
from medperf_client.kinds.association import association_change, association_submission
from medperf_client.kinds.dataset import dataset_operational, dataset_submission
from medperf_client.kinds.dataset_association import dataset_request
from medperf_client.kinds.invitation import benchmark_invitation
from medperf_client.kinds.key import key_submission
from medperf_client.kinds.result import result_submission
from medperf_client.settings.config import Home
from medperf_client.site import Site
from tests.support.api import key_body
from tests.support.people import REPORT, container, log_in
from tests.support.town import Town, benchmark_of

DATASET: Any = {
    **{"name": "north", "description": "", "location": "", "preparator": 1},
    **{"data_hash": "ab" * 32, "as_prepared": False},
}


def queue_one_of_each(town: Town, site: Site) -> None:
    """Something of every kind that can be sent, of the committee of benchmark 1."""
    site.submit(container("gap"))
    mine = site.queue.reference("q1")
    site.submit(association_submission(mine, 1, REPORT))
    site.submit(benchmark_of(1, mine, 3, name="private", private=True))
    private = site.queue.reference("q3")
    site.submit(benchmark_invitation(private, town.bob.email))
    site.submit(association_change(mine, 1, priority=3))
    site.submit(dataset_submission(**DATASET))
    data = site.queue.reference("q6")
    site.submit(dataset_operational(data, "ab" * 32, "cd" * 32, {"scans": 3}))
    site.submit(dataset_request(data, 1, {"auc": 0.9}))
    numbers = {"results": {"auc": 0.8}, "partial": False}
    site.submit(result_submission(benchmark=1, model=2, dataset=data, name="b1m2", **numbers))
    site.submit(key_submission(**key_body("north")))


def test_people_read_what_waits_in_words(town: Town, tmp_path: Path) -> None:
    here = Home(tmp_path, tmp_path / "cache")
    at(town, here).sync()
    site = at(town, here, offline=True)
    queue_one_of_each(town, site)
    entries = site.queue.outbox.entries()
    assert [Words(entries, site.catalog)(entry) for entry in entries] == [
        "container gap",
        "request: container q1 (gap) in benchmark 1 (benchmark)",
        "benchmark private",
        f"invitation {town.bob.email} to benchmark q3 (private)",
        "request: container q1 (gap) in benchmark 1 (benchmark): priority 3",
        "dataset north",
        "dataset q6 (north): OPERATION",
        "request: dataset q6 (north) in benchmark 1 (benchmark)",
        "result b1m2",
        "signing key north",
    ]


def test_people_read_what_became_of_what_is_sent_by_its_answer(town: Town, tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path / "cache")
    at(town, home).sync()
    site = at(town, home, offline=True)
    site.submit(association_submission(2, 1, REPORT))
    site.submit(association_change(2, 1, approval_status="REJECTED", reason="No docs"))
    request, decision = site.queue.outbox.entries()

    def said(entry: Entry, **answer: str) -> str:
        return Words([], site.catalog)(replace(entry, answer=answer))

    assert said(request, approval_status="PENDING").endswith("(benchmark)")
    assert said(request, approval_status="APPROVED").endswith("(benchmark): APPROVED")
    kept = said(decision, approval_status="REJECTED", reason="No docs")
    assert kept.endswith(": REJECTED")
    lost = said(decision, approval_status="REJECTED")
    assert lost.endswith(": REJECTED, this registry keeps no reasons")


def at(town: Town, home: Home, offline: bool = False) -> Site:
    """The committee at a machine."""
    log_in(home, town.at.url, town.committee.token)
    return Site(home, offline=offline)


@pytest.mark.parametrize("settles", ["receipt", "sync"])
def test_every_kind_that_is_queued_crosses_a_bundle_and_comes_back_settled(
    town: Town, tmp_path: Path, settles: str
) -> None:
    here, courier = (Home(tmp_path / name, tmp_path / name / "cache") for name in ("a", "b"))
    at(town, here).sync()
    site = at(town, here, offline=True)
    queue_one_of_each(town, site)
    waiting = {entry.uid: entry.kind for entry in site.queue.waiting()}
    assert set(waiting.values()) == {kind.name for kind in KINDS.values() if kind.path}

    file = tmp_path / "queue.bundle"
    export_bundle(site, file, queue=True)
    sending = send_bundle(at(town, courier), file)
    assert [entry.uid for entry in sending.sent] == list(waiting) and not sending.rejected
    assert send_bundle(at(town, courier), file).sent == []
    if settles == "receipt":
        settled = import_bundle(site, file.with_name(f"{file.name}.receipt")).settled
        assert {entry.uid for entry in settled} == set(waiting)
    else:
        at(town, here).sync()
    assert {entry.state for entry in site.queue.outbox.entries()} == {SENT}
    client = town.client()
    (private,) = (one for one in client.pages("/benchmarks/") if one["name"] == "private")
    members = list(client.pages(f"/benchmarks/{private['id']}/members/"))
    assert [member["email"] for member in members] == [town.bob.email]
    associations = client.get("/mlcubes/4/benchmarks/1/")
    assert [one["priority"] for one in associations] == [3]
