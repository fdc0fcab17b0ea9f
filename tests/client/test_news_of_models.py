"""A data owner hears of models that were approved where a dataset of theirs takes part: once."""

import json
from pathlib import Path

import pytest

from tests.support.badhost import plain_medperf
from tests.support.consortium import Consortium, Member
from tests.support.hospital import Hospital, approved, as_committee, with_another_model
from tests.support.slurm import eventually


def news(member: Member) -> list[str]:
    """The lines of news of a sync that concern models."""
    return [line for line in member.json("sync")["news"] if "was approved in" in line]


def line(model: int, name: str, uid: str) -> str:
    """What is said of a model."""
    benchmark = "benchmark 1 (breast-cancer)"
    return f"model {model} ({name}) was approved in {benchmark}, where dataset {uid} takes part"


@pytest.mark.parametrize("is_plain", [False, True])
def test_a_model_that_was_approved_is_told_once(
    own_consortium: Consortium, hospital: Hospital, is_plain: bool
) -> None:
    uid, registry = approved(hospital), own_consortium.registry
    member = hospital.member
    with plain_medperf(registry.port, registry.token_for("hospital@example.org")) as host:
        if is_plain:
            member = own_consortium.member("hospital", home="hospital-at-plain")
            member.environment["MEDPERF_SERVER_URL"] = host.url
        assert news(member) == []
        first = with_another_model(own_consortium)
        if not is_plain:
            # That a run has seen the list is no reason not to tell.
            member.does("benchmark", "run", "-b", "1", "-d", uid)
        assert news(member) == [line(first, "mlp", uid)]
        assert news(member) == []
        second = with_another_model(own_consortium, "again", "./main.py")
        third = with_another_model(own_consortium, "third", "./main.py?")
        assert news(member) == [line(second, "again", uid), line(third, "third", uid)]


def test_who_sees_an_association_or_has_no_dataset_in_it_is_not_told_again(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    uid, committee = hospital.operational(), as_committee(own_consortium)
    hospital.member.does("dataset", "associate", "-d", uid, "-b", "1", "-y")
    hospital.member.does("sync")
    with_another_model(own_consortium)
    assert news(hospital.member) == news(committee) == []


def test_a_watch_hands_it_on_and_writes_a_line_of_json_for_each_look(
    own_consortium: Consortium, hospital: Hospital, tmp_path: Path
) -> None:
    uid, heard = approved(hospital), tmp_path / "heard"
    heard.touch()
    words = ("--watch", "--interval", "1", "--json", "--notify", f"tee -a {heard}")
    said = []
    with hospital.member.start("sync", *words) as watching:
        try:
            assert watching.stdout is not None
            for name, tail in (("mlp", "./main.py"), ("again", "././main.py")):
                model = with_another_model(own_consortium, name, tail)
                expected = line(model, name, uid)
                # Whatever else a look has found is on a line of its own.
                while expected not in (said := json.loads(watching.stdout.readline())["news"]):
                    pass
                assert said.count(expected) == 1
                eventually(lambda what=expected: what in heard.read_text(), "it is handed on")
        finally:
            watching.terminate()
    assert heard.read_text().count("was approved in") == 2
