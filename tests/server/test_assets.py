"""Files in the registry: sent by the tus protocol, read by their SHA-256, given up."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from medperf_server.assets import Store
from tests.support.api import Member, NewMember, benchmark_body, container_body, created, together
from tests.support.asset_fixtures import files_in_bucket, join, registry, store
from tests.support.registry import Registry
from tests.support.tus import (
    MIB,
    PIECE_TYPE,
    TUS,
    begin,
    begun,
    content,
    digest,
    held,
    metadata,
    offset,
    patch,
    send,
)

__all__ = ["files_in_bucket", "join", "registry", "store"]


def sweep(member: Member) -> None:
    """Have the registry clear away what it has to; it does so once a minute, and when it starts."""
    member.registry.stop()
    member.registry.start()
    begun(member, content(10))


def set_row(registry: Registry, model: str, key: Any, **values: Any) -> None:
    """Change a row behind the API's back."""
    from medperf_server import models

    with registry.app.app_context():
        row = models.db.session.get_one(getattr(models, model), key)
        for name, value in values.items():
            setattr(row, name, value)
        models.db.session.commit()


@pytest.fixture
def ada(join: NewMember) -> Member:
    """A member who sends files."""
    return join("ada")


@pytest.fixture
def bob(join: NewMember) -> Member:
    """Another member."""
    return join("bob")


def test_a_file_that_is_sent_in_pieces_is_read_whole(ada: Member, bob: Member) -> None:
    data = content(20 * MIB + 5)
    path = begun(ada, data)
    for start in range(0, len(data), 8 * MIB):
        assert offset(ada, path) == start
        answer = patch(ada, path, start, data[start : start + 8 * MIB])
        assert answer.status_code == 204 and answer.headers["Tus-Resumable"] == "1.0.0"
        assert int(answer.headers["Upload-Offset"]) == min(start + 8 * MIB, len(data))
    assert bob.get(f"/assets/{digest(data)}").content == data
    assert held(ada) == {digest(data): len(data)} and held(bob) == {}
    assert ada.ask("HEAD", path, headers=TUS).status_code == 404


def test_a_piece_at_the_wrong_place_changes_nothing(ada: Member) -> None:
    data = content()
    path = begun(ada, data)
    assert patch(ada, path, 0, data[:MIB]).status_code == 204
    for wrong in (0, MIB - 1, MIB + 1):
        answer = patch(ada, path, wrong, data[wrong:])
        assert answer.status_code == 409 and str(MIB) in answer.json()["detail"]
    assert offset(ada, path) == MIB
    patch(ada, path, MIB, data[MIB:])
    assert ada.get(f"/assets/{digest(data)}").content == data


def test_content_that_is_not_what_was_announced_is_never_stored(ada: Member, store: Store) -> None:
    data, announced = content(), digest(b"something else")
    path = begun(ada, data, announced)
    patch(ada, path, 0, data[:MIB])
    answer = patch(ada, path, MIB, data[MIB:])
    (said,) = answer.json()["sha256"]
    assert answer.status_code == 400 and announced in said and digest(data) in said
    for one in (announced, digest(data)):
        assert ada.get(f"/assets/{one}").status_code == 404 and one not in store
    assert ada.ask("HEAD", path, headers=TUS).status_code == 404
    assert path.split("/")[-2] not in store.uploads() and held(ada) == {}


def test_what_is_here_already_is_not_sent_again(ada: Member, bob: Member) -> None:
    data = content()
    path = send(ada, data)
    answer = begin(bob, data)
    assert answer.status_code == 200
    assert answer.json()["url"] == answer.headers["Location"] == f"{bob.registry.url}/api/v0{path}"
    assert held(bob) == {digest(data): len(data)}
    assert begin(bob, data).status_code == 200 and len(held(bob)) == 1


def test_whoever_is_overtaken_needs_no_second_room(ada: Member, bob: Member) -> None:
    data = content(1000)
    set_row(ada.registry, "User", ada.uid, quota_bytes=1000)
    path = begun(ada, data)
    send(bob, data)
    assert begin(ada, data).status_code == 200
    assert ada.ask("HEAD", path, headers=TUS).status_code == 404
    assert held(ada) == {digest(data): 1000}


def test_a_sha256_and_a_size_that_contradict_each_other_are_refused(
    ada: Member, bob: Member
) -> None:
    data = content()
    send(ada, data)
    answer = begin(bob, data[:-1], digest(data))
    assert answer.status_code == 400 and str(len(data)) in answer.json()["Upload-Length"][0]
    assert held(bob) == {}


def test_beginning_again_goes_on_with_what_is_here(ada: Member, bob: Member) -> None:
    data = content()
    path = begun(ada, data)
    patch(ada, path, 0, data[:MIB])
    answer = begin(ada, data)
    assert answer.status_code == 201 and answer.headers["Upload-Offset"] == str(MIB)
    assert answer.headers["Location"] == f"{ada.registry.url}/api/v0{path}"
    assert answer.json()["offset_bytes"] == MIB
    # Another member's upload is their own.
    assert begun(bob, data) != path


def test_a_key_stands_for_one_announced_file(ada: Member) -> None:
    data, key = content(100), {"Idempotency-Key": digest(content(10))}
    first = begin(ada, data, **key)
    again = begin(ada, data, **key)
    assert again.headers["Idempotent-Replayed"] == "true" and again.json() == first.json()
    # Where to go on, and from where: a client of tus reads nothing else.
    for header in ("Location", "Upload-Offset", "Tus-Resumable"):
        assert again.headers[header] == first.headers[header]
    # It is the headers that differ: there is no body.
    assert begin(ada, content(100), **key).status_code == 422
    assert begin(ada, data + b".", digest(data), **key).status_code == 422


def test_a_file_may_be_empty(ada: Member) -> None:
    path = begun(ada, b"")
    assert patch(ada, path, 0, b"").status_code == 204
    answer = ada.get(f"/assets/{digest(b'')}")
    assert (answer.status_code, answer.content) == (200, b"")


def test_more_than_was_announced_is_refused(ada: Member) -> None:
    data = content(MIB)
    path = begun(ada, data)
    answer = patch(ada, path, 0, data + b"x")
    assert answer.status_code == 413 and str(MIB + 1) in answer.json()["detail"]
    assert offset(ada, path) == 0


def test_the_protocol_tells_what_it_can(ada: Member) -> None:
    set_row(ada.registry, "User", ada.uid, quota_bytes=12345)
    path = begun(ada, b"some")
    for at in ("/assets/", path):
        answer = ada.ask("OPTIONS", at)
        assert answer.status_code == 204
        assert answer.headers["Tus-Version"] == answer.headers["Tus-Resumable"] == "1.0.0"
        assert answer.headers["Tus-Extension"] == "creation,termination"
        assert answer.headers["Tus-Max-Size"] == "12345"
    head = ada.ask("HEAD", path, headers=TUS).headers
    assert (head["Upload-Length"], head["Cache-Control"]) == ("4", "no-store")
    assert head["Upload-Metadata"] == metadata(digest(b"some"))["Upload-Metadata"]


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0.1"])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_another_version_of_the_protocol_is_refused(
    ada: Member, method: str, version: str | None
) -> None:
    data = content(10)
    path = begun(ada, data)
    headers = {**PIECE_TYPE, "Upload-Offset": "0", "Upload-Length": "10", **metadata(digest(data))}
    headers |= {} if version is None else {"Tus-Resumable": version}
    answer = ada.ask(method, "/assets/" if method == "POST" else path, headers=headers)
    assert answer.status_code == 412 and answer.headers["Tus-Version"] == "1.0.0"
    assert offset(ada, path) == 0


@pytest.mark.parametrize("length", ["", "-1", "1.5", "a", "1" * 16])
def test_an_upload_needs_a_length(ada: Member, length: str) -> None:
    answer = begin(ada, b"", **{"Upload-Length": length})
    assert answer.status_code == 400 and "Upload-Length" in answer.json()


@pytest.mark.parametrize(
    "wrong", ["", "sha256", "sha256 !!", "sha256 YWJj", "name YWJj", "sha256 w6Q=", "x" * 5000]
)
def test_an_upload_announces_a_sha256(ada: Member, wrong: str) -> None:
    answer = begin(ada, b"a", **{"Upload-Metadata": wrong})
    assert answer.status_code == 400 and "Upload-Metadata" in answer.json()


def test_other_metadata_does_not_matter(ada: Member) -> None:
    data = content(10)
    header = f"filename d2VpZ2h0cw==, {metadata(digest(data).upper())['Upload-Metadata']}, final"
    created(begin(ada, data, **{"Upload-Metadata": header}))


@pytest.mark.parametrize("kind", [None, "application/json", "application/octet-stream"])
def test_a_piece_has_its_own_type(ada: Member, kind: str | None) -> None:
    path = begun(ada, b"some")
    headers = {**TUS, "Upload-Offset": "0", **({"Content-Type": kind} if kind else {})}
    assert ada.ask("PATCH", path, data=b"some", headers=headers).status_code == 415
    assert offset(ada, path) == 0


def test_a_piece_says_where_it_belongs(ada: Member) -> None:
    path = begun(ada, b"some")
    answer = ada.ask("PATCH", path, data=b"some", headers={**TUS, **PIECE_TYPE})
    assert answer.status_code == 400 and "Upload-Offset" in answer.json()


def test_proxies_that_know_only_post_are_no_obstacle(ada: Member) -> None:
    data = content()
    path, key = begun(ada, data), digest(data)

    def post(method: str, at: str) -> int:
        headers = {**TUS, **PIECE_TYPE, "Upload-Offset": "0", "X-HTTP-Method-Override": method}
        headers["Idempotency-Key"] = key
        return ada.ask("POST", at, data=data, headers=headers).status_code

    assert post("GET", path) == 400
    # A key is for what cannot be repeated: it stands for no piece of a file.
    assert post("PATCH", path) == 204
    assert ada.get(f"/assets/{digest(data)}").content == data
    other = begun(ada, content())
    assert post("DELETE", other) == 204
    assert ada.ask("HEAD", other, headers=TUS).status_code == 404


def test_an_upload_can_be_given_up(ada: Member, store: Store) -> None:
    data = content()
    path = begun(ada, data)
    patch(ada, path, 0, data[:MIB])
    assert path.split("/")[-2] in store.uploads()
    assert ada.ask("DELETE", path, headers=TUS).status_code == 204
    assert path.split("/")[-2] not in store.uploads()
    assert patch(ada, path, MIB, data[MIB:]).status_code == 404


def test_uploads_are_for_those_who_began_them(ada: Member, bob: Member) -> None:
    data = content(10)
    path = begun(ada, data)
    assert patch(bob, path, 0, data).status_code == 404
    for method in ("HEAD", "DELETE"):
        assert bob.ask(method, path, headers=TUS).status_code == 404
    assert offset(ada, path) == 0


@pytest.mark.parametrize("odd", ["0" * 32, "x" * 32, "%00" * 32, "0" * 31, "..%2f" * 8])
def test_there_are_no_other_uploads(ada: Member, odd: str) -> None:
    assert ada.ask("HEAD", f"/assets/uploads/{odd}/", headers=TUS).status_code == 404


@pytest.mark.parametrize("odd", ["0" * 64, "G" * 64, "%00" * 64, "0" * 63, "..%2f" * 16])
def test_there_are_no_other_files(ada: Member, odd: str) -> None:
    for method in ("GET", "HEAD", "DELETE"):
        assert ada.ask(method, f"/assets/{odd}").status_code == 404


def test_files_are_for_members(ada: Member) -> None:
    path = send(ada, content(10))
    for method, at in (("GET", path), ("DELETE", path), ("POST", "/assets/"), ("OPTIONS", path)):
        url = f"{ada.registry.url}/api/v0{at}"
        assert requests.request(method, url, headers=TUS, timeout=60).status_code == 401


def test_a_token_to_read_with_reads(ada: Member, bob: Member) -> None:
    from medperf_server.auth import issue_token
    from medperf_server.base import db

    data = content(10)
    path = send(ada, data)
    with ada.registry.app.app_context():
        _, token = issue_token(bob.uid, scope="read")
        db.session.commit()
    bob.session.headers["Authorization"] = f"Bearer {token}"
    assert bob.get(path).content == data
    assert begin(bob, content(10)).status_code == begin(bob, data).status_code == 403


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, 3000),
        ("bytes=100-199", 100, 200),
        ("bytes=2900-9999", 2900, 3000),
        ("bytes=-10", 2990, 3000),
    ],
)
def test_a_part_of_a_file_can_be_had(ada: Member, asked: str, start: int, stop: int) -> None:
    data = content(3000)
    path = send(ada, data)
    answer = ada.get(path, Range=asked)
    assert answer.status_code == 206 and answer.content == data[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/3000"
    assert int(answer.headers["Content-Length"]) == stop - start


@pytest.mark.parametrize("asked", ["bytes=3000-", "bytes=5000-6000"])
def test_what_no_file_has_cannot_be_had(ada: Member, asked: str) -> None:
    path = send(ada, content(3000))
    answer = ada.get(path, Range=asked)
    assert answer.status_code == 416 and answer.headers["Content-Range"] == "bytes */3000"


@pytest.mark.parametrize(
    "asked", ["lines=1-2", "bytes=0-1,5-6", "bytes=9-5", "nonsense", "bytes=-3001", "bytes=-0"]
)
def test_for_other_ranges_there_is_the_whole_file(ada: Member, asked: str) -> None:
    data = content(3000)
    answer = ada.get(send(ada, data), Range=asked)
    assert (answer.status_code, answer.content) == (200, data)


def test_a_part_is_only_given_of_the_file_that_was_meant(ada: Member) -> None:
    data = content(3000)
    path = send(ada, data)
    same = ada.get(path, Range="bytes=5-9", **{"If-Range": f'"{digest(data)}"'})
    assert (same.status_code, same.content) == (206, data[5:10])
    for other in ('"other"', "Wed, 25 Nov 2026 00:00:00 GMT"):
        answer = ada.get(path, Range="bytes=5-9", **{"If-Range": other})
        assert (answer.status_code, answer.content) == (200, data)


def test_a_file_comes_as_something_to_save(ada: Member) -> None:
    data = content(3000)
    path = send(ada, data)
    for method in ("GET", "HEAD"):
        for slash in ("", "/"):
            answer = ada.ask(method, path + slash, allow_redirects=False)
            assert answer.status_code == 200
            assert answer.headers["ETag"] == f'"{digest(data)}"'
            assert answer.headers["Content-Length"] == "3000"
            assert answer.headers["Accept-Ranges"] == "bytes"
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Content-Disposition"].startswith("attachment;")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    unchanged = ada.get(path, **{"If-None-Match": f'"{digest(data)}"'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_the_quota_counts_what_one_holds_and_what_is_on_its_way(ada: Member, bob: Member) -> None:
    set_row(ada.registry, "User", ada.uid, quota_bytes=3000)
    send(ada, content(1000))
    coming = begun(ada, content(1500))
    refused = begin(ada, content(501))
    assert refused.status_code == 413
    for figure in ("501", "3000", "2500"):
        assert figure in refused.json()["detail"]
    # Of what is here already, too.
    known = content(501)
    send(bob, known)
    assert begin(ada, known).status_code == 413
    begun(ada, content(500))
    ada.ask("DELETE", coming, headers=TUS)
    assert begin(ada, known).status_code == 200


def test_a_registry_may_have_another_quota(tmp_path: Path) -> None:
    for small in Registry.serving(tmp_path / "small", MEDPERF_ASSET_QUOTA_BYTES="100"):
        member = Member(small, "ada")
        assert begin(member, content(101)).status_code == 413
        created(begin(member, content(100)))


def test_files_that_are_begun_at_once_keep_to_the_quota(ada: Member) -> None:
    set_row(ada.registry, "User", ada.uid, quota_bytes=3000)
    files = [content(1000) for _ in range(6)]
    statuses = [answer.status_code for answer in together(6, lambda n: begin(ada, files[n]))]
    assert sorted(statuses) == [201, 201, 201, 413, 413, 413]


def test_the_bytes_go_with_the_last_hold(ada: Member, bob: Member, store: Store) -> None:
    data = content(10)
    path = send(ada, data)
    assert bob.delete(path).status_code == 404
    begin(bob, data)
    assert ada.delete(path).status_code == 204
    assert ada.delete(path).status_code == 404
    assert ada.get(path).content == data and digest(data) in store
    assert bob.delete(path).status_code == 204
    assert bob.get(path).status_code == 404 and digest(data) not in store
    # Given up is not forbidden.
    assert send(ada, data) == path and bob.get(path).content == data


@pytest.mark.parametrize(
    "field",
    ["mlcube_hash", "parameters_hash", "additional_files_tarball_hash", "image_hash"],
)
def test_what_a_container_needs_stays(ada: Member, bob: Member, field: str) -> None:
    urls = {
        "parameters_hash": "git_parameters_url",
        "additional_files_tarball_hash": "additional_files_tarball_url",
    }
    data = content(10)
    path = send(ada, data)
    url = {urls[field]: f"{ada.registry.url}/api/v0{path}"} if field in urls else {}
    uid = created(ada.post("/mlcubes/", container_body(**{field: digest(data)}, **url)))["id"]
    refused = ada.delete(path)
    assert refused.status_code == 400 and f"Container {uid}" in refused.json()["sha256"][0]
    assert list(held(ada)) == [digest(data)]
    # As long as somebody holds it.
    begin(bob, data)
    assert ada.delete(path).status_code == 204
    assert bob.delete(path).status_code == 400 and bob.get(path).content == data


def test_what_a_benchmark_needs_stays(ada: Member) -> None:
    data = content(10)
    path = send(ada, data)
    body = benchmark_body(ada, demo_dataset_tarball_hash=digest(data), is_private=True)
    created(ada.post("/benchmarks/", body))
    assert ada.delete(path).status_code == 400 and ada.get(path).content == data


@pytest.mark.parametrize("needed_by", ["container", "benchmark", "nobody"])
def test_who_is_removed_gives_up_what_they_hold(
    join: NewMember, ada: Member, store: Store, needed_by: str
) -> None:
    host, bob = join("host", admin=True), join("bob")
    data, shared = content(10), content(10)
    sent = [send(bob, shared), send(bob, data)]
    begin(ada, shared)
    if needed_by == "container":
        uid = ada.container(mlcube_hash=digest(data))["id"]
        needs = f"Container {uid} needs the file {digest(data)}"
    elif needed_by == "benchmark":
        body = benchmark_body(ada, demo_dataset_tarball_hash=digest(data), is_private=True)
        created(ada.post("/benchmarks/", body))
        needs = f"A benchmark needs the file {digest(data)}"
    answer = host.delete(f"/users/{bob.uid}/")
    if needed_by == "nobody":
        assert answer.status_code == 204
        assert [host.get(path).status_code for path in sent] == [200, 404]
        assert digest(data) not in store and digest(shared) in store
        return
    assert answer.status_code == 400 and needs in answer.json()["sha256"][0]
    # Nothing is half done, whichever of the files came first.
    assert held(bob).keys() == {digest(data), digest(shared)}
    assert [host.get(path).content for path in sent] == [shared, data]
    begin(ada, data)
    assert host.delete(f"/users/{bob.uid}/").status_code == 204
    assert [host.get(path).content for path in sent] == [shared, data]


def test_who_owns_something_is_not_removed_nor_a_byte_of_theirs(
    join: NewMember, ada: Member
) -> None:
    ada.container()
    data = content(10)
    path = send(ada, data)
    assert join("host", admin=True).delete(f"/users/{ada.uid}/").status_code == 400
    assert ada.get(path).content == data and list(held(ada)) == [digest(data)]


def test_uploads_that_nobody_goes_on_with_are_cleared_away(
    ada: Member, bob: Member, store: Store
) -> None:
    from medperf_server.base import utc_now

    paths = [begun(ada, data := content()) for _ in range(2)]
    uids = [path.split("/")[-2] for path in paths]
    for path in paths:
        patch(ada, path, 0, data[:MIB])
    week = timedelta(days=7)
    for uid, age in zip(
        uids, (week + timedelta(minutes=1), week - timedelta(minutes=1)), strict=True
    ):
        set_row(ada.registry, "Upload", uid, modified_at=utc_now() - age)
    for _ in range(2):
        sweep(bob)
    assert ada.ask("HEAD", paths[0], headers=TUS).status_code == 404
    assert offset(ada, paths[1]) == MIB
    assert uids[0] not in store.uploads() and uids[1] in store.uploads()


def test_a_store_that_takes_longer_than_there_is_time_is_cleared_away_all_the_same(
    ada: Member, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medperf_server.assets import receiving

    monkeypatch.setattr(receiving, "SWEEP_SECONDS", -1)
    monkeypatch.setattr(receiving, "store", lambda: store)
    left = "0" * 32
    store.write_piece(left, "f" * 32, memoryview(b"of no upload"))
    assert left in store.uploads()
    with ada.registry.app.app_context():
        receiving._sweep()
    assert left not in store.uploads()


def test_what_a_crash_left_is_no_part_of_the_file(ada: Member, store: Store) -> None:
    data = content()
    path = begun(ada, data)
    uid = path.split("/")[-2]
    patch(ada, path, 0, data[:MIB])
    # The bytes were written, and the row does not know of them.
    store.write_piece(uid, "f" * 32, memoryview(b"half of a piece"))
    store.write_piece("e" * 32, "f" * 32, memoryview(b"of no upload"))
    assert offset(ada, path) == MIB
    assert patch(ada, path, MIB, data[MIB:]).status_code == 204
    assert ada.get(f"/assets/{digest(data)}").content == data
    sweep(ada)
    assert not {uid, "e" * 32} & store.uploads()


def test_a_check_that_was_interrupted_is_made_again(ada: Member, store: Store) -> None:
    from medperf_server.base import db
    from medperf_server.models import UploadPiece

    data = content()
    path = begun(ada, data)
    uid = path.split("/")[-2]
    patch(ada, path, 0, data[:MIB])
    # As a worker leaves it that is killed after the last byte.
    store.write_piece(uid, "f" * 32, memoryview(data[MIB:]))
    with ada.registry.app.app_context():
        db.session.add(UploadPiece(upload_id=uid, offset_bytes=MIB, name="f" * 32))
        db.session.commit()
    set_row(ada.registry, "Upload", uid, offset_bytes=len(data))
    assert begin(ada, data).json()["offset_bytes"] == len(data)
    assert ada.get(f"/assets/{digest(data)}").status_code == 404
    assert patch(ada, path, len(data), b"").status_code == 204
    assert ada.get(f"/assets/{digest(data)}").content == data


def test_the_audit_log_tells_who_stored_and_who_gave_up(
    registry: Registry, ada: Member, bob: Member
) -> None:
    from medperf_server.base import db
    from medperf_server.models import AuditEntry

    data = content(10)
    path = send(ada, data)
    begin(bob, data)
    for member in (ada, bob):
        member.delete(path)
    with registry.app.app_context():
        rows = db.session.scalars(
            db.select(AuditEntry)
            .where(AuditEntry.entity_id.startswith(digest(data)))
            .order_by(AuditEntry.id)
        )
        told = [(row.user_id, row.action, row.entity_type) for row in rows]
    assert sorted(told[:2]) == [
        (ada.uid, "created", "asset"),
        (ada.uid, "created", "asset_holder"),
    ]
    assert told[2:] == [
        (bob.uid, "created", "asset_holder"),
        (ada.uid, "deleted", "asset_holder"),
        (bob.uid, "deleted", "asset_holder"),
        (bob.uid, "deleted", "asset"),
    ]


def test_openapi_describes_it(registry: Registry) -> None:
    url = f"{registry.url}/api/v0/openapi.json"
    paths = requests.get(url, timeout=60).json()["paths"]
    expected = {
        "/assets/": {"options", "post"},
        "/assets/uploads/{uid}/": {"options", "head", "patch", "delete", "post"},
        "/assets/{sha256}": {"get", "delete"},
        "/me/assets/": {"get"},
    }
    for path, methods in expected.items():
        assert methods <= set(paths[f"/api/v0{path}"]), path
