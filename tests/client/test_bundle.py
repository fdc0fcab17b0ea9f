"""Across an air gap: assets and catalog one way, the queue the other, its receipt back."""

import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf_cache import Storage, UnsafeArchive
from medperf_cache.bundle import write
from medperf_cache.outbox import SENDING, Outbox
from medperf_client.airgap.bundles import export_bundle, import_bundle, send_bundle
from medperf_client.errors import UsageError
from medperf_client.kinds.association import association_change, association_submission
from medperf_client.settings.config import Home
from medperf_client.site import Site
from tests.support.consortium import Consortium, Member
from tests.support.keys import make_keys
from tests.support.people import REPORT, Person, new, queue
from tests.support.proxy import LOST, plain, proxy

_numbers = itertools.count(1)
MODEL = ("test", "run", "--benchmark", "1", "--model", "2")
KILLS = int(os.environ.get("MEDPERF_TEST_KILLS", "4"))


def state(home: Path) -> Any:
    """Everything in a home that means something: files, and the rows of its stores."""
    files = {}
    for path in sorted(home.rglob("*")):
        if path.is_file() and not path.name.startswith(("cache.db", "lock")):
            files[str(path)] = (path.stat().st_ino, path.stat().st_size)
    rows = {}
    for store in home.rglob("cache.db"):
        with sqlite3.connect(store) as connection:
            rows[str(store)] = set(connection.execute("SELECT key, value FROM Cache"))
    return files, rows


def left_over(home: Path) -> list[Path]:
    """What unfinished work left in a home."""
    return [path for path in home.glob("cache/incoming/*") if path.name != "partial"]


@pytest.fixture(scope="module")
def beginning(beginning: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """A consortium whose member `site` has used benchmark 1 and the files of a model to submit."""
    consortium = beginning.copied(tmp_path_factory.mktemp("used"))
    site = consortium.member("site")
    site.does("test", "run", "--benchmark", "1")
    files = consortium.container_options("model_mlp")
    declined = site.run("container", "submit", "--name", "m", *files, answers="n\n")
    assert "Nothing was sent." in declined.stderr
    consortium.stop()
    return consortium


@pytest.fixture(scope="module")
def prepared(consortium: Consortium) -> Member:
    """A member with a network whose cache holds benchmark 1 and a test of it."""
    member = consortium.member("prepared")
    assert member.json(*MODEL)["passed"]
    return member


@pytest.fixture
def island(consortium: Consortium, tmp_path: Path) -> Member:
    """A machine without a network, and without a token."""
    member = Member(tmp_path / "island", consortium.registry.url)
    member.does("profile", "set", "allow_process", "true")
    member.environment |= {"MEDPERF_OFFLINE": "1"}
    return member


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[[], Path]:
    """Gives files to write bundles to."""
    return lambda: tmp_path / f"{next(_numbers)}.bundle"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, str]:
    """The keys of who makes bundles."""
    return make_keys(tmp_path / "key")


def steps(report: dict[str, Any]) -> set[str]:
    """Where the steps of a test came from."""
    return {step["source"] for step in report["steps"]}


def test_a_machine_without_network_runs_what_a_bundle_brought(
    prepared: Member, island: Member, bundle: Callable[[], Path]
) -> None:
    file = bundle()
    made = prepared.json("bundle", "export", str(file), "--benchmark", "1")
    assert made["benchmark"] == 1 and made["files"] > 5 and not made["signed"]
    taken = island.json("bundle", "import", str(file))
    assert taken["id"] == made["id"] and taken["missing"] == [] and taken["entities_changed"] >= 4
    assert "breast-cancer" in island.does("benchmark", "ls")
    report = island.json(*MODEL)
    assert report["passed"] and steps(report) == {"ran"}
    assert island.json("storage", "verify")["damaged"] == []
    assert left_over(island.home) == []
    # What a benchmark needs is pinned.
    island.does("storage", "gc", "--unused-days", "0")
    assert island.json(*MODEL)["passed"]


def test_everything_signed_brings_results_too(
    prepared: Member, island: Member, bundle: Callable[[], Path], keys: tuple[str, str]
) -> None:
    file, (private, public) = bundle(), keys
    prepared.json("bundle", "export", str(file), "--sign", private)
    taken = island.json("bundle", "import", str(file), "--require-signature", public)
    assert taken["results"] >= 5
    assert steps(island.json(*MODEL)) == {"cache"}
    assert island.json("container", "ls") == prepared.json("container", "ls")


def test_a_second_import_changes_nothing(
    prepared: Member, island: Member, bundle: Callable[[], Path]
) -> None:
    file = bundle()
    prepared.json("bundle", "export", str(file))
    island.json("bundle", "import", str(file))
    before = state(island.home)
    assert island.json("bundle", "import", str(file))["entities_changed"] == 0
    assert state(island.home) == before


def test_a_benchmark_s_bundle_carries_no_results_and_one_unsigned_neither(
    prepared: Member, bundle: Callable[[], Path], keys: tuple[str, str]
) -> None:
    everything, needed, unsigned = bundle(), bundle(), bundle()
    prepared.json("bundle", "export", str(everything), "--sign", keys[0])
    prepared.json("bundle", "export", str(needed), "--benchmark", "1", "--sign", keys[0])
    prepared.json("bundle", "export", str(unsigned))
    found, some, least = (
        json.loads(prepared.does("bundle", "view", str(f), "--json"))
        for f in (everything, needed, unsigned)
    )
    assert some["folders"] == least["folders"] == 0 < found["folders"]
    assert some["files"] < found["files"]
    assert "memo" in found["documents"]
    assert "memo" not in some["documents"] + least["documents"]


def test_since_leaves_out_what_the_other_side_has(
    consortium: Consortium,
    prepared: Member,
    island: Member,
    bundle: Callable[[], Path],
    keys: tuple[str, str],
) -> None:
    sign, trust = ("--sign", keys[0]), ("--require-signature", keys[1])
    first, second, third = bundle(), bundle(), bundle()
    prepared.json("bundle", "export", str(first), *sign)
    before = prepared.json("bundle", "view", str(first))
    candidate = consortium.candidate / "container_config.yaml"
    prepared.json("test", "run", "--benchmark", "1", "--model", str(candidate))
    made = prepared.json("bundle", "export", str(second), "--since", str(first), *sign)
    assert made["left_out"] == before["files"] + before["folders"]
    assert 0 < made["folders"] < before["folders"]
    # What was left out before counts as there, too.
    after = prepared.json("bundle", "export", str(third), "--since", str(second), *sign)
    assert (after["files"], after["folders"]) == (0, 0)

    told = island.run("bundle", "import", str(second), *trust)
    assert told.returncode == 0 and "import the bundle first" in told.stderr
    again = island.json("bundle", "import", str(second), *trust)
    assert len(again["missing"]) == made["left_out"]
    island.json("bundle", "import", str(first), *trust)
    assert island.json("bundle", "import", str(second), *trust)["missing"] == []
    assert steps(island.json("test", "run", "--benchmark", "1", "--model", str(candidate))) == {
        "cache"
    }


def test_a_bundle_of_another_registry_is_refused(
    prepared: Member, tmp_path: Path, bundle: Callable[[], Path]
) -> None:
    file = bundle()
    prepared.json("bundle", "export", str(file))
    stranger = Member(tmp_path / "stranger", "https://registry.example.org")
    refused = stranger.run("bundle", "import", str(file))
    assert refused.returncode == 2 and "is of the registry http://127.0.0.1" in refused.stderr
    assert list(stranger.home.glob("cache/blobs/*/*")) == []


def test_an_older_bundle_does_not_bring_back_what_was(
    own_consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, other = own_consortium.member("first"), own_consortium.member("second")
    older, newer, part = (tmp_path / name for name in ("older", "newer", "part"))
    for file in (older, newer, part):
        member.json("benchmark", "ls")
        member.json("bundle", "export", str(file), *(["--benchmark", "1"] if file == part else []))
        if file == older:
            admin = own_consortium.member("administrator", admin=True, home="again")
            options = own_consortium.container_options("model_mlp")
            other.does("container", "submit", "--name", "new", *options, "--operational", "-y")
            admin.does("container", "associate", "--benchmark", "1", "--model_uid", "4", "-y")
    monkeypatch.setenv("MEDPERF_SERVER_URL", own_consortium.registry.url)
    for order in ((older, newer, part), (newer, older, part), (part, newer, older)):
        home = tmp_path / "-".join(file.name for file in order)
        island = Site(Home(home, home / "cache"), offline=True)
        for file in order:
            import_bundle(island, file)
        names = [entity["name"] for entity in island.listed("mlcube")]
        assert names == ["data_preparator", "model_logistic", "metrics", "new"], order


def test_another_member_s_view_is_replaced_by_one_s_own(
    consortium: Consortium, prepared: Member, bundle: Callable[[], Path]
) -> None:
    file = bundle()
    committee = consortium.member("committee", home="again")
    assert len(committee.json("container", "ls", "--mine")) == 3
    committee.json("bundle", "export", str(file))
    other = consortium.member(f"other-{next(_numbers)}")
    other.json("bundle", "import", str(file))
    assert other.json("container", "ls", "--mine") == []
    assert other.json("container", "ls") == committee.json("container", "ls")


def test_a_signature_says_who_made_it(
    prepared: Member,
    island: Member,
    bundle: Callable[[], Path],
    keys: tuple[str, str],
    tmp_path: Path,
) -> None:
    private, public = keys
    signed, unsigned = bundle(), bundle()
    prepared.json("bundle", "export", str(unsigned), "--benchmark", "1")
    made = prepared.json("bundle", "export", str(signed), "--benchmark", "1", "--sign", private)
    assert made["signed"]
    before = state(island.home)
    refused = island.run("bundle", "import", str(unsigned), "--require-signature", public)
    assert refused.returncode == 1 and "it is not signed" in refused.stderr
    other, _ = make_keys(tmp_path / "other")
    foreign = bundle()
    prepared.json("bundle", "export", str(foreign), "--benchmark", "1", "--sign", other)
    refused = island.run("bundle", "import", str(foreign), "--require-signature", public)
    assert refused.returncode == 1 and "its signature is not that of" in refused.stderr
    for wrong in (private, str(foreign)):
        refused = island.run("bundle", "import", str(signed), "--require-signature", wrong)
        assert refused.returncode == 2 and "openssl pkey" in refused.stderr
    refused = prepared.run("bundle", "export", str(bundle()), "--sign", public)
    assert refused.returncode == 2 and "openssl genpkey" in refused.stderr
    assert state(island.home) == before
    island.json("bundle", "import", str(signed), "--require-signature", public)
    assert island.json(*MODEL)["passed"]


def test_a_damaged_file_in_the_cache_is_not_exported(
    newcomer: Member, bundle: Callable[[], Path]
) -> None:
    blobs = Storage(newcomer.home / "cache").blobs
    blob = blobs.path(blobs.add([b"sound"]))
    blob.chmod(0o600)
    blob.write_bytes(b"rotten")
    file = bundle()
    refused = newcomer.run("bundle", "export", str(file))
    assert refused.returncode == 1 and blob.name in refused.stderr
    assert list(file.parent.glob("*bundle*")) == []


def test_what_is_not_cached_is_told(
    consortium: Consortium, newcomer: Member, bundle: Callable[[], Path]
) -> None:
    newcomer.does("benchmark", "ls")
    made = newcomer.run("bundle", "export", str(bundle()), "--benchmark", "1")
    assert made.returncode == 0
    assert (
        "not in the cache, so not carried: demo_dataset_tarball_hash of benchmark 1" in made.stderr
    )


ABOUT: dict[str, Any] = {
    "registry": "http://127.0.0.1:1",
    "created_at": "2026-11-24T09:12:00+00:00",
}
ENTITY = {"id": 5, "model_mlcube": 1, "benchmark": 1, "approval_status": "PENDING"}
ENTRY: dict[str, Any] = {
    "uid": "q1",
    "kind": "association",
    "method": "POST",
    "path": "/mlcubes/benchmarks/",
    "body": {},
    "key": "01234567-89ab-cdef-0123-456789abcdef",
    "created_at": "2026-11-24T09:12:00+00:00",
}
UNTIL: dict[str, Any] = {"kind": "association", "of": {"benchmark": 1}, "is": {"priority": 2}}
WRONG_ABOUTS: list[dict[str, Any]] = [
    {"registry": 1},
    {"registry": "http://127.0.0.1:1", "created_at": "yesterday"},
    {**ABOUT, "member": {"id": "x", "email": "x"}},
    {**ABOUT, "member": []},
    {**ABOUT, "cursor": "5"},
    {**ABOUT, "cursor": -1},
    {**ABOUT, "cursor": True},
    {**ABOUT, "fetched_at": "2026-11-24T09:12:00+02:00"},
    {**ABOUT, "fetched_at": 5},
    {**ABOUT, "benchmark": "1"},
    {**ABOUT, "receipt_for": 1},
    {**ABOUT, "other": 1},
]
WRONG_ENTITIES: list[Any] = [
    1,
    [],
    ["association"],
    ["association", {}],
    ["association", {**ENTITY, "id": "5"}],
    ["association", {**ENTITY, "id": None}],
    ["viewer", {"id": 0, "token_sha256": ""}],
    ["carried", {"id": 0}],
    [["association"], ENTITY],
    ["models", {"id": 1}],
    ["models", {"id": 1, "models": 5}],
    ["models", {"id": 1, "models": [{"model_mlcube": 1}]}],
]
WRONG_ENTRIES: list[Any] = [
    1,
    {},
    {**ENTRY, "more": 1},
    {**ENTRY, "uid": "1"},
    {**ENTRY, "uid": "../q1"},
    {**ENTRY, "kind": "viewer"},
    {**ENTRY, "method": "DELETE"},
    {**ENTRY, "path": "/../../admin/"},
    {**ENTRY, "path": "@example.org/"},
    {**ENTRY, "path": "/mlcubes/?x=1"},
    {**ENTRY, "path": "/mlcubes/{q9}/"},
    {**ENTRY, "body": []},
    {**ENTRY, "body": {"model_mlcube": {"$queued": "q9"}}},
    {**ENTRY, "body": {"model_mlcube": {"$queued": ["q1"]}}},
    {**ENTRY, "key": "x"},
    {**ENTRY, "state": "held"},
    {**ENTRY, "unknown": {"x": 1}},
    {**ENTRY, "after": ["q9"]},
    {**ENTRY, "after": [1]},
    {**ENTRY, "attempts": "1"},
    {**ENTRY, "state": "superseded"},
    {**ENTRY, "instead_of": 1},
    {**ENTRY, "instead_of": "../q1"},
    {**ENTRY, "until": []},
    {**ENTRY, "until": {}},
    {**ENTRY, "until": {**UNTIL, "kind": "viewer"}},
    {**ENTRY, "until": {**UNTIL, "kind": []}},
    {**ENTRY, "until": {**UNTIL, "more": 1}},
    {**ENTRY, "until": {**UNTIL, "of": {}}},
    {**ENTRY, "until": {**UNTIL, "of": {"benchmark": [1]}}},
    {**ENTRY, "until": {**UNTIL, "of": {"benchmark": {"$queued": "q9"}}}},
    {**ENTRY, "until": {**UNTIL, "is": []}},
    {**ENTRY, "until": {**UNTIL, "is": {"approval_status": {"$queued": "q1"}}}},
    {**ENTRY, "state": "sent", "answer": []},
    {**ENTRY, "state": "sent", "answer": {"id": 5}},
]


@pytest.mark.parametrize(
    ("name", "about", "row"),
    [
        *(("catalog", about, ["association", ENTITY]) for about in WRONG_ABOUTS),
        *(("catalog", ABOUT, row) for row in WRONG_ENTITIES),
        *(("outbox", {**ABOUT, "receipt_for": "x"}, row) for row in WRONG_ENTRIES),
        ("other", ABOUT, 1),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_a_bundle_of_another_form_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, about: Any, row: Any
) -> None:
    monkeypatch.setenv("MEDPERF_SERVER_URL", "http://127.0.0.1:1")
    site = Site(Home(tmp_path / "home", tmp_path / "home" / "cache"), offline=True)
    source = Storage(tmp_path / "source")
    site.storage.names.put("mine", "0" * 64)
    site.catalog.put("association", {**ENTITY, "id": 4})
    site.queue.outbox.add("association", "POST", "/mlcubes/benchmarks/", {})
    rows = tmp_path / "rows"
    good = ENTRY if name == "outbox" else ["association", ENTITY]
    rows.write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    write(tmp_path / "bundle", source, about, {name: rows}, [source.blobs.add([b"x"])])
    before = state(site.home.data)
    with pytest.raises((UnsafeArchive, UsageError)):
        import_bundle(site, tmp_path / "bundle")
    assert state(site.home.data) == before


def test_the_same_with_rows_of_the_right_form_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDPERF_SERVER_URL", "http://127.0.0.1:1")
    site = Site(Home(tmp_path / "home", tmp_path / "home" / "cache"), offline=True)
    documents = {"catalog": tmp_path / "catalog", "outbox": tmp_path / "outbox"}
    documents["catalog"].write_text(json.dumps(["association", ENTITY]))
    documents["outbox"].write_text(
        json.dumps({**ENTRY, "state": "waiting", "until": UNTIL, "instead_of": "q9"})
    )
    about = {**ABOUT, "fetched_at": ABOUT["created_at"]}
    write(tmp_path / "bundle", site.storage, about, documents)
    assert import_bundle(site, tmp_path / "bundle").unsent == 1
    assert site.catalog.all("association") == [ENTITY]


def send(member: Member, file: Path, *options: str) -> Any:
    """What became of a bundle's queue: UIDs sent, UIDs refused, and why the rest waits."""
    done = member.run("sync", "--bundle", str(file), *options, "--json")
    assert done.stdout, done.stderr
    record = json.loads(done.stdout)
    sent, refused = ([entry["uid"] for entry in record[name]] for name in ("sent", "rejected"))
    assert done.returncode == (1 if refused else 0)
    return sent, refused, record["stopped"]


@pytest.fixture
def site(beginning: Consortium, own_consortium: Consortium, tmp_path: Path) -> Member:
    """A site that lost its network once it had used the benchmark and the model's files."""
    home = shutil.copytree(beginning.folder / "homes" / "site", tmp_path / "site")
    registry = own_consortium.registry
    site = Member(home, registry.url, registry.token_for("site@example.org"))
    site.environment["MEDPERF_OFFLINE"] = "1"
    return site


@pytest.fixture
def queued(own_consortium: Consortium, site: Member, tmp_path: Path) -> Path:
    """The queue of that site in a bundle: a model, and a request that it joins benchmark 1."""
    files = own_consortium.container_options("model_mlp")
    site.does("container", "submit", "--name", "m", *files, "--operational", "-y")
    site.does("container", "associate", "--benchmark", "1", "--model_uid", "q1", "-y")
    file = tmp_path / "queue.bundle"
    made = site.json("bundle", "export", str(file), "--queue")
    assert (made["documents"], made["files"], made["folders"]) == (["outbox"], 0, 0)
    return file


@pytest.fixture
def courier(own_consortium: Consortium) -> Member:
    """The site's member on another machine, which has a network."""
    return own_consortium.member("site", home="courier")


def new_model(consortium: Consortium) -> list[str]:
    """The options to submit the candidate with parameters that nobody has seen."""
    hosted = consortium.host.folder / "model_mlp" / "workspace" / "new.yaml"
    hosted.write_text((hosted.parent / "parameters.yaml").read_text() + "\n# new\n")
    files = consortium.container_options("model_mlp")
    files[3] = f"{consortium.host.url}model_mlp/workspace/new.yaml"
    return files


def receipt_of(file: Path) -> Path:
    """Where the receipt for a bundle is written."""
    return file.with_name(f"{file.name}.receipt")


def states(member: Member) -> list[tuple[str, str]]:
    """UIDs and states of all of a queue."""
    return [(entry["uid"], entry["state"]) for entry in member.json("queue", "ls", "--all")]


def test_a_queue_is_sent_elsewhere_and_its_receipt_settles_it(
    own_consortium: Consortium, site: Member, queued: Path, courier: Member
) -> None:
    assert states(site) == [("q1", "sending"), ("q2", "sending")]
    assert site.run("queue", "drop", "q2", "-y").returncode == 2
    told = site.run("bundle", "import", str(queued))
    assert f"medperf sync --bundle {queued}" in told.stderr

    assert send(courier, queued) == (["q1", "q2"], [], None)
    assert send(courier, queued) == ([], [], None)
    receipt = receipt_of(queued)
    settled = site.json("bundle", "import", str(receipt))["settled"]
    assert [(entry["uid"], entry["state"], entry["as"]) for entry in settled] == [
        ("q1", "sent", 4),
        ("q2", "sent", 1),
    ]
    assert states(site) == [("q1", "sent"), ("q2", "sent")]
    assert site.json("container", "view", "q1")["name"] == "m"
    assert site.json("bundle", "import", str(receipt))["settled"] == []
    site.environment["MEDPERF_OFFLINE"] = "0"
    assert site.json("sync")["sent"] == []
    assert len(site.json("container", "ls")) == 4


def test_a_site_that_syncs_itself_meanwhile_sends_nothing_twice(
    site: Member, queued: Path, courier: Member
) -> None:
    site.environment["MEDPERF_OFFLINE"] = "0"
    sent = [(entry["uid"], entry["as"]) for entry in site.json("sync")["sent"]]
    assert send(courier, queued) == (["q1", "q2"], [], None)
    assert site.json("bundle", "import", str(receipt_of(queued)))["settled"] == []
    assert sent == [("q1", 4), ("q2", 1)]
    assert [entity["id"] for entity in site.json("container", "ls")] == [1, 2, 3, 4]
    assert len(site.json("association", "ls", "-bm")) == 1


def test_what_the_registry_refuses_elsewhere_is_mended_at_the_site(
    own_consortium: Consortium, site: Member, queued: Path, courier: Member
) -> None:
    other = own_consortium.member("other")
    files = new_model(own_consortium)
    other.does("container", "submit", "--name", "m", *files, "-y")
    sent, refused, _ = send(courier, queued)
    assert (sent, refused) == ([], ["q1"])
    (settled,) = site.json("bundle", "import", str(receipt_of(queued)))["settled"]
    assert settled["state"] == "rejected" and "name" in settled["reason"]
    assert states(site) == [("q1", "rejected"), ("q2", "held")]

    site.does("queue", "edit", "q1", "--set", "name=another")
    again = queued.with_name("again.bundle")
    site.json("bundle", "export", str(again), "--queue")
    assert send(courier, again)[0] == ["q1", "q2"]
    site.json("bundle", "import", str(receipt_of(again)))
    assert states(site) == [("q1", "sent"), ("q2", "sent")]
    # The first receipt is about what was edited since.
    assert site.json("bundle", "import", str(receipt_of(queued)))["settled"] == []


def test_hashes_that_the_site_could_not_know_are_found_where_the_network_is(
    own_consortium: Consortium, site: Member, courier: Member, tmp_path: Path
) -> None:
    files = new_model(own_consortium)
    site.does("container", "submit", "--name", "m", *files, "-y")
    assert "parameters_hash" in site.json("queue", "view", "q1")["unknown"]
    file = tmp_path / "unknown.bundle"
    site.json("bundle", "export", str(file), "--queue")
    assert send(courier, file)[0] == ["q1"]
    site.json("bundle", "import", str(receipt_of(file)))
    entry = site.json("queue", "view", "q1")
    assert entry["unknown"] == {} and len(entry["body"]["parameters_hash"]) == 64


def test_a_push_that_was_cut_off_goes_on(
    own_consortium: Consortium, site: Member, queued: Path, courier: Member
) -> None:
    own_consortium.registry.stop()
    assert "cannot be reached" in courier.run("sync", "--bundle", str(queued)).stderr
    own_consortium.registry.start()
    courier.does("benchmark", "ls")
    own_consortium.registry.stop()
    sent, refused, stopped = send(courier, queued)
    assert (sent, refused) == ([], []) and "cannot be reached" in stopped
    assert site.json("bundle", "import", str(receipt_of(queued)))["settled"] == []
    assert states(site) == [("q1", "sending"), ("q2", "sending")]
    own_consortium.registry.start()
    for delay in (0.2, 0.5, 0.8, 1.1):
        process = courier.start("sync", "--bundle", str(queued))
        time.sleep(delay)
        process.kill()
        process.communicate()
    send(courier, queued)
    site.json("bundle", "import", str(receipt_of(queued)))
    assert states(site) == [("q1", "sent"), ("q2", "sent")]
    assert [entity["id"] for entity in courier.json("container", "ls")] == [1, 2, 3, 4]


def test_a_bundle_that_will_not_be_sent_is_given_up(site: Member, queued: Path) -> None:
    refused = site.run("queue", "edit", "q1", "--set", "name=another")
    assert refused.returncode == 2 and f"carried in {queued.name}" in refused.stderr
    assert "medperf queue retry q1" in refused.stderr
    asked = site.run("queue", "retry", "q1", answers="n\n")
    assert asked.returncode == 1 and "Count it as not sent?" in asked.stderr
    assert states(site) == [("q1", "sending"), ("q2", "sending")]
    for uid in ("q1", "q2"):
        site.does("queue", "retry", uid, "-y")
    assert states(site) == [("q1", "queued"), ("q2", "queued")]
    site.does("queue", "drop", "q1", "-y")
    assert states(site) == []


def test_another_member_cannot_send_a_queue(own_consortium: Consortium, queued: Path) -> None:
    stranger = own_consortium.member("stranger")
    refused = stranger.run("sync", "--bundle", str(queued))
    assert refused.returncode == 2 and "carries the queue of another member" in refused.stderr
    assert len(stranger.json("container", "ls")) == 3


@pytest.fixture
def plainly(own_consortium: Consortium) -> Iterator[Person]:
    """A member of a plain MedPerf server."""
    with proxy(own_consortium.registry.url, plain()) as between:
        yield Person(own_consortium.registry, between)


@pytest.mark.parametrize("older_one", ["sent elsewhere", "sent", "queued"])
def test_an_older_request_does_not_stand_for_a_carried_one_on_a_server_without_keys(
    plainly: Person, tmp_path: Path, older_one: str
) -> None:
    queue(plainly, new("model", plainly))
    plainly.sync()
    home = shutil.copytree(plainly.home.data, tmp_path / "courier")
    courier = Site(Home(home, home / "cache"))
    (model,) = (one["id"] for one in courier.listed("mlcube", mine=True))
    request = association_submission(model, 1, REPORT)
    machine = courier if older_one == "sent elsewhere" else plainly.site()
    machine.queue.add(request)
    machine.queue.add(association_change(model, 1, approval_status="REJECTED"))
    if older_one != "queued":
        assert len(machine.sender.send().sent) == 2
    if older_one == "sent elsewhere":
        plainly.sync()
    queue(plainly, request)
    export_bundle(plainly.site(), tmp_path / "bundle", queue=True)
    plainly.proxy.faults = plain(LOST)
    send_bundle(courier, tmp_path / "bundle")
    found = courier.registry.pages("/me/mlcubes/associations/")
    assert sorted(one["approval_status"] for one in found) == ["PENDING", "REJECTED"]


def test_only_a_signed_queue_is_sent_and_its_receipt_is_signed(
    site: Member, queued: Path, courier: Member, keys: tuple[str, str], tmp_path: Path
) -> None:
    private, public = keys
    own, own_public = make_keys(tmp_path / "courier")
    signed = str(tmp_path / "signed.bundle")
    site.does("bundle", "export", signed, "--queue", "--sign", private)
    for file, key, reason in (
        (str(queued), public, "it is not signed"),
        (signed, own_public, "its signature is not that of"),
    ):
        refused = courier.run("sync", "--bundle", file, "--require-signature", key, "--sign", own)
        assert refused.returncode == 1 and reason in refused.stderr
        assert not receipt_of(Path(file)).exists()
    assert len(courier.json("container", "ls")) == 3
    sent, _, _ = send(courier, Path(signed), "--require-signature", public, "--sign", own)
    assert sent == ["q1", "q2"]
    receipt = str(receipt_of(Path(signed)))
    refused = site.run("bundle", "import", receipt, "--require-signature", public)
    assert refused.returncode == 1 and states(site) == [("q1", "sending"), ("q2", "sending")]
    site.does("bundle", "import", receipt, "--require-signature", own_public)
    assert states(site) == [("q1", "sent"), ("q2", "sent")]


@pytest.mark.parametrize("option", ["--receipt", "--sign", "--require-signature"])
def test_a_sync_without_a_bundle_has_nothing_to_sign(
    island: Member, keys: tuple[str, str], option: str
) -> None:
    refused = island.run("sync", option, keys[0])
    assert refused.returncode == 2 and "--bundle FILE" in refused.stderr


def test_an_empty_queue_is_not_exported(site: Member, tmp_path: Path) -> None:
    refused = site.run("bundle", "export", str(tmp_path / "empty"), "--queue")
    assert refused.returncode == 2 and "nothing waits that could be sent" in refused.stderr
    assert not (tmp_path / "empty").exists()


def test_an_export_that_fails_leaves_the_queue_as_it_was(
    own_consortium: Consortium, site: Member, tmp_path: Path
) -> None:
    outbox = Outbox(Home(site.home, site.home).registry(own_consortium.registry.url) / "outbox")
    for model in (2, 3, 4):
        outbox.add(
            "association", "POST", "/mlcubes/benchmarks/", {"model_mlcube": model, "benchmark": 1}
        )
    outbox.change("q2", state=SENDING, reason="the registry is away", before=7)
    outbox.change("q3", reason="not logged in", before=5)
    before = outbox.entries()
    failed = site.run("bundle", "export", str(tmp_path / "nowhere" / "file"), "--queue")
    assert failed.returncode == 1 and "nowhere" in failed.stderr
    assert outbox.entries() == before
    site.does("bundle", "export", str(tmp_path / "file"), "--queue")
    assert [entry.before for entry in outbox.entries()] == [0, 7, 5]


def test_an_import_survives_being_killed(
    prepared: Member, island: Member, bundle: Callable[[], Path], keys: tuple[str, str]
) -> None:
    file, trust = bundle(), ("--require-signature", keys[1])
    blobs = Storage(prepared.home / "cache").blobs
    for _ in range(20):
        blobs.add([os.urandom(1 << 20)])
    prepared.json("bundle", "export", str(file), "--sign", keys[0])
    moments = random.Random(int(os.environ.get("MEDPERF_TEST_SEED", "1")))
    longest, hit = 1.0, 0
    for _ in range(KILLS):
        process = island.start("bundle", "import", str(file), *trust)
        try:
            process.communicate(timeout=moments.uniform(0, longest))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            hit += 1
        assert island.json("storage", "verify")["damaged"] == []
        started = time.monotonic()
        island.json("bundle", "import", str(file), *trust)
        longest = time.monotonic() - started
        assert steps(island.json(*MODEL)) == {"cache"}
        island.does("storage", "gc", "--unused-days", "0")
        assert left_over(island.home) == []
    assert hit > 0
