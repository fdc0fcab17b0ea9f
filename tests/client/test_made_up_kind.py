"""A kind that nobody foresaw, and a pair of it with benchmarks, from one site to the others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf_cache.outbox import SENT
from medperf_client.airgap.bundles import export_bundle, import_bundle, send_bundle
from medperf_client.exchange.words import Words
from medperf_client.kinds import KINDS
from medperf_client.kinds.form import Entity
from medperf_client.kinds.kind import Kind, View
from medperf_client.kinds.submission import Submission
from medperf_client.settings.config import Config, Home, Profile, save_config
from medperf_client.settings.credentials import Credentials
from medperf_client.site import Site
from tests.server.made_up.registry import Foresighted
from tests.support.people import Person
from tests.support.town import Town, towns


def news(view: View, before: Entity | None, after: Entity | None) -> Iterator[str]:
    """Requests and decisions."""
    if after is not None and before is None and view.owns("benchmark", after["benchmark"]):
        yield f"gadget {after['gadget']} would fit benchmark {after['benchmark']}"
    elif after is not None and before is not None:
        yield f"gadget {after['gadget']}: {after['approval_status']}"


GADGET = Kind(
    name="gadget",
    word="gadget",
    form={**dict.fromkeys(("id", "owner"), int), "name": str},
    path="/gadgets/",
    listed="/gadgets/",
    mine="/me/gadgets/",
    step="gadgets",
    unique=("name",),
    pins=("manual_hash",),
    is_public=True,
)
FITTING = Kind(
    name="fitting",
    word="fitting",
    form={**dict.fromkeys(("id", "gadget", "benchmark"), int), "approval_status": str},
    path="/gadgets/benchmarks/",
    listed="/me/gadgets/benchmarks/",
    mine="/me/gadgets/benchmarks/",
    pair="/gadgets/{gadget}/benchmarks/{benchmark}/",
    refers={"gadget": "gadget", "benchmark": "benchmark"},
    sides=("gadget", "benchmark"),
    news=news,
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client knows both, by a line in its list."""
    monkeypatch.setitem(KINDS, GADGET.name, GADGET)
    monkeypatch.setitem(KINDS, FITTING.name, FITTING)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """A town whose registry knows both."""
    for registry in Foresighted.serving(tmp_path / "registry"):
        yield from towns(registry)


def gadget(name: str) -> Submission:
    """A new gadget."""
    return Submission(GADGET.name, "POST", GADGET.path, {"name": name})


def fitting(of: Any) -> Submission:
    """A request that a gadget fits benchmark 1."""
    body = {"gadget": of, "benchmark": 1, "approval_status": "PENDING"}
    return Submission(FITTING.name, "POST", FITTING.path, body)


def decision(status: str) -> Submission:
    """A decision on gadget 1 in benchmark 1."""
    path = FITTING.pair.format(gadget=1, benchmark=1)
    return Submission(FITTING.name, "PUT", path, {"approval_status": status})


def queue_both(person: Person, town: Town) -> Site:
    """A gadget that waits, and a request that needs it."""
    town.at.stop()
    site = person.site()
    site.submit(gadget("lamp"))
    site.submit(fitting(site.queue.reference("q1")))
    town.at.start()
    return site


def test_it_is_submitted_queued_sent_once_pulled_and_told_as_news(town: Town) -> None:
    site = queue_both(town.ada, town)
    entries = site.queue.waiting()
    assert [Words(entries, site.catalog)(entry) for entry in entries] == [
        "gadget lamp",
        "fitting: gadget q1 (lamp) in benchmark 1 (benchmark)",
    ]
    assert [one["id"] for one in site.listed(GADGET.name)] == ["q1"]
    # The answer is lost once; sent again, each is there once.
    town.ada.sync(crash="after")
    assert {entry.state for entry in town.ada.site().queue.outbox.entries()} != {SENT}
    town.ada.sync()
    town.ada.sync()
    site = town.ada.site()
    assert {entry.state for entry in site.queue.outbox.entries()} == {SENT}
    client = town.client()
    assert [one["name"] for one in client.pages(GADGET.listed)] == ["lamp"]
    (mine,) = site.listed(GADGET.name, mine=True)
    assert (mine["id"], mine["name"]) == (1, "lamp")

    done = town.committee.site().sync()
    assert "gadget 1 would fit benchmark 1" in done.news
    (asked,) = town.committee.site().listed(FITTING.name)
    assert (asked["gadget"], asked["approval_status"]) == (1, "PENDING")
    town.committee.site().submit(decision("APPROVED"))
    assert "gadget 1: APPROVED" in town.ada.site().sync().news
    # Who is on no side of it is told nothing.
    town.bob.site().sync()
    assert town.bob.site().listed(FITTING.name) == []


def test_bundles_carry_it_and_the_queue_that_makes_it(town: Town, tmp_path: Path) -> None:
    site = queue_both(town.ada, town)
    file = tmp_path / "queue.bundle"
    export_bundle(site, file, queue=True)
    courier = Home(tmp_path / "courier", tmp_path / "courier" / "cache")
    save_config(Config(profiles={"default": Profile(server_url=town.at.url)}), courier.config_file)
    Credentials(courier.data).store(town.at.url, town.ada.token)
    assert [entry.uid for entry in send_bundle(Site(courier), file).sent] == ["q1", "q2"]
    settled = import_bundle(site, file.with_name(f"{file.name}.receipt")).settled
    assert [entry.real_uid for entry in settled] == [1, 1]

    Site(courier).sync()
    export_bundle(Site(courier), tmp_path / "catalog.bundle")
    island = Home(tmp_path / "island", tmp_path / "island" / "cache")
    save_config(Config(profiles={"default": Profile(server_url=town.at.url)}), island.config_file)
    here = Site(island, offline=True)
    import_bundle(here, tmp_path / "catalog.bundle")
    assert [one["name"] for one in here.catalog.all(GADGET.name)] == ["lamp"]
    assert [one["benchmark"] for one in here.catalog.all(FITTING.name)] == [1]


def test_a_registry_that_was_put_back_gets_it_again(town: Town) -> None:
    town.keep()
    queue_both(town.ada, town)
    town.ada.sync()
    town.restore()
    town.ada.sync()
    site = town.ada.site()
    assert {entry.state for entry in site.queue.outbox.entries()} == {"lost"}
    again, left = site.resend()
    assert ([one.uid for one in again], left) == (["q1", "q2"], [])
    town.ada.sync()
    assert [one["name"] for one in town.client().pages(GADGET.listed)] == ["lamp"]
    assert len(town.ada.site().listed(FITTING.name)) == 1
