"""Private benchmarks: only who is invited sees one, wherever they look."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.visitor import signed_in, token_of
from tests.support import consortium
from tests.support.api import Body, Member, NewMember, benchmark_body, created
from tests.support.registry import Registry


def ids(answer: Any) -> list[int]:
    return [entity["id"] for entity in answer["results"]]


def walk(member: Member, since: int) -> tuple[list[Body], int]:
    """Everything that changed after the cursor, as this member is told; and the next cursor."""
    found: list[Body] = []
    more = True
    while more:
        page = member.get(f"/changes/?since={since}&limit=1000").json()
        found, since, more = found + page["changes"], page["next"], page["more"]
    return found, since


def changes(member: Member, since: int = 0) -> list[Body]:
    """Everything that changed after the cursor, as this member is told."""
    return walk(member, since)[0]


def cursor(member: Member) -> int:
    """Where the change log stands."""
    return walk(member, 0)[1]


def in_changes(member: Member, benchmark: Body) -> bool:
    rows = changes(member)
    shown = [r for r in rows if (r["type"], r["id"]) == ("benchmark", benchmark["id"])]
    assert all(row["entity"] is not None for row in shown)
    return bool(shown)


# Where a benchmark can be seen, each as a question to the registry.
PLACES: dict[str, Callable[[Member, Body], bool]] = {
    "by its UID": lambda m, b: m.get(f"/benchmarks/{b['id']}/").status_code == 200,
    "in the list": lambda m, b: b["id"] in ids(m.get("/benchmarks/?limit=1000").json()),
    "by its name": lambda m, b: b["id"] in ids(m.get(f"/benchmarks/?name={b['name']}").json()),
    "by its owner": lambda m, b: b["id"] in ids(m.get(f"/benchmarks/?owner={b['owner']}").json()),
    "by its state": lambda m, b: (
        b["id"] in ids(m.get("/benchmarks/?approval_status=APPROVED&limit=1000").json())
    ),
    "in the count": lambda m, b: m.get(f"/benchmarks/?owner={b['owner']}").json()["count"] == 1,
    "among the changes": in_changes,
}


@pytest.fixture
def private(committee: Member, admin: Member) -> Body:
    """The committee's private benchmark, approved."""
    uid = committee.benchmark(is_private=True)["id"]
    answer = admin.put(f"/benchmarks/{uid}/", {"approval_status": "APPROVED"})
    assert answer.status_code == 200 and answer.json()["is_private"] is True
    body: Body = answer.json()
    return body


@pytest.fixture
def members(private: Body) -> str:
    """The path of its members."""
    return f"/benchmarks/{private['id']}/members/"


@pytest.fixture
def invited(join: NewMember, committee: Member, members: str) -> Member:
    """A member whom the committee invited."""
    member = join("invited")
    created(committee.post(members, {"email": member.email.upper()}))
    return member


@pytest.fixture
def joined(
    model_owner: Member, model: Body, committee: Member, admin: Member, members: str, private: Body
) -> Body:
    """The association of an invited owner's model with the private benchmark, approved."""
    created(committee.post(members, {"email": model_owner.email}))
    body = {"model_mlcube": model["id"], "benchmark": private["id"], "metadata": {"auroc": 0.9}}
    association = created(model_owner.post("/mlcubes/benchmarks/", body))
    pair = f"/mlcubes/{model['id']}/benchmarks/{private['id']}/"
    assert committee.put(pair, {"approval_status": "APPROVED"}).status_code == 200
    return association


@pytest.mark.parametrize("place", PLACES)
def test_only_who_is_invited_sees_it(
    private: Body,
    committee: Member,
    admin: Member,
    invited: Member,
    stranger: Member,
    model_owner: Member,
    place: str,
) -> None:
    for member in (committee, admin, invited):
        assert PLACES[place](member, private), member.email
    for member in (stranger, model_owner):
        assert not PLACES[place](member, private), member.email


@pytest.mark.parametrize("place", PLACES)
def test_a_public_one_is_everybodys(approved: Body, stranger: Member, place: str) -> None:
    assert approved["is_private"] is False and PLACES[place](stranger, approved)


GUESSES: list[tuple[str, str, Body | None]] = [
    ("GET", "/benchmarks/{uid}/", None),
    ("HEAD", "/benchmarks/{uid}/", None),
    ("PUT", "/benchmarks/{uid}/", {"is_private": False}),
    ("PUT", "/benchmarks/{uid}/", {"description": 7}),
    ("DELETE", "/benchmarks/{uid}/", None),
    ("GET", "/benchmarks/{uid}/models/", None),
    ("GET", "/benchmarks/{uid}/members/", None),
    ("POST", "/benchmarks/{uid}/members/", {"email": "mallory@example.org"}),
    ("DELETE", "/benchmarks/{uid}/members/1/", None),
    ("GET", "/mlcubes/{model}/benchmarks/{uid}/", None),
    ("PUT", "/mlcubes/{model}/benchmarks/{uid}/", {"priority": 1}),
    ("PUT", "/mlcubes/{model}/benchmarks/{uid}/", {"approval_status": "APPROVED"}),
    ("DELETE", "/mlcubes/{model}/benchmarks/{uid}/", None),
    ("POST", "/mlcubes/benchmarks/", {"model_mlcube": "{model}", "benchmark": "{uid}"}),
    ("GET", "/benchmarks/{uid}/datasets/", None),
    ("GET", "/benchmarks/{uid}/results/", None),
    ("GET", "/datasets/{dataset}/benchmarks/{uid}/", None),
    ("PUT", "/datasets/{dataset}/benchmarks/{uid}/", {"approval_status": "REJECTED"}),
    ("DELETE", "/datasets/{dataset}/benchmarks/{uid}/", None),
    (
        "POST",
        "/datasets/benchmarks/",
        {"dataset": "{dataset}", "benchmark": "{uid}", "metadata": {}},
    ),
    (
        "POST",
        "/results/",
        {"benchmark": "{uid}", "model": "{model}", "dataset": "{dataset}", "results": {}},
    ),
]


@pytest.mark.parametrize(("method", "path", "body"), GUESSES)
def test_guessing_its_uid_tells_no_more_than_any_number(
    private: Body, join: NewMember, method: str, path: str, body: Body | None
) -> None:
    guesser = join("guesser")
    model = guesser.container()["id"]
    dataset = guesser.dataset(private["data_preparation_mlcube"])["id"]

    def guess(uid: int) -> tuple[int, str]:
        uids = {"{uid}": uid, "{model}": model, "{dataset}": dataset}
        sent = body and {key: uids.get(str(value), value) for key, value in body.items()}
        named = path.format(uid=uid, model=model, dataset=dataset)
        answer = guesser.ask(method, named, json=sent)
        return answer.status_code, answer.text.replace(str(uid), "UID")

    told = guess(private["id"])
    assert told[0] >= 400
    assert told == guess(987_654_321)


def test_a_name_that_it_has_is_taken_and_no_more_is_told(private: Body, stranger: Member) -> None:
    answer = stranger.post("/benchmarks/", benchmark_body(stranger, name=private["name"]))
    assert answer.status_code == 400
    assert answer.json() == {"name": [f"The name '{private['name']}' is taken"]}


def test_while_it_is_private_its_news_is_for_those_who_see_it(
    private: Body, committee: Member, invited: Member, admin: Member, stranger: Member
) -> None:
    start = cursor(admin)
    committee.put(f"/benchmarks/{private['id']}/", {"user_metadata": {"round": 2}})
    for member in (committee, invited, admin):
        (news,) = changes(member, start)
        assert news["entity"]["user_metadata"] == {"round": 2}
    assert changes(stranger, start) == []


def test_an_invitation_brings_it_and_its_end_takes_it_away(
    private: Body, committee: Member, stranger: Member, members: str
) -> None:
    start = cursor(stranger)
    created(committee.post(members, {"email": stranger.email}))
    (news,) = changes(stranger, start)
    assert news["type"] == "benchmark" and news["entity"] == private
    assert stranger.get(f"/benchmarks/{private['id']}/").json() == private
    start = cursor(stranger)
    assert committee.delete(f"{members}{stranger.uid}/").status_code == 204
    (news,) = changes(stranger, start)
    assert (news["type"], news["id"], news["entity"]) == ("benchmark", private["id"], None)
    told = [row for row in changes(stranger) if row["type"] == "benchmark"]
    assert {row["entity"] for row in told if row["id"] == private["id"]} == {None}


def test_it_can_become_public_and_private_again(
    private: Body, committee: Member, stranger: Member
) -> None:
    path = f"/benchmarks/{private['id']}/"
    start = cursor(stranger)
    committee.put(path, {"is_private": False})
    (news,) = changes(stranger, start)
    assert news["entity"]["is_private"] is False and stranger.get(path).status_code == 200
    start = cursor(stranger)
    committee.put(path, {"is_private": True})
    (news,) = changes(stranger, start)
    assert (news["id"], news["entity"]) == (private["id"], None)
    assert stranger.get(path).status_code == 404


def test_whoever_saw_it_learns_that_it_is_gone(
    private: Body, invited: Member, committee: Member, admin: Member, stranger: Member
) -> None:
    start = cursor(admin)
    assert admin.delete(f"/benchmarks/{private['id']}/").status_code == 204
    for member in (invited, committee):
        news = changes(member, start)
        assert news and {(row["id"], row["entity"]) for row in news} == {(private["id"], None)}
    assert changes(stranger, start) == []


def test_an_answer_that_was_kept_is_not_given_to_who_may_see_it_no_more(
    private: Body, committee: Member, invited: Member, members: str
) -> None:
    paths = [f"/benchmarks/{private['id']}/", f"/benchmarks/?name={private['name']}", "/changes/"]
    for path in paths:
        tags = {invited.get(path).headers["ETag"] for _ in range(3)}
        assert len(tags) == 1
    (tag,) = {invited.get(paths[0]).headers["ETag"] for _ in range(2)}
    assert invited.get(paths[0], **{"If-None-Match": tag}).status_code == 304
    committee.delete(f"{members}{invited.uid}/")
    assert invited.get(paths[0], **{"If-None-Match": tag}).status_code == 404
    assert invited.get(paths[1]).json()["results"] == []
    created(committee.post(members, {"email": invited.email}))
    assert invited.get(paths[0]).json() == private


def test_without_an_invitation_its_associations_are_hidden_too(
    private: Body, joined: Body, model_owner: Member, committee: Member, model: Body, members: str
) -> None:
    pair = f"/mlcubes/{model['id']}/benchmarks/{private['id']}/"
    assert model_owner.get(pair).json()[0]["id"] == joined["id"]
    assert joined["id"] in ids(model_owner.get("/me/mlcubes/associations/").json())
    start = cursor(model_owner)
    committee.delete(f"{members}{model_owner.uid}/")
    assert model_owner.get(pair).status_code == 404
    assert model_owner.put(pair, {"approval_status": "REJECTED"}).status_code == 404
    assert ids(model_owner.get("/me/mlcubes/associations/").json()) == []
    gone = {(row["type"], row["id"]): row["entity"] for row in changes(model_owner, start)}
    assert gone == {("benchmark", private["id"]): None, ("association", joined["id"]): None}
    start = cursor(model_owner)
    committee.put(pair, {"priority": 5})
    assert changes(model_owner, start) == []
    assert committee.get(pair).json()[0]["priority"] == 5
    created(committee.post(members, {"email": model_owner.email}))
    back = {(row["type"], row["id"]): row["entity"] for row in changes(model_owner, start)}
    assert back["association", joined["id"]]["priority"] == 5


@pytest.fixture
def measured(
    data_owner: Member, committee: Member, members: str, private: Body
) -> tuple[Body, Body]:
    """The association of an invited owner's dataset with the private benchmark, approved; and a
    result."""
    created(committee.post(members, {"email": data_owner.email}))
    sides = {
        "dataset": data_owner.dataset(private["data_preparation_mlcube"])["id"],
        "benchmark": private["id"],
    }
    created(data_owner.post("/datasets/benchmarks/", {**sides, "metadata": {}}))
    pair = f"/datasets/{sides['dataset']}/benchmarks/{private['id']}/"
    association = committee.put(pair, {"approval_status": "APPROVED"}).json()
    body = {**sides, "model": private["reference_model_mlcube"], "results": {"auroc": 0.9}}
    return association, created(data_owner.post("/results/", body))


def test_without_an_invitation_what_was_measured_is_hidden_too(
    measured: tuple[Body, Body], private: Body, data_owner: Member, committee: Member, members: str
) -> None:
    association, result = measured
    pair = f"/datasets/{association['dataset']}/benchmarks/{private['id']}/"
    models, mine = f"/benchmarks/{private['id']}/models/", "/me/datasets/associations/"
    one = f"/results/{result['id']}/"
    assert [data_owner.get(path).status_code for path in (pair, models, one)] == [200] * 3
    assert ids(data_owner.get(mine).json()) == [association["id"]]
    start = cursor(data_owner)
    committee.delete(f"{members}{data_owner.uid}/")
    hidden = [data_owner.get(path).status_code for path in (pair, models, one)]
    assert hidden == [404, 404, 403]
    for path in (mine, "/me/results/"):
        assert ids(data_owner.get(path).json()) == []
    told = {(row["type"], row["id"]): row["entity"] for row in changes(data_owner, start)}
    gone = [("dataset_association", association["id"]), ("result", result["id"])]
    assert told == dict.fromkeys([("benchmark", private["id"]), *gone])
    start = cursor(data_owner)
    created(committee.post(members, {"email": data_owner.email}))
    told = {(row["type"], row["id"]): row["entity"] for row in changes(data_owner, start)}
    assert [told[one] for one in gone] == [association, result]


def test_privacy_hides_what_was_measured_by_those_whom_nobody_invited(
    approved: Body, result: Body, taken: Body, data_owner: Member, committee: Member
) -> None:
    path, told = f"/benchmarks/{approved['id']}/", {}
    for private in (True, False):
        start = cursor(data_owner)
        committee.put(path, {"is_private": private})
        rows = changes(data_owner, start)
        told[private] = {(row["type"], row["id"]): row["entity"] for row in rows}
    gone = [("dataset_association", taken["id"]), ("result", result["id"])]
    assert told[True] == dict.fromkeys([("benchmark", approved["id"]), *gone])
    assert [told[False][one] for one in gone] == [taken, result]


def test_privacy_hides_the_associations_of_those_whom_nobody_invited(
    approved: Body, requested: Body, pair: str, model_owner: Member, committee: Member
) -> None:
    start = cursor(model_owner)
    committee.put(f"/benchmarks/{approved['id']}/", {"is_private": True})
    told = {(row["type"], row["id"]): row["entity"] for row in changes(model_owner, start)}
    assert told == {("benchmark", approved["id"]): None, ("association", requested["id"]): None}
    assert model_owner.get(pair).status_code == 404
    start = cursor(model_owner)
    committee.put(f"/benchmarks/{approved['id']}/", {"is_private": False})
    told = {(row["type"], row["id"]): row["entity"] for row in changes(model_owner, start)}
    assert told["association", requested["id"]] == model_owner.get(pair).json()[0]


def test_an_invited_member_asks_to_join_with_a_model(joined: Body, model_owner: Member) -> None:
    assert joined["initiated_by"] == model_owner.uid


def test_the_owner_and_admins_see_and_choose_the_members(
    private: Body,
    members: str,
    committee: Member,
    admin: Member,
    invited: Member,
    stranger: Member,
) -> None:
    created(admin.post(members, {"user": stranger.uid}))
    for member in (committee, admin):
        page = member.get(members).json()
        assert [(one["user"], one["email"]) for one in page["results"]] == sorted(
            [(invited.uid, invited.email), (stranger.uid, stranger.email)]
        )
    assert admin.delete(f"{members}{stranger.uid}/").status_code == 204
    assert admin.delete(f"{members}{stranger.uid}/").status_code == 404
    for answer in (
        invited.get(members),
        invited.post(members, {"email": stranger.email}),
        invited.delete(f"{members}{invited.uid}/"),
    ):
        assert answer.status_code == 403


def test_an_owner_does_not_learn_the_address_of_a_uid(
    members: str, committee: Member, stranger: Member
) -> None:
    assert committee.post(members, {"user": stranger.uid}).status_code == 403
    assert stranger.email not in committee.get(members).text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "non_field_errors"),
        ({"email": "nobody@example.org"}, "email"),
        ({"email": "nobody"}, "email"),
        ({"user": 2**31 - 1}, "user"),
        ({"user": "1"}, "user"),
        ({"user": 1, "email": "ada@example.org"}, "non_field_errors"),
    ],
)
def test_a_wrong_invitation_is_named(members: str, admin: Member, body: Body, field: str) -> None:
    answer = admin.post(members, body)
    assert answer.status_code == 400 and list(answer.json()) == [field]


def test_nobody_is_invited_twice(members: str, committee: Member, invited: Member) -> None:
    answer = committee.post(members, {"email": invited.email})
    assert answer.status_code == 400 and "invited already" in answer.text


def test_a_member_of_one_private_benchmark_sees_no_other(
    private: Body, invited: Member, join: NewMember
) -> None:
    other = join("other").benchmark(is_private=True)
    assert invited.get(f"/benchmarks/{private['id']}/").status_code == 200
    assert invited.get(f"/benchmarks/{other['id']}/").status_code == 404


def test_a_client_forgets_what_its_member_may_see_no_more(
    served: Registry,
    tmp_path: Path,
    private: Body,
    committee: Member,
    invited: Member,
    stranger: Member,
    members: str,
) -> None:
    def knows(member: Member) -> bool:
        site = consortium.Member(tmp_path / member.email, served.url, token_of(member))
        site.does("sync")
        listed = site.json("benchmark", "ls", "--offline")
        return private["name"] in [entity["name"] for entity in listed]

    assert knows(invited) and not knows(stranger)
    committee.delete(f"{members}{invited.uid}/")
    created(committee.post(members, {"email": stranger.email}))
    assert not knows(invited) and knows(stranger)


def test_no_page_shows_it_or_its_associations_to_who_is_not_invited(
    private: Body,
    joined: Body,
    model_owner: Member,
    committee: Member,
    model: Body,
    members: str,
) -> None:
    places = {
        "/": f"/associations/{joined['id']}",
        "/associations/": f"/associations/{joined['id']}",
        f"/containers/{model['id']}": f"/associations/{joined['id']}",
        "/benchmarks/": private["name"],
        f"/benchmarks/?q={private['name']}": f">{private['name']}<",
    }
    own = [
        f"/associations/{joined['id']}",
        f"/benchmarks/{private['id']}",
        f"/benchmarks/{private['id']}/leaderboard",
    ]
    page = signed_in(model_owner).opens
    for path, shown in places.items():
        assert shown in page(path).text, path
    assert [page(path).status_code for path in own] == [200] * 3
    committee.delete(f"{members}{model_owner.uid}/")
    for path, shown in places.items():
        assert shown not in page(path).text, path
    assert [page(path).status_code for path in own] == [404] * 3


def test_the_owner_makes_it_public_and_private_on_its_page(
    private: Body, committee: Member, stranger: Member
) -> None:
    owner, other = (signed_in(member) for member in (committee, stranger))
    page, form = f"/benchmarks/{private['id']}", f"/benchmarks/{private['id']}/privacy"
    assert "is public from now on" in owner.fills(form, {"private": "no"}, on=page).text
    assert other.opens(page).status_code == 200
    assert other.fills(form, {"private": "yes"}).status_code == 403
    assert "is private from now on" in owner.fills(form, {"private": "yes"}, on=page).text
    assert other.opens(page).status_code == 404
    assert other.fills(form, {"private": "no"}).status_code == 404
