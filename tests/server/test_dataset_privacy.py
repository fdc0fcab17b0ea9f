"""The public form of a dataset is all that others learn of it, wherever they look."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.visitor import signed_in, table_of
from tests.support.api import Body, Member, dataset_body, now
from tests.support.registry import Registry

# What no page and no answer may hold for others: a stage of the preparation, and the owner's name.
STAGE, NAME = "Hidden away", "Zaphod"
REPORT = {"execution_status": "running", "progress": {STAGE: "50%"}}


@pytest.fixture
def hidden(data_owner: Member, admin: Member, draft: Body, result: Body) -> Body:
    """The data owner's dataset whose preparation goes on; another one has a result."""
    named = {"first_name": NAME, "last_name": "", "username": f"hidden{data_owner.uid}"}
    assert admin.put(f"/users/{data_owner.uid}/", named).status_code == 200
    assert data_owner.put(f"/datasets/{draft['id']}/", {"report": REPORT}).status_code == 200
    return draft


def readable(registry: Registry, *uids: int) -> Iterator[str]:
    """Every address that can be read, each number in it being any of these."""
    for rule in registry.app.url_map.iter_rules():
        names = rule.arguments
        numbers = {name for name in names if rule._converters[name].regex == r"\d+"}
        if "GET" in (rule.methods or ()) and names == numbers:
            for found in itertools.product(uids, repeat=len(names)):
                path = rule.rule
                for uid in found:
                    path = re.sub(r"<[^>]*>", str(uid), path, count=1)
                yield path


def told(value: Any) -> Iterator[Body]:
    """Every dataset in an answer."""
    if isinstance(value, dict):
        if "generated_uid" in value:
            yield value
        for one in value.values():
            yield from told(one)
    elif isinstance(value, list):
        for one in value:
            yield from told(one)


@pytest.mark.one_engine
@pytest.mark.parametrize("who", ["stranger", "model_owner", "committee"])
def test_no_address_tells_more(
    request: pytest.FixtureRequest,
    served: Registry,
    data_owner: Member,
    hidden: Body,
    result: Body,
    taken: Body,
    requested: Body,
    who: str,
) -> None:
    member: Member = request.getfixturevalue(who)
    browser = signed_in(member)
    uids = {
        hidden["id"],
        data_owner.uid,
        *(result[name] for name in ("id", "dataset", "benchmark", "model")),
        *(taken["id"], requested["id"], requested["model_mlcube"]),
    }
    # The committee decides on a member's request, and is told whose results these are.
    names = () if who == "committee" else (NAME, data_owner.email)
    seen = datasets = 0
    for path in readable(served, *uids):
        if path.startswith("/api/"):
            answer = member.get(f"{path.removeprefix('/api/v0')}?limit=1000")
        else:
            answer = browser.opens(path)
        assert STAGE not in answer.text, path
        assert not [word for word in names if word in answer.text], path
        seen += answer.status_code == 200
        if answer.headers.get("Content-Type", "") == "application/json":
            for one in told(answer.json()):
                if one["id"] in (hidden["id"], result["dataset"]):
                    assert not {"owner", "report"} & one.keys(), path
                    datasets += 1
    assert seen > 30 and datasets > 3


@pytest.mark.one_engine
def test_its_owner_and_admins_see_it_on_the_same_pages(
    data_owner: Member, admin: Member, hidden: Body
) -> None:
    for member in (data_owner, admin):
        page = signed_in(member).opens(f"/datasets/{hidden['id']}").text
        assert STAGE in page and "50%" in page
    assert NAME in page


def test_no_search_and_no_order_tells_whose_it_is(
    stranger: Member, data_owner: Member, hidden: Body
) -> None:
    visitor = signed_in(stranger)

    def rows(query: str) -> list[list[str]]:
        return table_of(visitor.opens(f"/datasets/?{query}").text, "Datasets of this registry")

    for words in (NAME, STAGE, "running", data_owner.email):
        assert rows(f"q={words}")[0][0].startswith("None")
    everything = rows("")
    for query in (f"owner={data_owner.uid}", f"owner={stranger.uid}", "sort=owner", "report=x"):
        assert rows(query) == everything, query
    preparator = f"data_preparation_mlcube={hidden['data_preparation_mlcube']}"
    listed = stranger.get(f"/datasets/?{preparator}").json()["results"]
    for owner in (data_owner.uid, stranger.uid):
        filtered = stranger.get(f"/datasets/?{preparator}&owner={owner}").json()["results"]
        assert filtered == listed


@pytest.mark.one_engine
def test_no_refusal_tells_whose_it_is(
    stranger: Member, data_owner: Member, hidden: Body, dataset: Body
) -> None:
    body = dataset_body(hidden["data_preparation_mlcube"], generated_uid=dataset["generated_uid"])
    twin = stranger.post("/datasets/", body).json()["id"]
    for answer in (
        stranger.put(f"/datasets/{hidden['id']}/", {"report": {}}),
        stranger.put(f"/datasets/{twin}/", {"state": "OPERATION"}),
        stranger.delete(f"/datasets/{hidden['id']}/"),
        stranger.get(f"/datasets/{hidden['id']}/benchmarks/1/"),
        stranger.post("/datasets/benchmarks/", {"dataset": hidden["id"], "benchmark": 1}),
        stranger.post("/results/", {"dataset": dataset["id"]}),
    ):
        assert answer.status_code in (400, 403, 404)
        for word in (NAME, STAGE, data_owner.email, f"member {data_owner.uid}"):
            assert word not in answer.text


def test_others_cannot_tell_when_its_preparation_goes_on(
    stranger: Member, data_owner: Member, hidden: Body
) -> None:
    start = now(stranger)
    seen = [stranger.get(path) for path in ("/datasets/?limit=1000", f"/datasets/{hidden['id']}/")]
    path, report = f"/datasets/{hidden['id']}/", {**REPORT, "execution_status": "finished"}
    assert data_owner.put(path, {"report": report}).status_code == 200
    again = [stranger.get(path) for path in ("/datasets/?limit=1000", f"/datasets/{hidden['id']}/")]
    assert [one.json() for one in seen] == [one.json() for one in again]
    assert [one.headers["ETag"] for one in seen] == [one.headers["ETag"] for one in again]
    assert stranger.get(f"/changes/?since={start}").json()["changes"] == []
