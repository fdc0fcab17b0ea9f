"""Files are fetched without a token by who has a link, as long as something public names them."""

from urllib.parse import urlsplit

import pytest
import requests

from tests.server.visitor import signed_in
from tests.support.api import Body, Member, created, now, since
from tests.support.registry import Registry
from tests.support.tus import content, digest, send

KIB = 1 << 10


def fetch(url: str, method: str = "GET", **options: object) -> requests.Response:
    """Without a token, as MedPerf's clients fetch what a URL names."""
    return requests.request(method, url, timeout=60, **options)  # type: ignore[arg-type]


def kept(owner: Member, data: bytes) -> Body:
    """A container whose configuration the registry keeps."""
    url = f"{owner.registry.url}/api/v0{send(owner, data)}"
    return owner.container(git_mlcube_url=url, mlcube_hash=digest(data))


@pytest.fixture
def data() -> bytes:
    """A file."""
    return content(200 * KIB)


@pytest.fixture
def container(model_owner: Member, data: bytes) -> Body:
    """The model owner's container, whose configuration the registry keeps."""
    return kept(model_owner, data)


@pytest.fixture
def link(container: Body) -> str:
    """Where everyone who sees the container is told that it is."""
    return str(container["git_mlcube_url"])


def benchmark_with(committee: Member, admin: Member, container: Body, **changes: object) -> Body:
    """An approved benchmark that a container is the reference model of."""
    uid = committee.benchmark(reference_model_mlcube=container["id"], **changes)["id"]
    answer = admin.put(f"/benchmarks/{uid}/", {"approval_status": "APPROVED"})
    return dict(answer.json())


def test_who_has_a_link_needs_no_token(link: str, data: bytes) -> None:
    whole = fetch(link)
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["Cache-Control"] == "private, no-cache"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    part = fetch(link, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, data[1000:2000])
    assert fetch(link, "HEAD").headers["Content-Length"] == str(len(data))
    again = fetch(link, headers={"If-None-Match": whole.headers["ETag"]})
    assert again.status_code == 304


def test_every_list_and_page_has_the_same_link(
    model_owner: Member, stranger: Member, container: Body, link: str
) -> None:
    uid = container["id"]
    for member in (model_owner, stranger):
        assert member.get(f"/mlcubes/{uid}/").json()["git_mlcube_url"] == link
        (row,) = since(member, now(member) - 1)
        assert row["entity"]["git_mlcube_url"] == link
        assert link in signed_in(member).opens(f"/containers/{uid}").text
    assert model_owner.get(f"/mlcubes/{uid}/").json() == container


def test_it_cannot_be_guessed_and_is_good_for_one_file(
    model_owner: Member, link: str, data: bytes
) -> None:
    plain, key = link.split("?key=")
    other = kept(model_owner, content(KIB))["git_mlcube_url"].split("?")[0]
    assert len(key) == 64
    for wrong in ("", "0" * 64, key[:-1], key + "0", "%00", "ü", key[::-1]):
        assert fetch(f"{plain}?key={wrong}").status_code == 401, wrong
    for url in (plain, f"{other}?key={key}", f"{plain.replace(digest(data), 'x' * 64)}?key={key}"):
        answer = fetch(url)
        assert answer.status_code == 401 and "token" in answer.json()["detail"]


@pytest.mark.one_engine
@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "PATCH"])
def test_it_lets_nobody_do_anything_else(link: str, method: str) -> None:
    assert fetch(link, method).status_code in (401, 405)
    parts = urlsplit(link)
    for path in ("/api/v0/me/assets/", "/api/v0/mlcubes/"):
        assert fetch(link.replace(parts.path, path), method).status_code in (401, 405)
        assert fetch(link.replace(parts.path, path)).status_code == 401


def test_a_token_that_is_not_good_is_not_made_good_by_a_link(link: str) -> None:
    assert fetch(link, headers={"Authorization": "Bearer wrong"}).status_code == 401


@pytest.mark.parametrize("role", ["reference model", "associated model"])
def test_what_private_benchmarks_alone_use_has_no_link_that_works(
    committee: Member, model_owner: Member, admin: Member, role: str, data: bytes
) -> None:
    owner = committee if role == "reference model" else model_owner
    container = kept(owner, data)
    link = container["git_mlcube_url"]
    if role == "reference model":
        private = benchmark_with(committee, admin, container, is_private=True)
    else:
        private = committee.benchmark(is_private=True)
        admin.put(f"/benchmarks/{private['id']}/", {"approval_status": "APPROVED"})
        path = f"/benchmarks/{private['id']}/members/"
        created(committee.post(path, {"email": model_owner.email}))
        body = {"model_mlcube": container["id"], "benchmark": private["id"]}
        created(model_owner.post("/mlcubes/benchmarks/", body))
    assert fetch(link).status_code == 401
    # Members fetch it as ever, whether they send the key or not.
    for url in (link, link.split("?")[0]):
        assert model_owner.session.get(url, timeout=60).content == data
    committee.put(f"/benchmarks/{private['id']}/", {"is_private": False})
    assert fetch(link).content == data


def test_what_a_public_benchmark_uses_too_has_one(
    committee: Member, admin: Member, data: bytes
) -> None:
    container = kept(committee, data)
    benchmark_with(committee, admin, container, is_private=True)
    assert fetch(container["git_mlcube_url"]).status_code == 401
    benchmark_with(committee, admin, container)
    assert fetch(container["git_mlcube_url"]).content == data


def test_demo_data_of_a_private_benchmark_has_none(
    committee: Member, admin: Member, data: bytes
) -> None:
    url = f"{committee.registry.url}/api/v0{send(committee, data)}"
    demo = {"demo_dataset_tarball_url": url, "demo_dataset_tarball_hash": digest(data)}
    made = committee.benchmark(is_private=True, **demo)
    assert made["demo_dataset_tarball_url"].startswith(f"{url}?key=")
    assert fetch(made["demo_dataset_tarball_url"]).status_code == 401
    committee.put(f"/benchmarks/{made['id']}/", {"is_private": False})
    assert fetch(made["demo_dataset_tarball_url"]).content == data


def test_what_nothing_names_yet_has_none(model_owner: Member, data: bytes, link: str) -> None:
    other = content(KIB)
    url = f"{model_owner.registry.url}/api/v0{send(model_owner, other)}"
    named = model_owner.container(git_mlcube_url=url, mlcube_hash="another")
    assert fetch(named["git_mlcube_url"]).status_code == 401
    assert fetch(link).content == data


def test_a_link_that_is_sent_back_is_no_change(
    model_owner: Member, admin: Member, container: Body, link: str
) -> None:
    uid = container["id"]
    answer = model_owner.put(f"/mlcubes/{uid}/", {**container, "is_valid": False})
    assert answer.status_code == 200 and answer.json()["git_mlcube_url"] == link
    # Nor is one that somebody copies into what is theirs.
    copied = model_owner.container(git_mlcube_url=link, mlcube_hash="copied")
    assert copied["git_mlcube_url"] == link
    for one in (uid, copied["id"]):
        entries = admin.get(f"/audit/?entity_type=mlcube&entity_id={one}").json()["results"]
        assert entries and "?key=" not in str(entries)


@pytest.mark.one_engine
@pytest.mark.parametrize("host", ["http://other.example.org", "https://127.0.0.1:1"])
def test_the_address_of_another_registry_stays_as_it_is(model_owner: Member, host: str) -> None:
    for url in (f"{host}/api/v0/assets/{'0' * 64}", f"{host}/api/v0/assets/{'0' * 64}?key=abc"):
        assert model_owner.container(git_mlcube_url=url)["git_mlcube_url"] == url


def test_no_log_has_a_key(served: Registry, link: str) -> None:
    assert fetch(link).status_code == 200
    assert link.split("?key=")[1] not in served.log.read_text()


def test_a_link_ends_with_its_file(model_owner: Member, admin: Member, data: bytes) -> None:
    container = kept(model_owner, data)
    assert admin.delete(f"/mlcubes/{container['id']}/").status_code == 204
    assert fetch(container["git_mlcube_url"]).status_code == 401
    assert model_owner.delete(f"/assets/{digest(data)}").status_code == 204
    assert fetch(container["git_mlcube_url"]).status_code == 401


def test_renewed_links_take_the_place_of_all_that_were_told(
    served: Registry, model_owner: Member, admin: Member, container: Body, link: str, data: bytes
) -> None:
    path, start = f"/mlcubes/{container['id']}/", now(model_owner)
    done = served.invoke("renew-links")
    assert done.exit_code == 0 and "worthless" in done.stderr
    renewed = model_owner.get(path).json()["git_mlcube_url"]
    assert renewed != link and renewed.split("?")[0] == link.split("?")[0]
    assert fetch(link).status_code == 401 and fetch(renewed).content == data
    told = {row["id"]: row["entity"] for row in since(model_owner, start)}
    assert told[container["id"]]["git_mlcube_url"] == renewed
    # Who still has the old one sends back no change.
    sent = model_owner.put(path, {"git_mlcube_url": link})
    assert sent.json()["git_mlcube_url"] == renewed
    (entry, *_) = admin.get("/audit/?entity_type=links").json()["results"]
    assert entry["actor"] == "command line" and set(entry["after"]) == {"renewed_at"}
