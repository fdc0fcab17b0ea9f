"""Pages of benchmarks and containers, the home page, and what nobody finds by following links."""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from tests.server.visitor import Elements, Visitor, signed_in
from tests.support.api import Body, Member, created
from tests.support.registry import Registry

HASH = "0123456789abcdef" * 4


def values_of(entity: Any) -> Iterator[str]:
    """Every text and number in an entity, as a page has to escape it."""
    if isinstance(entity, dict):
        for key, value in entity.items():
            yield from () if key.endswith(("_at", "owner")) else values_of(value)
    elif isinstance(entity, list):
        for value in entity:
            yield from values_of(value)
    elif entity not in ("", None) and not isinstance(entity, bool):
        yield str(html.escape(str(entity)))


@pytest.mark.one_engine
def test_a_containers_page_has_all_its_fields(model_owner: Member) -> None:
    made = model_owner.container(
        git_parameters_url="https://example.org/parameters.yaml",
        parameters_hash=HASH,
        additional_files_tarball_url="https://example.org/weights.tar.gz",
        additional_files_tarball_hash=HASH[::-1],
        user_metadata={"licence": "Apache-2.0 & <more>"},
        metadata={"framework": "torch"},
    )
    page = signed_in(model_owner).opens(f"/containers/{made['id']}").text
    for value in values_of({**made, "state": made["state"].lower()}):
        assert value in page or value.replace("&#x27;", "&#39;") in page, value
    for digest in (HASH, HASH[::-1], made["image_hash"], made["mlcube_hash"]):
        assert f'data-copy="{digest}"' in page
    assert '<a href="https://example.org/weights.tar.gz" rel="noreferrer noopener">' in page


@pytest.mark.one_engine
def test_a_benchmarks_page_has_all_its_fields(committee: Member, admin: Member) -> None:
    metadata = {"test_result": {"auroc": 0.875}, "note": "<b>reference</b>"}
    made = committee.benchmark(metadata=metadata, user_metadata={"contact": "tumor board"})
    names = {admin.get(f"/mlcubes/{made['reference_model_mlcube']}/").json()["name"]}
    page = signed_in(committee).opens(f"/benchmarks/{made['id']}").text
    lowered = {"state": made["state"].lower(), "approval_status": "pending"}
    for value in {*values_of({**made, **lowered}), *names}:
        assert value in page, value
    assert f'data-copy="{made["demo_dataset_tarball_hash"]}"' in page
    assert '<a href="https://example.org/docs" rel="noreferrer noopener">' in page


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://example.org/",
        "//example.org",
    ],
)
def test_only_what_is_of_the_web_is_a_link(committee: Member, url: str) -> None:
    made = committee.benchmark(demo_dataset_tarball_url=url)
    page = signed_in(committee).opens(f"/benchmarks/{made['id']}").text
    assert url in page and f'href="{url}' not in page


@pytest.mark.one_engine
def test_a_link_cannot_break_out_of_its_attribute(committee: Member) -> None:
    made = committee.benchmark(demo_dataset_tarball_url='https://x/"onmouseover="alert(1)')
    page = signed_in(committee).opens(f"/benchmarks/{made['id']}").text
    assert "&#34;onmouseover=&#34;" in page and '"onmouseover="' not in page


def test_the_owner_reads_what_was_done_to_their_entity(
    committee: Member, admin: Member, approved: Body, stranger: Member
) -> None:
    path = f"/benchmarks/{approved['id']}"
    page = signed_in(committee).opens(path).text
    history = page.partition('id="history"')[2]
    assert history.index("updated") < history.index("created</strong> by you")
    assert "PENDING</del>" in history and "APPROVED</ins>" in history
    assert 'id="history"' in signed_in(admin).opens(path).text
    assert 'id="history"' not in signed_in(stranger).opens(path).text


def test_addresses_of_members_are_for_administrators(
    committee: Member,
    admin: Member,
    stranger: Member,
    approved: Body,
    model: Body,
    model_owner: Member,
    requested: Body,
) -> None:
    paths = (
        f"/benchmarks/{approved['id']}",
        f"/benchmarks/{approved['id']}/leaderboard",
        f"/benchmarks/?q={approved['name']}",
        f"/containers/{model['id']}",
        f"/containers/?q={model['name']}",
    )
    for reader in (stranger, committee, model_owner):
        others = {one.email for one in (committee, admin, model_owner)} - {reader.email}
        for path in paths:
            page = signed_in(reader).opens(path)
            assert page.status_code == 200
            assert not [email for email in others if email in page.text], path
    sides = signed_in(committee).opens(f"/associations/{requested['id']}").text
    assert model_owner.email not in sides and model_owner.email.partition("@")[0] in sides
    assert committee.email in signed_in(admin).opens(paths[0]).text
    assert model_owner.email in signed_in(admin).opens(paths[3]).text


@pytest.mark.one_engine
def test_a_container_says_what_to_run_next(
    model_owner: Member, approved: Body, stranger: Member
) -> None:
    ready, draft = model_owner.container(), model_owner.container(state="DEVELOPMENT")
    owner = signed_in(model_owner)
    page = owner.opens(f"/containers/{ready['id']}").text
    named = re.findall(r"medperf container associate --benchmark (\d+) --model_uid (\d+)", page)
    assert named and {uid for _, uid in named} == {str(ready["id"])}
    assert owner.opens(f"/benchmarks/{named[0][0]}").status_code == 200
    page = owner.opens(f"/containers/{draft['id']}").text
    assert "medperf test run" in page and "container associate" not in page
    page = signed_in(stranger).opens(f"/containers/{ready['id']}").text
    assert f"medperf container view {ready['id']}" in page and "associate" not in page


def test_home_shows_each_side_what_waits_for_them(
    committee: Member, model_owner: Member, requested: Body, stranger: Member
) -> None:
    link = f"/associations/{requested['id']}"
    waiting, asked = "Requests to decide", "Your models&#39; requests"
    page = signed_in(committee).opens("/").text
    assert waiting in page and link in page
    page = signed_in(model_owner).opens("/").text
    assert waiting not in page and link in page
    assert asked in page or html.unescape(asked) in page
    page = signed_in(stranger).opens("/").text
    assert link not in page and "First steps" in page and "medperf auth login" in page


def test_home_shows_the_model_owner_what_was_decided_and_why(
    committee: Member, model_owner: Member, requested: Body
) -> None:
    path = f"/associations/{requested['id']}"
    form = {"approval_status": "REJECTED", "reason": "Test again on a GPU"}
    signed_in(committee).fills(path, form, on=path)
    page = signed_in(model_owner).opens("/").text
    assert "Test again on a GPU" in page and ">rejected<" in page


def test_a_benchmark_waits_on_every_admins_home(committee: Member, admin: Member) -> None:
    made = committee.benchmark()
    path = f"/benchmarks/{made['id']}"
    assert f'href="{path}"' in signed_in(admin).opens("/").text
    visitor = signed_in(committee)
    assert "Approve" not in visitor.opens(path).text
    form = {"approval_status": "APPROVED"}
    assert visitor.fills(f"{path}/decide", form).status_code == 403
    told = signed_in(admin).fills(f"{path}/decide", form, on=path)
    assert f"{made['name']} is approved." in told.text
    assert f'href="{path}"' not in signed_in(admin).opens("/").text


def test_only_its_owner_says_who_sees_a_private_benchmark(
    committee: Member, join: Callable[..., Member]
) -> None:
    path = f"/benchmarks/{committee.benchmark(is_private=True)['id']}"
    guest, other = join("guest"), join("other")
    owner = signed_in(committee)
    for given, told in (
        (guest.email.upper(), f"{guest.email} can see this benchmark"),
        (guest.email, "is invited already"),
        ("nobody@example.org", "is no member of this registry"),
        ("", "is no member of this registry"),
    ):
        assert told in owner.fills(f"{path}/members", {"email": given}, on=path).text
    visitor = signed_in(guest)
    page = visitor.opens(path).text
    assert "Who may see it" not in page and "private" in page
    refused = visitor.fills(f"{path}/members", {"email": other.email}, on=path)
    assert refused.status_code == 403
    assert signed_in(other).opens(path).status_code == 404
    gone = owner.fills(f"{path}/members/{other.uid}/remove", {}, on=path)
    assert gone.status_code == 404


@dataclass
class House:
    """A registry with one private benchmark, and everything in it named by `evil` markup."""

    registry: Registry
    people: dict[str, Member]
    secret: str
    private: int
    pages: Callable[[str], dict[str, str]]


EVIL = "<img src=x onerror=alert(1)>\"'{{7*7}}"
EVIL_PATH = EVIL.replace(" ", "/")  # Between attributes, `/` does what a space does.


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """See `House`."""
    # Where there is room for such names.
    for registry in Registry.serving(tmp_path_factory.mktemp("house"), MEDPERF_LIMITS="wide"):
        names = ("admin", "committee", "models", "guest", "stranger")
        people = {name: Member(registry, name, admin=name == "admin") for name in names}
        for member in people.values():
            people["admin"].put(f"/users/{member.uid}/", {"first_name": EVIL, "last_name": "L"})
        yield _furnished(registry, people)


def _furnished(registry: Registry, people: dict[str, Member]) -> House:
    admin, committee, models = people["admin"], people["committee"], people["models"]
    metadata = {"test_result": {EVIL: 0.5, "auroc": EVIL}, "test_steps": [{"step": EVIL}]}
    secret = "hidden-from-strangers"
    for name, is_private in ((f"{EVIL} open", False), (secret, True)):
        made = committee.benchmark(
            name=name,
            description=f"{name} {EVIL}",
            docs_url=f"https://example.org/{EVIL_PATH}",
            is_private=is_private,
            metadata=metadata,
            user_metadata={EVIL: EVIL},
        )["id"]
        admin.put(f"/benchmarks/{made}/", {"approval_status": "APPROVED"})
        if is_private:
            created(committee.post(f"/benchmarks/{made}/members/", {"email": models.email}))
        model = models.container(
            name=f"{EVIL} {made}",
            git_mlcube_url=f"https://example.org/{EVIL_PATH}",
            user_metadata={EVIL: EVIL},
        )["id"]
        body = {"model_mlcube": model, "benchmark": made, "metadata": metadata}
        uid = created(models.post("/mlcubes/benchmarks/", body))["id"]
        pair = f"/mlcubes/{model}/benchmarks/{made}/"
        decision = {"approval_status": "APPROVED", "reason": f"{EVIL} {uid}"}
        assert committee.put(pair, decision).status_code == 200
    # Whoever is not invited any more sees nothing of their own part in it either.
    created(committee.post(f"/benchmarks/{made}/members/", {"email": people["guest"].email}))
    committee.delete(f"/benchmarks/{made}/members/{people['guest'].uid}/")
    pages = cache(lambda name: dict(crawled(signed_in(people[name]))))
    return House(registry, people, secret, made, pages)


def crawled(visitor: Visitor) -> Iterator[tuple[str, str]]:
    """Every page that links lead to from the home page, and what is on it.

    Not every order of each table: those are the same rows.
    """
    waiting, seen = ["/"], {"/"}
    while waiting:
        path = waiting.pop()
        answer = visitor.opens(path)
        assert answer.status_code == 200, path
        assert answer.headers["Cache-Control"] == "no-store", path
        yield path, answer.text
        for link in map(html.unescape, re.findall(r'href="(/[^"#]*)"', answer.text)):
            apart = link.startswith(("/static/", "/api/")) or "sort=" in link
            if link not in seen and not apart:
                seen.add(link)
                waiting.append(link)


@pytest.mark.parametrize("name", ["admin", "committee", "models", "stranger"])
def test_what_members_write_becomes_no_element_on_any_page(house: House, name: str) -> None:
    pages = house.pages(name)
    for page in pages.values():
        Elements(page).are_harmless()
    # It is there, as text.
    assert sum("{{7*7}}" in page for page in pages.values()) > 5


@pytest.mark.parametrize("name", ["stranger", "guest"])
def test_no_link_leads_a_stranger_to_a_private_benchmark(house: House, name: str) -> None:
    for path, page in house.pages(name).items():
        assert house.secret not in page, path
        assert f"/benchmarks/{house.private}" not in page, path
        assert f"--benchmark {house.private}" not in page, path
    visitor = signed_in(house.people[name])
    for path in (
        f"/associations/?benchmark={house.private}",
        f"/associations/?q={house.secret}",
        f"/benchmarks/?q={house.secret}",
        f"/benchmarks/?sort=name&q={house.secret}&approval_status=APPROVED",
    ):
        assert "0 in all" in visitor.opens(path).text, path
    assert visitor.opens(f"/benchmarks/{house.private}/leaderboard").status_code == 404
    members = f"/benchmarks/{house.private}/members"
    assert visitor.fills(members, {"email": "x@example.org"}).status_code == 404


def test_who_is_invited_meets_the_private_benchmark(house: House) -> None:
    for name in ("models", "committee", "admin"):
        pages = house.pages(name)
        assert any(house.secret in page for page in pages.values())
        assert f"/benchmarks/{house.private}/leaderboard" in pages
