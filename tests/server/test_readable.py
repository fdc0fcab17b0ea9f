"""What MedPerf's clients cannot read is refused; what is there from before stays, and is listed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from marshmallow import ValidationError

from medperf_server.kinds.benchmark.schemas import BenchmarkSchema
from tests.server.visitor import signed_in
from tests.support.api import Body, Member, benchmark_body, container_body, created, now, seen
from tests.support.registry import Registry

ADDRESSES = [
    "https://example.org",
    "HTTP://Example.org:8080/docs?a=b@c#d",
    "http://10.0.0.1/docs",
    "http://[::1]/docs",
    "https://prüfung.example/ü",
    "https://example.xn--p1ai./docs",
    "https://my_host.example.org/@user/a:b",
    "https://user:word@example.org/",
    "https://example.org/".ljust(2083, "x"),
]
NO_ADDRESSES = [
    "http://intranet/docs",
    "ftp://example.org/docs",
    "example.org",
    "//example.org",
    "https:///docs",
    "https://example.o1",
    "https://example..org",
    "https://-a.org",
    "https://example.org:99999",
    "https://example.org/#a#b",
    # To pydantic all up to the @ is who signs in.
    "https://example.org?x=a@intranet",
    "https://example.org?x@",
    "https://" + "a" * 64 + ".org",
    "http://\u017fexample",
]
PARTS = ["http", "https", "ftp", "://", ":", "/", "@", "?", "#", ".", "-", "_", "[", "]", "::1"]
PARTS += ["a", "org", "xn--", "10", "ü", "ſ", "80", "٣", "\u3002", "{"]


def is_taken(url: str) -> bool:
    """Whether it may be where a benchmark's documentation is."""
    try:
        BenchmarkSchema(only=("docs_url",)).load({"docs_url": url})
    except ValidationError:
        return False
    return True


@pytest.mark.one_engine
@pytest.mark.parametrize("url", ADDRESSES)
def test_an_address_of_the_web_is_taken(url: str) -> None:
    assert is_taken(url)


@pytest.mark.one_engine
@pytest.mark.parametrize("url", NO_ADDRESSES, ids=ascii)
def test_what_is_none_is_refused(url: str) -> None:
    assert not is_taken(url)


@pytest.mark.one_engine
@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
@example("https://example.org?x=a@intranet")
def test_what_is_taken_pydantic_takes(url: str) -> None:
    pydantic = pytest.importorskip("pydantic.v1")

    class Read(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        docs_url: pydantic.HttpUrl

    for one in (url, f"https://{url}", f"https://a.org{url}", f"https://{url}.org/{url}"):
        if one and is_taken(one):
            Read(docs_url=one)


@pytest.fixture
def wide(tmp_path: Any) -> Iterator[Registry]:
    """A registry whose members use none of MedPerf's clients."""
    yield from Registry.serving(tmp_path / "wide", MEDPERF_LIMITS="wide")


LONG = {"name": "a name of more than 20 characters", "description": "x" * 200}


@pytest.mark.one_engine
def test_limits_are_wide_where_a_setting_says_so(wide: Registry, stranger: Member) -> None:
    ada = Member(wide, "ada")
    body = benchmark_body(ada, **LONG, docs_url="http://intranet/docs")
    made = created(ada.post("/benchmarks/", body))
    assert {name: made[name] for name in body} == body
    told = "longer than MedPerf"
    assert told in signed_in(ada).opens("/").text
    assert told not in signed_in(stranger).opens("/").text
    for member, longest in ((ada, 128), (stranger, 20)):
        components = member.get("/openapi.json").json()["components"]["schemas"]
        assert components["Container"]["properties"]["name"]["maxLength"] == longest
        too_long = member.post("/mlcubes/", container_body(name="x" * (longest + 1)))
        assert too_long.status_code == 400 and str(longest) in too_long.json()["name"][0]


@pytest.mark.one_engine
def test_a_word_that_is_no_limit_is_refused(tmp_path: Any) -> None:
    done = Registry(tmp_path, MEDPERF_LIMITS="none").invoke("init")
    assert done.exit_code == 1 and "medperf nor wide" in done.stderr


@pytest.fixture
def earlier(served: Registry, committee: Member, admin: Member) -> Iterator[Body]:
    """A benchmark, in DEVELOPMENT, of before there were such limits; no other test meets it."""
    from medperf_server.base import db
    from medperf_server.kinds.benchmark.table import Benchmark

    uid = committee.benchmark(state="DEVELOPMENT")["id"]
    with served.app.app_context():
        row = db.session.get_one(Benchmark, uid)
        row.name, row.description = f"{LONG['name']} {uid}", LONG["description"]
        row.docs_url, row.demo_dataset_tarball_url = "http://intranet/docs", ""
        db.session.commit()
    yield committee.get(f"/benchmarks/{uid}/").json()
    assert admin.delete(f"/benchmarks/{uid}/").status_code == 204


def test_what_is_there_from_before_stays_whoever_sends_it_back(
    committee: Member, earlier: Body
) -> None:
    path = f"/benchmarks/{earlier['id']}/"
    changed = committee.put(path, {**earlier, "is_active": False})
    assert changed.status_code == 200, changed.text
    assert changed.json() == {
        **earlier,
        "is_active": False,
        "modified_at": changed.json()["modified_at"],
    }
    for field in ("name", "description", "docs_url"):
        longer = committee.put(path, {field: earlier[field] + "x"})
        assert longer.status_code == 400 and list(longer.json()) == [field]
    given = {"demo_dataset_tarball_url": "https://example.org/demo"}
    assert committee.put(path, given).status_code == 200
    emptied = committee.put(path, {"demo_dataset_tarball_url": ""})
    assert emptied.status_code == 400


def test_what_looks_the_same_to_python_is_a_change(committee: Member, admin: Member) -> None:
    made = committee.benchmark(state="DEVELOPMENT", metadata={"threshold": 1})
    path, start = f"/benchmarks/{made['id']}/", now(committee)
    for value in (True, 1.0, 1):
        for answer in (
            committee.put(path, {"metadata": {"threshold": value}}),
            committee.get(path),
        ):
            told = answer.json()["metadata"]["threshold"]
            assert (told, type(told)) == (value, type(value))
    assert seen(committee, start) == [("benchmark", made["id"], "updated")] * 3
    log = admin.get(f"/audit/?entity_type=benchmark&entity_id={made['id']}").json()["results"]
    assert [list(entry["after"]) for entry in log[:3]] == [["metadata"]] * 3


def test_in_operation_it_is_one_too(committee: Member) -> None:
    container = committee.container(metadata={"threshold": 1})
    made = committee.dataset(container["id"], generated_metadata={"cases": 1})
    for path, change in (
        (f"/mlcubes/{container['id']}/", {"metadata": {"threshold": True}}),
        (f"/datasets/{made['id']}/", {"generated_metadata": {"cases": 1.0}}),
    ):
        assert committee.put(path, change).status_code == 400


def test_the_address_of_demo_data_is_not_emptied_in_operation(committee: Member) -> None:
    made = committee.benchmark()
    path = f"/benchmarks/{made['id']}/"
    emptied = committee.put(path, {"demo_dataset_tarball_url": ""})
    assert emptied.status_code == 400 and "demo_dataset_tarball_url" in emptied.json()
    assert committee.get(path).json() == made


def test_a_check_lists_what_is_there_from_before(served: Registry, earlier: Body) -> None:
    done = served.invoke("check", "--json")
    (found,) = (
        one["what"]
        for one in json.loads(done.stdout)
        if one["what"].startswith("values that would be refused by now")
    )
    # Of what other tests may have left only some are named.
    fields = ("name", "description", "docs_url", "demo_dataset_tarball_url")
    assert int(found.partition(": ")[2].partition(" ")[0]) >= len(fields)
    assert "name of benchmark" in found
