"""Bringing a benchmark along: all it needs, what is missing and why, and what gc leaves alone."""

import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf_cache import Storage
from tests.support.consortium import Consortium, Member, not_json
from tests.support.reports import ALL_STEPS, change_a_weight, ran, report_of
from tests.support.sockets import GUARD

OWN_PARTS = {
    "benchmark 1 (breast-cancer)": {"demo data"},
    "container 1 (data_preparator)": {"configuration", "parameters", "image"},
    "container 2 (model_logistic)": {"configuration", "parameters", "additional files", "image"},
    "container 3 (metrics)": {"configuration", "parameters", "image"},
}
MODEL_PARTS = {"configuration", "parameters", "additional files", "image"}
Submitted = tuple[Consortium, dict[str, int]]


def parts_of(answer: dict[str, Any]) -> dict[str, set[str]]:
    """The names of the parts by what needs them."""
    found: dict[str, set[str]] = {}
    for part in answer["parts"]:
        found.setdefault(part["of"], set()).add(part["part"])
    return found


def submit_another(consortium: Consortium, owner: Member, name: str, like: str) -> Any:
    """The UID of a container in OPERATION that is like one of the tutorial's."""
    options = consortium.container_options(like)
    # Another container has to differ in something.
    parameters = consortium.host.folder / name / "parameters.yaml"
    parameters.parent.mkdir()
    original = consortium.host.folder / like / "workspace" / "parameters.yaml"
    parameters.write_text(f"{original.read_text()}# {name}\n")
    options[options.index("--parameters-file") + 1] = f"{consortium.host.url}{name}/parameters.yaml"
    words = ("container", "submit", "--name", name, *options, "--operational", "-y")
    return owner.json(*words)["id"]


def queue_benchmark(consortium: Consortium, owner: Member) -> None:
    """Queue a benchmark as q2 whose evaluator is q1; else it is as the tutorial's."""
    queued = owner.json(
        *("benchmark", "submit", "--name", "second", "--operational", "-y"),
        *("--demo-url", f"{consortium.host.url}assets/demo_data.tar.gz"),
        *("--data-preparation-container", "1", "--reference-model-container", "2"),
        *("--evaluator-container", "q1"),
    )
    assert queued["id"] == "q2"


def add_model(consortium: Consortium, name: str, decision: str | None = None) -> int:
    """Another container in OPERATION that asks to take part; its UID."""
    owner = consortium.member(f"owner-of-{name}")
    uid = submit_another(consortium, owner, name, like="model_mlp")
    owner.does("container", "associate", "--benchmark", "1", "--model_uid", str(uid), "-y")
    if decision is not None:
        words = ("--benchmark", "1", "--model_uid", str(uid), "-y")
        consortium.member("committee").does("association", decision, *words)
    return int(uid)


@pytest.fixture(scope="module")
def submitted(beginning: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """A consortium at its beginning, and the UIDs of its three more models by name."""
    consortium = beginning.copied(tmp_path_factory.mktemp("submitted"))
    models = {
        "good": add_model(consortium, "good", "approve"),
        "new": add_model(consortium, "new"),
        "bad": add_model(consortium, "bad", "reject"),
    }
    consortium.stop()
    return consortium, models


@pytest.fixture
def with_models(submitted: Submitted, tmp_path: Path) -> Iterator[Submitted]:
    """A consortium with an approved, a waiting and a rejected model of benchmark 1; their UIDs."""
    beginning, models = submitted
    consortium = beginning.copied(tmp_path)
    yield consortium, models
    consortium.stop()


def test_what_was_fetched_runs_with_everything_away(own_consortium: Consortium) -> None:
    site = own_consortium.member("site")
    fetched = site.json("benchmark", "fetch", "1")
    assert parts_of(fetched) == OWN_PARTS
    assert fetched["ready"] and all(part["ready"] for part in fetched["parts"])
    assert fetched["bytes"] == sum(part["bytes"] for part in fetched["parts"]) > 10_000

    own_consortium.stop()
    assert site.json("benchmark", "status", "1") == fetched
    report = report_of(site, 2)
    assert report["passed"] and ran(report) == ALL_STEPS


def test_a_second_fetch_asks_for_nothing_that_is_here(own_consortium: Consortium) -> None:
    site = own_consortium.member("site")
    first = site.json("benchmark", "fetch", "1")
    own_consortium.host.requests.clear()
    assert site.json("benchmark", "fetch", "1") == first
    assert own_consortium.host.requests == []

    lost = next(part for part in first["parts"] if part["part"] == "parameters")
    site.does("storage", "unpin", "1")
    blob = next(
        item for item in site.json("storage", "ls")["items"] if item["bytes"] == lost["bytes"]
    )
    Path(site.home, "cache", "blobs", blob["sha256"][:2], blob["sha256"]).unlink()
    assert site.json("benchmark", "fetch", "1") == first
    (request,) = own_consortium.host.requests
    assert request.endswith("parameters.yaml")
    own_consortium.stop()
    again = site.run("benchmark", "fetch", "1")
    assert again.returncode == 0 and "offline: showing the copy" in again.stderr


def test_models_are_brought_as_asked(with_models: Submitted) -> None:
    own_consortium, uids = with_models
    models = {f"container {uid} ({name})": name for name, uid in uids.items()}
    for asked, expected in (("none", set()), ("approved", {"good"}), ("all", {"good", "new"})):
        committee = own_consortium.member("committee", home=f"machine-{asked}")
        fetched = parts_of(committee.json("benchmark", "fetch", "1", "--models", asked))
        brought = {models[owner] for owner in fetched.keys() - OWN_PARTS.keys()}
        assert brought == expected
        assert all(fetched[owner] == MODEL_PARTS for owner in fetched if owner in models)
    own_consortium.stop()
    report = report_of(committee, uids["new"])
    assert report["passed"]
    # What waits for a decision takes no part yet.
    status = committee.json("benchmark", "status", "1")
    assert parts_of(status).keys() - OWN_PARTS.keys() == {f"container {uids['good']} (good)"}


def test_a_member_sees_their_own_models_and_is_told_that_there_may_be_more(
    with_models: Submitted,
) -> None:
    own_consortium, _ = with_models
    owner = own_consortium.member("owner-of-good", home="second-machine")
    done = owner.run("benchmark", "fetch", "1")
    assert done.returncode == 0, done.stderr
    assert "(good)" in done.stdout and "(new)" not in done.stdout
    assert "of them, only your own came" in done.stderr and "refused" not in done.stderr
    administrator = own_consortium.member("administrator", admin=True)
    fetched = administrator.run("benchmark", "fetch", "1")
    assert "(good)" in fetched.stdout and "Only your own" not in fetched.stderr


def test_a_model_that_cannot_be_had_does_not_keep_the_rest(with_models: Submitted) -> None:
    own_consortium, uids = with_models
    hosted = own_consortium.host.folder
    (hosted / "good" / "parameters.yaml").unlink()
    (hosted / "assets" / "model_mlp_additional_files.tar.gz").write_bytes(b"something else")
    committee = own_consortium.member("committee", home="new-machine")
    fetched, said = not_json(committee, "benchmark", "fetch", "1")
    assert fetched["ready"]
    missing = {part["part"]: part for part in fetched["parts"] if not part["ready"]}
    assert missing.keys() == {"parameters", "additional files"}
    assert not any(part["required"] for part in missing.values())
    assert "404" in missing["parameters"]["missing"]
    assert "sha256" in missing["additional files"]["missing"]
    good = uids["good"]
    assert f"parameters of container {good} (good) cannot be had: " in said
    assert "Traceback" not in said
    own_consortium.stop()
    assert report_of(committee, 2)["passed"]


def test_status_gives_a_reason_for_each_missing_thing(newcomer: Member) -> None:
    newcomer.json("benchmark", "ls")
    status, said = not_json(newcomer, "benchmark", "status", "1")
    assert parts_of(status) == OWN_PARTS and not status["ready"] and status["bytes"] == 0
    reasons = {(part["of"], part["part"]): part["missing"] for part in status["parts"]}
    assert (
        "demo_data.tar.gz is not in the cache"
        in reasons["benchmark 1 (breast-cancer)", "demo data"]
    )
    assert "configuration" in reasons["container 3 (metrics)", "image"]
    assert all(reasons.values()) and said == ""
    shown = newcomer.run("benchmark", "status", "1")
    assert "A test on benchmark 1 (breast-cancer) cannot run offline: 0 of 11" in shown.stdout


def test_status_says_when_the_platform_is_what_is_missing(newcomer: Member) -> None:
    newcomer.does("benchmark", "fetch", "1")
    newcomer.does("profile", "set", "allow_process", "false")
    status, _ = not_json(newcomer, "benchmark", "status", "1")
    missing = [part for part in status["parts"] if not part["ready"]]
    assert [part["part"] for part in missing] == ["image"] * 3
    assert all("does not allow" in part["missing"] for part in missing)
    # It is here all the same, and stays: such a machine may fetch for another.
    again, _ = not_json(newcomer, "benchmark", "fetch", "1")
    newcomer.does("storage", "gc", "--max-size", "0")
    newcomer.does("profile", "set", "allow_process", "true")
    status = newcomer.json("benchmark", "status", "1")
    assert status["ready"] and status["bytes"] == again["bytes"]


def test_a_queued_benchmark_is_brought_along_as_any_other(own_consortium: Consortium) -> None:
    committee = own_consortium.member("second-committee")
    committee.does("benchmark", "ls")
    own_consortium.registry.stop()
    assert submit_another(own_consortium, committee, "stricter", like="metrics") == "q1"
    queue_benchmark(own_consortium, committee)
    committee.does("storage", "gc", "--unused-days", "0")
    status, _ = not_json(committee, "benchmark", "status", "q2")
    assert not any(part["ready"] for part in status["parts"])

    fetched = committee.json("benchmark", "fetch", "q2")
    assert fetched["ready"] and fetched["benchmark"] == "q2"
    assert parts_of(fetched).keys() == {
        "benchmark q2 (second)",
        "container 1 (data_preparator)",
        "container 2 (model_logistic)",
        "container q1 (stricter)",
    }
    own_consortium.host.stop()
    committee.does("storage", "gc", "--unused-days", "0")
    assert committee.json("benchmark", "status", "q2") == fetched
    assert committee.json("test", "run", "--benchmark", "q2")["passed"]

    own_consortium.registry.start()
    assert len(committee.json("sync")["sent"]) == 2
    assert committee.json("benchmark", "status", "q2")["benchmark"] == 2
    committee.does("storage", "unpin", "q2")
    assert committee.run("storage", "unpin", "q2").returncode == 2
    wrong = committee.run("benchmark", "status", "q1")
    assert wrong.returncode == 2 and "UID 4" in wrong.stderr


def test_a_hash_that_is_found_out_at_sync_is_named_as_what_is_missing(
    own_consortium: Consortium,
) -> None:
    committee = own_consortium.member("second-committee")
    committee.does("benchmark", "fetch", "1")
    own_consortium.stop()
    assert submit_another(own_consortium, committee, "stricter", like="metrics") == "q1"
    own_consortium.host.start()
    queue_benchmark(own_consortium, committee)
    status, _ = not_json(committee, "benchmark", "status", "q2")
    missing = {part["part"]: part["missing"] for part in status["parts"] if not part["ready"]}
    # Container 3 has the same configuration and image: their hashes are remembered.
    assert missing.keys() == {"parameters"}
    assert "is not known yet: it is found out at sync" in missing["parameters"]


def test_status_opens_no_socket(newcomer: Member, tmp_path: Path) -> None:
    newcomer.does("benchmark", "fetch", "1")
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    newcomer.environment["PYTHONPATH"] = f"{tmp_path}:{newcomer.environment['PYTHONPATH']}"
    assert newcomer.json("benchmark", "status", "1")["ready"]
    assert newcomer.run("benchmark", "fetch", "1").returncode == 97


@pytest.mark.parametrize("command", ["fetch", "status"])
def test_a_benchmark_that_nobody_knows_is_named(newcomer: Member, command: str) -> None:
    newcomer.json("benchmark", "ls")
    done = newcomer.run("benchmark", command, "99")
    assert done.returncode == 2 and "no benchmark with UID 99" in done.stderr


def test_what_was_fetched_stays_until_it_is_unpinned(
    own_consortium: Consortium, model_copy_of: Callable[[Consortium], Path]
) -> None:
    site = own_consortium.member("site")
    size = site.json("benchmark", "fetch", "1")["bytes"]
    report_of(site, model_copy_of(own_consortium))
    assert site.json("storage", "ls")["bytes"] > size
    emptied = site.run("storage", "gc", "--max-size", "1kB")
    assert emptied.returncode == 0 and "are left, all pinned" in emptied.stderr
    listed = site.json("storage", "ls")
    assert listed["bytes"] == size
    pin = f"benchmark 1 of {own_consortium.registry.url}"
    assert all(item["pins"] == [pin] for item in listed["items"])
    assert pin in site.does("storage", "ls")
    own_consortium.stop()
    assert report_of(site, 2)["passed"]

    site.does("storage", "unpin", "1")
    twice = site.run("storage", "unpin", "1")
    assert twice.returncode == 2 and "nothing is pinned for benchmark 1" in twice.stderr
    site.does("storage", "gc", "--max-size", "0")
    assert site.json("storage", "ls")["items"] == []
    assert not not_json(site, "benchmark", "status", "1")[0]["ready"]


@pytest.fixture
def model_copy_of(tmp_path: Path) -> Callable[[Consortium], Path]:
    """Makes a copy of a consortium's candidate model that tests as another one."""

    def copy(consortium: Consortium) -> Path:
        target = tmp_path / "changed-model"
        shutil.copytree(consortium.candidate, target)
        change_a_weight(target)
        return target

    return copy


@pytest.mark.parametrize(
    ("size", "left"), [("1", 0), ("1.5 kB", 1), ("1KiB", 1), ("1GB", 2), ("1TiB", 2)]
)
def test_sizes_are_written_as_people_write_them(tmp_path: Path, size: str, left: int) -> None:
    member = Member(tmp_path / "home", "http://127.0.0.1:1")
    storage = Storage(member.home / "cache")
    for letter in (b"a", b"b"):
        storage.blobs.add([letter * 1000])
    member.does("storage", "gc", "--max-size", size)
    assert len(list(storage.blobs)) == left


@pytest.mark.parametrize("size", ["-1", "a lot", "1XB", "", "1e9", "9" * 400])
def test_what_is_no_size_is_refused(tmp_path: Path, size: str) -> None:
    member = Member(tmp_path / "home", "http://127.0.0.1:1")
    done = member.run("storage", "gc", "--max-size", size)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_an_interrupt_ends_a_fetch_at_once_and_the_next_goes_on(
    own_consortium: Consortium,
) -> None:
    site = own_consortium.member("site")
    own_consortium.host.stop()
    with socket.create_server(("127.0.0.1", own_consortium.host.port)) as silent:
        fetching = site.start("benchmark", "fetch", "1")
        connection, _ = silent.accept()
        fetching.send_signal(signal.SIGINT)
        # Far less than the time for which a host may be silent.
        _, said = fetching.communicate(timeout=30)
        connection.close()
    assert fetching.returncode == 130 and "Traceback" not in said
    own_consortium.host.start()
    assert site.json("benchmark", "fetch", "1")["ready"]


def test_two_fetches_at_once_bring_everything_once(own_consortium: Consortium) -> None:
    site = own_consortium.member("site")
    own_consortium.host.requests.clear()
    both = [site.start("benchmark", "fetch", "1") for _ in range(2)]
    said = [fetching.communicate(timeout=120) for fetching in both]
    assert [fetching.returncode for fetching in both] == [0, 0], said
    requests = own_consortium.host.requests
    assert len(requests) == len(set(requests))
    assert site.json("storage", "verify")["damaged"] == []
