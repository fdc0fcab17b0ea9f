"""What nobody would take is found out by who makes it, and not days and a journey later."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medperf_cache.outbox import QUEUED, SENT
from medperf_client.airgap.bundles import export_bundle, import_bundle, send_bundle
from medperf_client.errors import MedPerfError, Refused
from medperf_client.kinds.association import association_submission
from medperf_client.kinds.submission import Submission
from medperf_client.registry import bounds
from medperf_client.registry.client import Registry as Client
from medperf_server import config
from tests.support.people import REPORT, Person, container, new, queue
from tests.support.proxy import plain


def test_who_makes_it_and_who_takes_it_have_the_same_bounds() -> None:
    assert bounds.MOST_OBJECT_BYTES == config.MAX_JSON_BYTES
    assert bounds.MOST_BODY_BYTES == config.MAX_BODY_BYTES


def with_results(model: Any, size: int) -> Submission:
    """A request whose metadata has so many bytes as JSON."""
    made = association_submission(model, 1, {**REPORT, "results": {"per_case": ""}})
    missing = size - bounds._size("", made.body["metadata"], (",", ":"))
    results = {"per_case": "x" * missing}
    return association_submission(model, 1, {**REPORT, "results": results})


@pytest.fixture
def model(person: Person, direct: Client) -> int:
    """A container of the member's."""
    uid: int = direct.post("/mlcubes/", container(person.name).body, person.email)["id"]
    person.sync()
    return uid


def test_results_that_are_too_large_are_refused_before_they_are_queued(
    person: Person, direct: Client, model: int
) -> None:
    largest = with_results(model, bounds.MOST_OBJECT_BYTES)
    larger = with_results(model, bounds.MOST_OBJECT_BYTES + 1)
    for offline in (True, False):
        site = person.site()
        site.offline = offline
        with pytest.raises(MedPerfError, match="metadata has 262145 bytes .* takes 262144") as told:
            site.submit(larger)
        assert not isinstance(told.value, Refused) and "have it write less" in told.value.hint
        assert site.queue.outbox.entries() == []
    with pytest.raises(Refused, match="262145 bytes"):
        direct.post(larger.path, larger.body, "larger")
    assert person.site().submit(largest).state == SENT


def test_a_url_that_is_too_long_is_refused_before_it_is_queued(
    person: Person, direct: Client
) -> None:
    made = new("far", person)
    longest, longer = (
        {**made.body, "git_mlcube_url": "https://example.org/".ljust(size, "x")}
        for size in (bounds.MOST_URL, bounds.MOST_URL + 1)
    )
    with pytest.raises(MedPerfError, match="git_mlcube_url has 2049 characters"):
        queue(person, replace(made, body=longer))
    with pytest.raises(Refused, match="git_mlcube_url"):
        direct.post(made.path, longer, "longer")
    assert person.site().submit(replace(made, body=longest)).state == SENT


def test_a_plain_server_bounds_the_whole_and_not_its_parts(person: Person, model: int) -> None:
    person.proxy.faults = plain()
    person.home.registry(person.proxy.url).joinpath("catalog").rename(person.home.data / "old")
    person.sync()
    site = person.site()
    assert site.queue.add(with_results(model, bounds.MOST_OBJECT_BYTES + 1)).state == QUEUED
    with pytest.raises(MedPerfError, match="what is to be sent has .* bytes"):
        site.queue.add(with_results(model, bounds.MOST_BODY_BYTES))


@pytest.mark.parametrize(
    ("value", "said"),
    [("x" * bounds.MOST_OBJECT_BYTES, "metadata has"), (float("nan"), "cannot be sent as JSON")],
    ids=["large", "no number"],
)
def test_an_edit_keeps_the_bounds_too(person: Person, value: Any, said: str) -> None:
    (entry,) = queue(person, new("edited", person))
    with pytest.raises(MedPerfError, match=said):
        person.site().queue.edit(entry, {**entry.body, "metadata": {"value": value}})
    assert person.site().queue.entry(entry.uid) == entry


def test_a_queue_that_nobody_would_take_is_not_carried(person: Person, tmp_path: Path) -> None:
    outbox = person.site().queue.outbox
    outbox.add("mlcube", "POST", "/mlcubes/?x=1", {})
    with pytest.raises(Exception, match="path is '/mlcubes/"):
        export_bundle(person.site(), tmp_path / "bundle", queue=True)
    assert [entry.state for entry in outbox.entries()] == [QUEUED]
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_nobody_would_believe_is_told_before_anything_is_carried(
    person: Person, tmp_path: Path
) -> None:
    queue(person, new("clock", person))
    # The clock of a machine whose battery is empty, at the last sync.
    person.site().catalog.fetched_at = "1970-01-01T00:00:07+00:00"
    with pytest.raises(MedPerfError, match="1970-01-01") as told:
        export_bundle(person.site(), tmp_path / "bundle", queue=True)
    assert "clock" in told.value.hint
    assert [entry.state for entry in person.site().queue.outbox.entries()] == [QUEUED]


def nested(levels: int) -> Any:
    """Results in so many levels."""
    results: Any = 1
    for _ in range(levels):
        results = {"deeper": results}
    return results


def test_results_as_deep_as_they_are_taken_arrive_also_in_a_bundle(
    person: Person, model: int, tmp_path: Path
) -> None:
    # Two more levels are the request and its metadata.
    results = nested(bounds.MOST_LEVELS - 2)
    with pytest.raises(MedPerfError, match="nested more than 200 levels"):
        queue(person, association_submission(model, 1, {**REPORT, "results": nested(1000)}))
    queue(person, association_submission(model, 1, {**REPORT, "results": results}))
    file = tmp_path / "queue.bundle"
    export_bundle(person.site(), file, queue=True)
    assert len(send_bundle(person.site(), file).sent) == 1
    assert len(import_bundle(person.site(), tmp_path / "queue.bundle.receipt").settled) == 1
    person.sync()
    (there,) = person.site().catalog.all("association")
    assert there["metadata"]["test_result"] == results
