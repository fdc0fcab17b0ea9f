"""Notices: who is told of what, who is not, what they chose, and the feed that has it."""

from typing import Any
from xml.etree import ElementTree

import pytest
import requests

from tests.support.api import Body, Member, NewMember, created, key_body, together
from tests.support.registry import Registry

ATOM = "{http://www.w3.org/2005/Atom}"
USUAL = {
    "model": "at_once",
    "benchmark": "daily",
    "result": "daily",
    "key": "at_once",
    "request": "at_once",
    "decision": "at_once",
    "restored": "at_once",
}


def feed_of(member: Member) -> requests.Response:
    """A member's feed, at a new address."""
    url = created(member.post("/me/notices/feed/", None))["url"]
    return requests.get(url, timeout=60)


def lines(member: Member) -> list[str]:
    """What a member's feed says, the newest first."""
    root = ElementTree.fromstring(feed_of(member).text)
    return [entry.findtext(f"{ATOM}title") or "" for entry in root.iter(f"{ATOM}entry")]


def decide(member: Member, path: str, status: str, **also: str) -> None:
    answer = member.put(path, {"approval_status": status, **also})
    assert answer.status_code == 200, answer.text


def test_who_decides_is_told_of_a_request_until_it_is_decided(
    committee: Member, model_owner: Member, requested: Body, model: Body, approved: Body, pair: str
) -> None:
    told = f'Model "{model["name"]}" ({model["id"]}) asks to be in benchmark "{approved["name"]}"'
    (line, *_) = lines(committee)
    assert line == f"{told} ({approved['id']}): it waits for a decision"
    assert not [one for one in lines(model_owner) if "asks" in one]
    decide(committee, pair, "APPROVED", reason="welcome\nto it")
    assert not [one for one in lines(committee) if "asks" in one]


def test_who_asked_is_told_what_was_decided_and_why(
    committee: Member, model_owner: Member, requested: Body, model: Body, approved: Body, pair: str
) -> None:
    decide(committee, pair, "REJECTED", reason="too slow")
    where = f'benchmark "{approved["name"]}" ({approved["id"]})'
    told = f'Model "{model["name"]}" ({model["id"]}) is rejected in {where}: too slow'
    assert lines(model_owner) == [told]
    # Whoever decided knows.
    assert not [one for one in lines(committee) if "rejected" in one]


def test_administrators_decide_on_benchmarks_and_its_owner_hears(
    admin: Member, committee: Member, join: NewMember
) -> None:
    benchmark = committee.benchmark()
    told = f'Benchmark "{benchmark["name"]}" ({benchmark["id"]})'
    assert lines(admin)[0] == f"{told} asks to be approved: it waits for a decision"
    decide(admin, f"/benchmarks/{benchmark['id']}/", "APPROVED")
    assert lines(committee) == [f"{told} is approved"]
    assert f"{told} asks to be approved: it waits for a decision" not in lines(admin)


@pytest.fixture
def new_model(
    taken: Body, requested: Body, committee: Member, pair: str, model: Body, approved: Body
) -> str:
    """What a data owner is told of a model that was approved just now."""
    decide(committee, pair, "APPROVED")
    benchmark = f'benchmark "{approved["name"]}" ({approved["id"]})'
    return f'Model "{model["name"]}" ({model["id"]}) is new in {benchmark}'


def test_a_new_model_is_news_to_who_has_data_there(
    new_model: str, data_owner: Member, stranger: Member, committee: Member, model_owner: Member
) -> None:
    assert lines(data_owner)[0] == new_model
    for other in (stranger, committee, model_owner):
        assert new_model not in lines(other)


def test_a_model_that_was_rejected_since_is_no_news(
    new_model: str, data_owner: Member, model_owner: Member, request_body: Body
) -> None:
    again = {**request_body, "approval_status": "REJECTED"}
    created(model_owner.post("/mlcubes/benchmarks/", again))
    assert new_model not in lines(data_owner)


def test_data_that_left_hear_of_no_model(
    new_model: str, data_owner: Member, committee: Member, joining: Body
) -> None:
    created(data_owner.post("/datasets/benchmarks/", {**joining, "approval_status": "REJECTED"}))
    assert new_model not in lines(data_owner)
    assert any("is rejected in benchmark" in one for one in lines(committee))


def test_a_model_is_told_once_to_who_has_several_datasets(
    taken: Body, requested: Body, data_owner: Member, committee: Member, approved: Body, pair: str
) -> None:
    second = data_owner.dataset(approved["data_preparation_mlcube"])["id"]
    sides = {"dataset": second, "benchmark": approved["id"], "metadata": {}}
    created(data_owner.post("/datasets/benchmarks/", sides))
    decide(committee, f"/datasets/{second}/benchmarks/{approved['id']}/", "APPROVED")
    decide(committee, pair, "APPROVED")
    assert len([one for one in lines(data_owner) if "is new in" in one]) == 1


def test_a_result_is_news_to_the_committee(
    result: Body, committee: Member, data_owner: Member, approved: Body
) -> None:
    told = lines(committee)[0]
    assert told.startswith(f"Result {result['id']} of model ")
    assert told.endswith(f'arrived in benchmark "{approved["name"]}" ({approved["id"]})')
    assert told not in lines(data_owner)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"user_metadata": {"paper": "out"}}, "has changed: user metadata"),
        ({"is_active": False}, "is closed"),
        ({"is_valid": False, "ranking_published": True}, "is closed"),
        ({"approval_status": "REJECTED"}, "is closed"),
        ({"ranking_published": True, "ranking_sites": "names"}, "ranking published, ranking sites"),
    ],
)
def test_a_benchmark_that_changes_is_news_to_who_takes_part(
    taken: Body,
    requested: Body,
    data_owner: Member,
    model_owner: Member,
    committee: Member,
    stranger: Member,
    admin: Member,
    approved: Body,
    values: Body,
    words: str,
) -> None:
    assert admin.put(f"/benchmarks/{approved['id']}/", values).ok
    for member in (data_owner, model_owner, committee):
        assert [one for one in lines(member) if one.endswith(words)], member.email
    assert lines(stranger) == []


def test_what_an_administrator_removes_is_told_by_its_number_alone(
    taken: Body, data_owner: Member, admin: Member, approved: Body, data_pair: str
) -> None:
    assert admin.delete(data_pair).status_code == 204
    where = f'benchmark "{approved["name"]}" ({approved["id"]})'
    assert lines(data_owner)[0] == (f"Dataset {taken['dataset']} was taken out of {where}")
    assert admin.delete(f"/benchmarks/{approved['id']}/").status_code == 204
    assert lines(data_owner) == [f"Benchmark {approved['id']} was removed from the registry"]


def test_a_revoked_key_is_told_to_its_owner_whoever_did_it(join: NewMember, admin: Member) -> None:
    owner = join("signer")
    for who in (owner, admin):
        key = created(owner.post("/keys/", key_body("laptop")))
        assert who.put(f"/keys/{key['id']}/", {"is_revoked": True}).ok
        told = f'Key "laptop" ({key["id"]}) of yours is revoked: its fingerprint is {key["keyid"]}'
        assert lines(owner)[0] == told
        # Once is enough.
        assert who.put(f"/keys/{key['id']}/", {"is_revoked": True, "name": "old"}).ok
    assert len(lines(owner)) == 2


def test_a_key_that_signed_results_is_told_to_their_committee(
    served: Registry, result: Body, data_owner: Member, committee: Member
) -> None:
    from medperf_server.base import db
    from medperf_server.kinds.result.table import Result

    key = created(data_owner.post("/keys/", key_body("site")))
    with served.app.app_context():
        db.session.get_one(Result, result["id"]).signed_by = key["keyid"]
        db.session.commit()
    assert data_owner.put(f"/keys/{key['id']}/", {"is_revoked": True}).ok
    signed = "that signed results of your benchmarks is revoked"
    assert signed in lines(committee)[0] and "of yours is revoked" in lines(data_owner)[0]


def test_nothing_is_told_of_a_private_benchmark_to_whom_it_is_not_shown(
    new_model: str, data_owner: Member, committee: Member, approved: Body, model_owner: Member
) -> None:
    path = f"/benchmarks/{approved['id']}/"
    assert approved["name"] in " ".join(lines(data_owner))
    assert committee.put(path, {"is_private": True}).ok
    for member in (data_owner, model_owner):
        assert approved["name"] not in feed_of(member).text
    # What happens from then on is none of theirs either.
    assert committee.put(path, {"user_metadata": {"a": 1}}).ok
    assert lines(data_owner) == []
    created(committee.post(f"{path}members/", {"email": data_owner.email}))
    assert new_model in lines(data_owner)
    assert any(one.endswith("has changed: user metadata") for one in lines(data_owner))


def test_a_refused_request_tells_nobody(
    committee: Member, model_owner: Member, requested: Body, request_body: Body, pair: str
) -> None:
    before = lines(committee)
    assert model_owner.post("/mlcubes/benchmarks/", request_body).status_code == 400
    assert model_owner.put(pair, {"approval_status": "APPROVED"}).status_code == 400
    assert lines(committee) == before


def test_a_notice_is_there_with_what_caused_it_or_not_at_all(
    served: Registry, admin: Member, committee: Member
) -> None:
    from sqlalchemy import func, select

    from medperf_server.base import db
    from medperf_server.kinds.benchmark.table import Benchmark
    from medperf_server.notices.table import Notice

    container = committee.container()["id"]
    roles = ("data_preparation_mlcube", "reference_model_mlcube", "data_evaluator_mlcube")
    count = select(func.count(Notice.id)).filter_by(user_id=admin.uid)
    with served.app.app_context():
        before = db.session.scalar(count) or 0
        uids = dict.fromkeys(roles, container)
        db.session.add(Benchmark(name=f"undone {container}", owner=committee.uid, **uids))
        db.session.flush()
        assert db.session.scalar(count) == before + 1
        db.session.rollback()
        assert db.session.scalar(count) == before


def test_a_request_that_is_sent_again_is_told_once(
    committee: Member, model_owner: Member, request_body: Body
) -> None:
    for _ in range(2):
        key = f"once-{request_body['model_mlcube']}"
        assert model_owner.post("/mlcubes/benchmarks/", request_body, key=key).status_code == 201
    assert len([one for one in lines(committee) if "asks to be in" in one]) == 1


def test_members_choose_by_event(join: NewMember) -> None:
    member = join("chooser")
    assert member.get("/me/notices/").json() == {"mail": USUAL, "feed_since": None}
    chosen = {"result": "never", "model": "daily"}
    answer = member.put("/me/notices/", {"mail": chosen}).json()
    assert answer["mail"] == USUAL | chosen == member.get("/me/notices/").json()["mail"]
    again = member.put("/me/notices/", {"mail": {"result": "at_once"}}).json()["mail"]
    assert again == USUAL | chosen | {"result": "at_once"}
    assert member.put("/me/notices/", {}).json()["mail"] == again
    # It is nobody else's choice.
    assert join("other").get("/me/notices/").json()["mail"] == USUAL


def test_choices_and_feeds_that_are_made_at_once_are_all_made(join: NewMember) -> None:
    member = join("hasty")
    chosen = [{"mail": {"result": choice}} for choice in ("never", "daily", "at_once")] * 2
    answers = together(6, lambda number: member.put("/me/notices/", chosen[number]))
    assert [one.status_code for one in answers] == [200] * 6
    made = together(6, lambda _: member.post("/me/notices/feed/", None))
    urls = [created(one)["url"] for one in made]
    assert sorted(requests.get(url, timeout=60).status_code for url in urls) == [200] + [404] * 5


@pytest.mark.parametrize(
    "body", [{"mail": {"result": "hourly"}}, {"mail": {"results": "daily"}}, {"mail": 3}, []]
)
def test_what_is_no_choice_is_refused(join: NewMember, body: Any) -> None:
    member = join("chooser")
    assert member.put("/me/notices/", body).status_code == 400
    assert member.get("/me/notices/").json()["mail"] == USUAL


def test_a_feed_is_atom_and_says_when_nothing_is_new(
    new_model: str, data_owner: Member, model: Body, approved: Body
) -> None:
    made = created(data_owner.post("/me/notices/feed/", None))
    assert data_owner.get("/me/notices/").json()["feed_since"]
    answer = requests.get(made["url"], timeout=60)
    assert answer.headers["Content-Type"].startswith("application/atom+xml")
    root = ElementTree.fromstring(answer.text)
    assert root.tag == f"{ATOM}feed"
    entry = next(root.iter(f"{ATOM}entry"))
    assert entry.findtext(f"{ATOM}title") == new_model
    (link,) = entry.iter(f"{ATOM}link")
    assert link.get("href") == f"{data_owner.registry.url}/benchmarks/{approved['id']}"
    uids = [one.text for one in root.iter(f"{ATOM}id")]
    assert len(set(uids)) == len(uids) and all(str(one).startswith("urn:uuid:") for one in uids)
    same = {"If-None-Match": answer.headers["ETag"]}
    assert requests.get(made["url"], headers=same, timeout=60).status_code == 304


def test_a_feed_shows_names_as_they_are(
    committee: Member, admin: Member, model_owner: Member
) -> None:
    name = f"<b>&amp; “{committee.uid}” ]]>"
    made = committee.benchmark(name=name)
    decide(admin, f"/benchmarks/{made['id']}/", "APPROVED")
    assert lines(committee) == [f'Benchmark "{name}" ({made["id"]}) is approved']


def test_the_address_of_a_feed_can_be_changed_and_revoked(
    join: NewMember, served: Registry
) -> None:
    member = join("reader")
    first, second = (
        created(member.post("/me/notices/feed/", None, key="the same"))["url"] for _ in range(2)
    )
    assert first != second
    assert requests.get(first, timeout=60).status_code == 404
    assert requests.get(second, timeout=60).status_code == 200
    assert member.delete("/me/notices/feed/").status_code == 204
    assert requests.get(second, timeout=60).status_code == 404
    assert member.get("/me/notices/").json()["feed_since"] is None
    assert member.delete("/me/notices/feed/").status_code == 204
    # No token, and no other secret, opens one; and none is to be read in the log.
    token = str(member.session.headers["Authorization"]).removeprefix("Bearer ")
    assert requests.get(f"{served.url}/feeds/{token}", timeout=60).status_code == 404
    assert first.rpartition("/")[2] not in served.log.read_text()


def test_who_is_disabled_has_no_feed(join: NewMember, served: Registry) -> None:
    member = join("gone")
    url = created(member.post("/me/notices/feed/", None))["url"]
    served.command("user", "disable", member.email)
    assert requests.get(url, timeout=60).status_code == 404


def test_choices_and_feeds_are_in_the_audit_log(join: NewMember, admin: Member) -> None:
    member = join("audited")
    member.put("/me/notices/", {"mail": {"result": "never"}})
    created(member.post("/me/notices/feed/", None))
    rows = admin.get(f"/audit/?user_id={member.uid}").json()["results"]
    assert {row["entity_type"] for row in rows} == {"notice_choice", "notice_feed"}
    assert "digest" not in str(rows)
