"""What is submitted while the registry is away waits in the queue, and one sync makes it true."""

import json
from typing import Any

import pytest

from tests.support.consortium import Consortium, Member
from tests.support.reports import CONFIG


@pytest.fixture
def owner(own_consortium: Consortium) -> Member:
    """A member who has used the benchmark, so that all of it is cached."""
    owner = own_consortium.member("owner")
    owner.does("test", "run", "--benchmark", "1")
    return owner


def submit_model(
    consortium: Consortium, member: Member, *options: str, name: str = "my-model"
) -> Any:
    """The answer to submitting the candidate model."""
    files = consortium.container_options("model_mlp")
    words = ("container", "submit", "--name", name, *files, "--operational", "-y", *options)
    return member.json(*words)


def containers(member: Member) -> list[tuple[Any, str]]:
    """UID and name of what is listed, in order."""
    return [(entity["id"], entity["name"]) for entity in member.json("container", "ls")]


def test_the_tutorial_without_a_registry_and_then_one_sync(
    own_consortium: Consortium, owner: Member
) -> None:
    consortium = own_consortium
    consortium.registry.stop()
    assert "breast-cancer" in owner.does("benchmark", "ls")
    owner.does("test", "run", "--benchmark", "1", "--model", str(consortium.candidate / CONFIG))
    assert submit_model(consortium, owner)["id"] == "q1"
    assert "q1" in owner.does("container", "ls", "--mine")
    asked = owner.does("container", "associate", "--benchmark", "1", "--model_uid", "q1", "-y")
    assert "Queued as q2." in asked
    (association,) = owner.json("association", "ls", "-bm")
    assert (association["model_mlcube"], association["queued"]) == ("q1", "queued")

    consortium.registry.start()
    done = owner.json("sync")
    assert [(sent["uid"], sent["as"]) for sent in done["sent"]] == [("q1", 4), ("q2", 1)]
    assert containers(owner)[3:] == [(4, "my-model")]
    (association,) = owner.json("association", "ls", "-bm")
    assert (association["model_mlcube"], association["approval_status"]) == (4, "PENDING")
    assert association["metadata"]["test_result"]["auroc"] > 0.95
    assert owner.json("sync")["sent"] == []
    # A provisional UID goes on meaning what it has become.
    assert owner.json("container", "view", "q1")["id"] == 4


def test_online_nothing_waits(own_consortium: Consortium, owner: Member) -> None:
    assert submit_model(own_consortium, owner)["id"] == 4
    assert owner.json("queue", "ls") == []


def test_require_online_tells_by_the_exit_code(own_consortium: Consortium, owner: Member) -> None:
    own_consortium.registry.stop()
    files = own_consortium.container_options("model_mlp")
    words = ("container", "submit", "--name", "m", *files, "-y", "--require-online")
    queued = owner.run(*words)
    assert queued.returncode == 3 and "Queued as q1." in queued.stdout
    assert owner.run("sync").returncode == 0
    assert owner.run("sync", "--require-online").returncode == 3


def test_a_chain_of_queued_things_is_sent_in_its_order(
    own_consortium: Consortium, owner: Member
) -> None:
    consortium = own_consortium
    committee = consortium.member("committee-two")
    committee.does("benchmark", "ls")
    consortium.registry.stop()
    for number, name in enumerate(("data_preparator", "model_logistic", "metrics"), 1):
        files = consortium.container_options(name)
        answer = committee.json(
            *("container", "submit", "--name", f"own-{name}", *files, "-y", "--operational")
        )
        assert answer["id"] == f"q{number}"
    benchmark = committee.json(
        *("benchmark", "submit", "--name", "second", "--operational", "-y"),
        *("--demo-url", f"{consortium.host.url}assets/demo_data.tar.gz"),
        *("--data-preparation-container", "q1", "--reference-model-container", "q2"),
        *("--evaluator-container", "q3"),
    )
    assert benchmark["id"] == "q4"
    shown = committee.json("benchmark", "view", "q4")
    assert shown["data_preparation_mlcube"] == "q1"
    assert committee.json("test", "run", "--benchmark", "q4")["passed"]

    consortium.registry.start()
    # Containers 1 to 3 of the registry have the same content: it refuses to have it twice.
    refused = committee.run("sync", "--json")
    assert refused.returncode == 1
    rejected = json.loads(refused.stdout)["rejected"]
    assert [entry["uid"] for entry in rejected] == ["q1", "q2", "q3"]
    assert "A container with the same content exists: UID 1" in rejected[0]["reason"]
    states = {entry["uid"]: entry["state"] for entry in committee.json("queue", "ls")}
    assert states == {"q1": "rejected", "q2": "rejected", "q3": "rejected", "q4": "held"}


def test_a_refused_entry_holds_what_needs_it_and_nothing_else(
    own_consortium: Consortium, owner: Member
) -> None:
    consortium = own_consortium
    consortium.registry.stop()
    assert submit_model(consortium, owner, name="metrics")["id"] == "q1"
    owner.does("container", "associate", "--benchmark", "1", "--model_uid", "q1", "-y")
    # Other content: with other parameters.
    other = ["--parameters-file", f"{consortium.host.url}metrics/workspace/parameters.yaml"]
    assert submit_model(consortium, owner, *other, name="other")["id"] == "q3"
    consortium.registry.start()
    done = json.loads(owner.run("sync", "--json").stdout)
    assert [sent["uid"] for sent in done["sent"]] == ["q3"]
    (refused,) = done["rejected"]
    assert refused["uid"] == "q1" and "The name 'metrics' is taken" in refused["reason"]
    states = {entry["uid"]: entry["state"] for entry in owner.json("queue", "ls")}
    assert states["q1"] == "rejected" and states["q2"] == "held"

    owner.does("queue", "edit", "q1", "--set", "name=my-metrics")
    done = owner.run("sync", "--json")
    assert [entry["uid"] for entry in json.loads(done.stdout)["sent"]] == ["q1", "q2"]


def test_dropping_an_entry_drops_what_needs_it(own_consortium: Consortium, owner: Member) -> None:
    own_consortium.registry.stop()
    submit_model(own_consortium, owner)
    owner.does("container", "associate", "--benchmark", "1", "--model_uid", "q1", "-y")
    asked = owner.run("queue", "drop", "q1", answers="n\n")
    assert "Delete q1 and what depends on it (q2)?" in asked.stderr
    assert len(owner.json("queue", "ls")) == 2
    owner.does("queue", "drop", "q1", "-y")
    assert owner.json("queue", "ls") == []
    # A provisional UID is never used twice.
    assert submit_model(own_consortium, owner)["id"] == "q3"


def test_a_hash_that_cannot_be_known_is_found_out_at_sync(
    own_consortium: Consortium, owner: Member
) -> None:
    consortium = own_consortium
    consortium.stop()
    assert submit_model(consortium, owner)["id"] == "q1"
    waiting = owner.json("container", "view", "q1")
    assert set(waiting["unknown"]) == {
        "mlcube_hash",
        "parameters_hash",
        "additional_files_tarball_hash",
        "image_hash",
    }
    consortium.registry.start()
    still = owner.json("sync")
    assert still["sent"] == [] and "cannot be" in still["stopped"]
    consortium.host.start()
    assert owner.json("sync")["sent"] == [{"uid": "q1", "as": 4}]
    sent = owner.json("container", "view", "4")
    assert sent["additional_files_tarball_hash"] and sent["image_hash"]


def test_a_decision_waits_for_the_request_it_decides(
    own_consortium: Consortium, owner: Member
) -> None:
    consortium = own_consortium
    consortium.registry.stop()
    owner.does("container", "associate", "--benchmark", "1", "--model_uid", "2", "-y")
    owner.does("association", "reject", "--benchmark", "1", "--model_uid", "2", "-y")
    entries = owner.json("queue", "ls")
    assert entries[1]["needs"] == ["q1"]


def test_sync_tells_the_news_that_matter(own_consortium: Consortium, owner: Member) -> None:
    consortium = own_consortium
    committee = consortium.member("committee", home="committee-later")
    committee.does("sync")
    submit_model(consortium, owner)
    owner.does("container", "associate", "--benchmark", "1", "--model_uid", "4", "-y")
    assert committee.json("sync")["news"] == ["a request to decide: container 4 in benchmark 1"]
    committee.does("association", "approve", "--benchmark", "1", "--model_uid", "4", "-y")
    assert owner.json("sync")["news"] == ["container 4 in benchmark 1 is APPROVED"]
    assert "Nothing is new." in owner.does("sync")


def test_a_lost_login_keeps_the_queue(own_consortium: Consortium, owner: Member) -> None:
    consortium = own_consortium
    consortium.registry.stop()
    submit_model(consortium, owner)
    consortium.registry.start()
    token = owner.environment["MEDPERF_TOKEN"]
    owner.environment["MEDPERF_TOKEN"] = "mpf_revoked"
    refused = owner.run("sync")
    assert refused.returncode == 1 and "medperf auth login" in refused.stderr
    owner.environment["MEDPERF_TOKEN"] = token
    assert owner.json("sync")["sent"] == [{"uid": "q1", "as": 4}]


def test_a_dry_run_says_what_would_be_sent(own_consortium: Consortium, owner: Member) -> None:
    own_consortium.registry.stop()
    submit_model(own_consortium, owner)
    assert [entry["uid"] for entry in owner.json("sync", "--dry-run")] == ["q1"]
    own_consortium.registry.start()
    assert owner.json("sync", "--dry-run")[0]["state"] == "queued"
    assert containers(owner)[3:] == [("q1", "my-model")]
