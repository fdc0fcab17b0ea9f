"""Results are signed at the site, taken by a registry that verifies them, verified by anybody."""

import base64
import json
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
import requests

from medperf_cache import Catalog
from medperf_cache.private import Private
from medperf_client.errors import MedPerfError, Unsignable, UsageError
from medperf_client.evidence.keys import Keys, Pair, public_key
from medperf_client.evidence.statement import (
    PAYLOAD_TYPE,
    STATEMENT_TYPE,
    document_digest,
    opened,
    sealed,
)
from medperf_client.evidence.verify import verified
from tests.support.commands import moved
from tests.support.consortium import Consortium, Member
from tests.support.hospital import (
    REQUEST,
    Hospital,
    approved,
    as_committee,
    direct,
    released_by,
    with_another_model,
)

RESULTS = {"auroc": 0.9375, "loss": 1e-05, "cases": 120, "per": {"é": [1.0, 2]}}
BENCHMARK = {"id": 1, "name": "b", "data_preparation_mlcube": 3, "data_evaluator_mlcube": 4}
PINNED = {"name": "one", "mlcube_hash": "a", "image_hash": "c"}
PREDICATE = {
    "benchmark": {"name": "b"},
    "model": PINNED,
    "preparation": PINNED,
    "evaluator": PINNED,
    "dataset": {"generated_uid": "d"},
    "partial": False,
}
RESULT = {"benchmark": 1, "model": 2, "dataset": 5, "results": RESULTS, "metadata": {}}


def known(kind: str, uid: Any) -> Any:
    """What is known of the entities of RESULT."""
    return {"benchmark": BENCHMARK, "dataset": {"generated_uid": "d"}, "mlcube": PINNED}[kind]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A site's key."""
    return Keys(tmp_path / "keys").create()


def test_what_was_not_released_cannot_be_verified_and_offline_is_said_once(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    result = released_by(hospital)
    member, uid = hospital.member, str(result["dataset"])
    assert member.run("result", "verify", f"b1m2d{uid}").returncode == 0
    offline = member.run("result", "verify", str(result["id"]), "--offline")
    assert offline.returncode == 0 and offline.stderr.count("offline: showing the copy") == 1
    # Another one of the same model, which nobody has released.
    model = with_another_model(own_consortium)
    member.does("benchmark", "run", "-b", "1", "-d", uid)
    kept = member.run("result", "verify", f"b1m{model}d{uid}")
    assert kept.returncode == 2 and "was not released" in kept.stderr
    assert f"medperf result submit -r b1m{model}d{uid}" in kept.stderr
    own_consortium.registry.stop()
    member.does("result", "submit", "-r", f"b1m{model}d{uid}", "-y")
    queued = member.run("result", "verify", f"b1m{model}d{uid}")
    assert queued.returncode == 2 and "waits in the queue as q" in queued.stderr
    gone = member.run("key", "revoke", "99", "-y")
    assert "no signing key with UID 99" in gone.stderr and "See: medperf key ls" in gone.stderr
    none = member.run("result", "export", "-b", "99", "-o", str(member.home / "x.zip"))
    assert "there is no benchmark 99 here that you may see" in none.stderr


def test_a_key_is_kept_for_its_owner_alone_and_found_by_how_it_begins(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    made = keys.create()
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    assert keys.ids() == [made.keyid] and keys.get(made.keyid[:8]).public_key == made.public_key
    assert public_key(made.public_key, "it").keyid == made.keyid
    with pytest.raises(UsageError, match="no key here"):
        keys.get("zz")
    made.file.write_text("no key")
    with pytest.raises(MedPerfError, match="cannot be read"):
        keys.get(made.keyid)


def test_a_document_has_one_digest_however_it_is_written() -> None:
    turned = json.loads(json.dumps(dict(reversed(RESULTS.items()))))
    assert document_digest(turned) == document_digest(RESULTS)
    # Of RFC 8785, section 3.2.2.3: a number is a number.
    assert document_digest({"a": 1.0}) == document_digest({"a": 1})


@pytest.mark.parametrize(
    ("document", "told", "redact"),
    [
        ({"a": 2**53 - 1, "per": [{"n": 2**53}]}, "per[0].n is 9007199254740992", "'per[0].n'"),
        ({"a": -(2**60), "b c": 2**60}, "a is -1152921504606846976, b c is", "a --redact 'b c'"),
        ({"a": float("inf")}, "a is inf", "a"),
        ({"a": "\ud800"}, "a is '\\ud800'", "a"),
    ],
)
def test_what_has_no_canonical_form_is_named_with_the_ways_out(
    document: Any, told: str, redact: str
) -> None:
    with pytest.raises(Unsignable) as refused:
        document_digest(document, "b1m2d5")
    assert f"the results of b1m2d5 cannot be signed: {told}" in str(refused.value)
    assert f"medperf result review b1m2d5 --redact {redact}. Or" in refused.value.hint
    assert "machine without a key" in refused.value.hint


def test_what_was_signed_holds(pair: Pair) -> None:
    envelope = sealed(RESULTS, "b1m2d5", PREDICATE, pair)
    assert envelope["payloadType"] == PAYLOAD_TYPE
    assert opened(envelope, pair.public_key)["_type"] == STATEMENT_TYPE
    checks = verified(RESULT, envelope, pair.public_key, known)
    assert {one.what: one.holds for one in checks} == {
        **dict.fromkeys(("signature", "results", "partial", "benchmark", "dataset"), True),
        **dict.fromkeys(("model", "preparation", "evaluator"), True),
    }
    away = verified(RESULT, envelope, pair.public_key, lambda *_: None)
    assert [one.what for one in away if one.holds is None][:2] == ["benchmark", "dataset"]


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("results", {"results": {**RESULTS, "auroc": 0.95}}),
        ("results", {"results": {}}),
        ("results", {"results": {**RESULTS, "cases": 2**60}}),
        ("partial", {"metadata": {"partial": True}}),
    ],
)
def test_what_was_changed_since_is_named(pair: Pair, what: str, change: dict[str, Any]) -> None:
    envelope = sealed(RESULTS, "b1m2d5", PREDICATE, pair)
    checks = verified({**RESULT, **change}, envelope, pair.public_key, known)
    assert [one.what for one in checks if one.holds is False] == [what]


@pytest.mark.parametrize("what", ["model", "preparation", "evaluator", "benchmark", "dataset"])
def test_a_statement_about_something_else_is_named(pair: Pair, what: str) -> None:
    other = {"name": "other", "mlcube_hash": "x", "generated_uid": "y"}
    envelope = sealed(RESULTS, "b1m2d5", {**PREDICATE, what: other}, pair)
    checks = verified(RESULT, envelope, pair.public_key, known)
    assert [one.what for one in checks if one.holds is False] == [what]


def forged(envelope: dict[str, Any], how: str, other: Pair) -> Any:
    """An envelope that its site never made."""
    payload = base64.b64decode(envelope["payload"])
    signature = envelope["signatures"][0]
    if how == "payload":
        return {
            **envelope,
            "payload": base64.b64encode(payload.replace(b'"sha256": "', b'"sha256": "0')).decode(),
        }
    if how == "truncated":
        return {**envelope, "payload": base64.b64encode(payload[:-9]).decode()}
    if how == "other key":
        theirs = sealed(RESULTS, "b1m2d5", PREDICATE, other)["signatures"][0]
        return {**envelope, "signatures": [{**theirs, "keyid": signature["keyid"]}]}
    if how == "unsigned":
        return {**envelope, "signatures": []}
    if how == "signature cut":
        return {**envelope, "signatures": [{**signature, "sig": signature["sig"][:20]}]}
    if how == "type":
        return {**envelope, "payloadType": "text/plain"}
    return how


FORGED = (
    *("payload", "truncated", "other key", "unsigned", "signature cut", "type", "text"),
    *({}, None),
)


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_envelope_is_refused(pair: Pair, tmp_path: Path, how: Any) -> None:
    envelope = sealed({"auroc": 0.9375}, "b1m2d5", {**PREDICATE, "note": "0.9375"}, pair)
    forgery = forged(envelope, how, Keys(tmp_path / "other").create())
    (check,) = verified(RESULT, forgery, pair.public_key, known)
    assert (check.what, check.holds) == ("signature", False)


@pytest.fixture
def released(hospital: Hospital) -> dict[str, Any]:
    """A signed result in the registry."""
    return released_by(hospital)


def test_a_result_is_signed_taken_and_verified_by_the_committee(
    own_consortium: Consortium, hospital: Hospital, released: dict[str, Any], tmp_path: Path
) -> None:
    (key,) = hospital.member.json("key", "ls", "--mine")
    assert key["here"] and released["signed_by"] == key["keyid"]
    committee = as_committee(own_consortium)
    committee.does("result", "ls", "-b", "1")
    uid = str(released["id"])
    shown = committee.json("result", "verify", uid)
    assert shown["verified"] and shown["keyid"] == key["keyid"]
    assert {one["holds"] for one in shown["checks"]} == {True}
    # Nobody's word for whose key it is, and no network.
    given = tmp_path / "north.pub.pem"
    hospital.member.does("key", "export", "-o", str(given))
    assert committee.json("result", "verify", uid, "--key", str(given), "--offline")["verified"]
    mine = hospital.member.json("result", "verify", "b1m2d1")
    assert mine["verified"] and mine["result"] == released["id"]
    other = tmp_path / "other.pem"
    other.write_text(Keys(tmp_path / "keys").create().public_key)
    assert committee.run("result", "verify", uid, "--key", str(other)).returncode == 1


def test_it_is_verified_from_a_bundle_where_no_network_is(
    own_consortium: Consortium, hospital: Hospital, released: dict[str, Any], tmp_path: Path
) -> None:
    bundle, given = str(tmp_path / "all.bundle"), str(tmp_path / "north.pub.pem")
    committee, reader = as_committee(own_consortium), own_consortium.member("reader")
    committee.does("result", "ls", "-b", "1")
    committee.does("bundle", "export", bundle)
    hospital.member.does("key", "export", "-o", given)
    own_consortium.stop()
    reader.environment["MEDPERF_OFFLINE"] = "1"
    reader.does("bundle", "import", bundle)
    shown = reader.json("result", "verify", str(released["id"]), "--key", given)
    assert shown["verified"] and {one["holds"] for one in shown["checks"]} == {True}
    own_consortium.start()


def test_a_result_that_was_changed_in_the_registry_is_found_out(
    own_consortium: Consortium, released: dict[str, Any]
) -> None:
    changed = {**released["results"], "auroc": 0.999}
    own_consortium.stop()
    with sqlite3.connect(own_consortium.registry.folder / "registry.db") as database:
        database.execute("UPDATE results SET results = ?", (json.dumps(changed),))
    own_consortium.start()
    committee = own_consortium.member("committee", home="another")
    committee.does("sync")
    done = committee.run("result", "verify", str(released["id"]))
    assert done.returncode == 1 and "changed since they were signed" in done.stdout


def test_a_revoked_key_signs_nothing_new_and_what_it_signed_says_so(
    own_consortium: Consortium, hospital: Hospital, released: dict[str, Any]
) -> None:
    member = hospital.member
    (key,) = member.json("key", "ls", "--mine")
    assert member.run("key", "create").returncode == 2
    member.does("key", "revoke", str(key["id"]), "-y")
    committee = as_committee(own_consortium)
    shown = committee.json("result", "verify", str(released["id"]))
    assert shown["verified"] and shown["revoked_at"]
    assert committee.json("benchmark", "results", "1")[0]["note"] == "key revoked"
    member.does("benchmark", "run", "-b", "1", "-d", str(released["dataset"]), "--no-cache")
    uid = str(released["dataset"])
    done = member.run("result", "submit", "--all", "-b", "1", "-d", uid, "-y")
    assert done.returncode == 0 and "not signed" in done.stderr
    assert committee.run("key", "revoke", str(key["id"]), "-y").returncode == 2


def test_the_registry_takes_no_forged_statement(
    hospital: Hospital, released: dict[str, Any], tmp_path: Path
) -> None:
    envelope = released["metadata"]["statement"]
    for how in FORGED[:-1]:
        forgery = forged(envelope, how, Keys(tmp_path / "keys").create())
        assert "statement" in refused(hospital, {**released, "metadata": {"statement": forgery}})


def test_the_registry_takes_no_statement_about_something_else(
    own_consortium: Consortium, hospital: Hospital, released: dict[str, Any], tmp_path: Path
) -> None:
    # Again, though all of it holds.
    assert "here already" in refused(hospital, released)["statement"][0]
    changed = {**released, "results": {"auroc": 0.999}}
    assert "contradicts the results" in refused(hospital, changed)["statement"][0]
    whole = {**released, "metadata": {**released["metadata"], "partial": True}}
    assert "partial" in refused(hospital, whole)["statement"][0]
    pair = Keys(hospital.member.home / "elsewhere").create()
    unknown = sealed(released["results"], "b1m2d1", PREDICATE, pair)
    told = refused(hospital, {**released, "metadata": {"statement": unknown}})
    assert "no key of yours" in told["statement"][0]
    keys = next(hospital.member.home.glob("registries/*/keys"))
    own = Keys(keys).get(released["signed_by"])
    for what in ("model", "preparation", "evaluator", "benchmark", "dataset"):
        said = json.loads(base64.b64decode(released["metadata"]["statement"]["payload"]))
        predicate = {**said["predicate"], what: {"name": "other", "generated_uid": "x"}}
        statement = sealed(released["results"], "b1m2d1", predicate, own)
        told = refused(hospital, {**released, "metadata": {"statement": statement}})
        assert f"contradicts the {what}" in told["statement"][0]


def test_offline_a_key_signs_what_it_is_registered_for_at_the_next_sync(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    member = hospital.member
    own_consortium.stop()
    assert member.json("key", "create")["queued"] == "queued"
    uid = hospital.operational()
    member.does("dataset", "associate", "-d", uid, "-b", "1", "-y")
    member.does("benchmark", "run", "-b", "1", "-d", uid)
    member.does("result", "submit", "--all", "-b", "1", "-d", uid, "-y")
    own_consortium.start()
    member.does("sync")
    as_committee(own_consortium).does(*REQUEST, "1", "-y")
    member.does("sync")
    (result,) = direct(own_consortium, "administrator", admin=True).pages("/results/")
    assert result["signed_by"] == member.json("key", "ls", "--mine")[0]["keyid"]
    assert member.json("result", "verify", "b1m2d1")["verified"]


def said_of(released: dict[str, Any]) -> dict[str, Any]:
    """The predicate that a site signed of a result."""
    payload = json.loads(base64.b64decode(released["metadata"]["statement"]["payload"]))
    return dict(payload["predicate"])


def test_each_step_says_what_ran_it_and_not_what_answers_at_the_release(
    released: dict[str, Any],
) -> None:
    # Whatever engine there is here, it ran none of these.
    said = said_of(released)
    assert said["steps"] and {one["engine"] for one in said["steps"]} == {"process"}
    assert "engine" not in said


def test_a_remembered_step_says_what_ran_it_then_or_nothing_if_that_was_not_noted(
    hospital: Hospital,
) -> None:
    member, uid = hospital.member, approved(hospital)

    def steps() -> list[dict[str, Any]]:
        """Those of the one result."""
        return list(member.json("result", "view", "b1m2d1")["steps"])

    def steps_again() -> list[dict[str, Any]]:
        """Those of the result, made anew of what is remembered."""
        for file in member.home.glob("registries/*/results/*.json"):
            file.unlink()
        member.does("benchmark", "run", "-b", "1", "-d", uid)
        return steps()

    assert {(one["source"], one["engine"]) for one in steps()} == {("ran", "process")}
    assert {(one["source"], one["engine"]) for one in steps_again()} == {("cache", "process")}
    (folder,) = member.home.rglob(".private")
    memo = Private(folder).memo
    for key, record in memo.items():
        memo.put(key, {name: record[name] for name in record if name != "engine"})
    assert not any("engine" in one for one in steps_again())


def test_the_registry_takes_a_statement_of_before_steps_said_what_ran_them(
    hospital: Hospital, released: dict[str, Any]
) -> None:
    said = said_of(released)
    steps = [{name: one[name] for name in one if name != "engine"} for one in said["steps"]]
    keys = next(hospital.member.home.glob("registries/*/keys"))
    own = Keys(keys).get(released["signed_by"])
    before = {**said, "steps": steps, "engine": "docker"}
    statement = sealed(released["results"], "b1m2d1", before, own)
    body = {**released, "metadata": {**released["metadata"], "statement": statement}}
    answer = sent_by(hospital, body)
    assert answer.status_code == 201, answer.text
    hospital.member.does("sync")
    assert hospital.member.json("result", "verify", str(answer.json()["id"]))["verified"]


@pytest.mark.parametrize("content", [b"PK\x03\x04\xff\xfe", b"no key"])
def test_what_is_no_public_key_is_named(waiting: Member, tmp_path: Path, content: bytes) -> None:
    given = tmp_path / "some.key"
    given.write_bytes(content)
    done = waiting.run("result", "verify", "7", "--key", str(given), "--offline")
    assert done.returncode == 2 and f"{given} is no public key" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_could_not_be_checked_is_not_verified(waiting: Member, tmp_path: Path) -> None:
    member = moved(waiting, tmp_path / "home")
    verify = ("result", "verify", "7", "--key", str(member.home / "public.pem"), "--offline")
    assert member.json(*verify)["verified"]
    (folder,) = member.home.glob("registries/*")
    Catalog(folder / "catalog").remove("dataset", 1)
    done = member.run(*verify)
    assert done.returncode == 1
    assert "Result 7 is not verified: not all could be checked (dataset)" in done.stdout
    assert "medperf sync" in done.stdout
    done = member.run(*verify, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["verified"] is False


@pytest.fixture
def unsignable(own_consortium: Consortium, hospital: Hospital) -> Member:
    """A hospital whose result has a whole number beyond 2^53."""
    member, uid = hospital.member, approved(hospital)
    member.does("benchmark", "run", "-b", "1", "-d", uid)
    (file,) = member.home.glob("registries/*/results/*.json")
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "results": {**stored["results"], "voxels": 2**53 + 1}}))
    return member


RELEASE = ("result", "submit", "--all", "-b", "1", "-d", "1", "-y")


def test_a_number_that_cannot_be_signed_is_left_out_and_all_else_is_signed(
    own_consortium: Consortium, unsignable: Member
) -> None:
    unsignable.json("key", "create")
    registry = direct(own_consortium, "administrator", admin=True)
    done = unsignable.run(*RELEASE)
    assert done.returncode == 2 and "voxels is 9007199254740993" in done.stderr
    assert "medperf result review b1m2d1 --redact voxels" in done.stderr
    assert [*registry.pages("/results/")] == [] and unsignable.json("queue", "ls") == []
    unsignable.does("result", "review", "b1m2d1", "--redact", "voxels")
    unsignable.does(*RELEASE)
    (result,) = registry.pages("/results/")
    assert result["signed_by"] and result["results"]["voxels"] == "redacted"
    assert unsignable.json("result", "verify", "b1m2d1")["verified"]


def test_without_a_key_any_number_is_released_and_nothing_is_signed(
    own_consortium: Consortium, unsignable: Member
) -> None:
    unsignable.does(*RELEASE)
    (result,) = direct(own_consortium, "administrator", admin=True).pages("/results/")
    assert (result["signed_by"], result["results"]["voxels"]) == ("", 2**53 + 1)


def test_what_a_site_signed_does_not_change_in_the_registry(
    own_consortium: Consortium, released: dict[str, Any]
) -> None:
    admin = direct(own_consortium, "administrator", admin=True)
    with pytest.raises(MedPerfError, match="does not change"):
        admin.put(f"/results/{released['id']}/", {"metadata": {}}, "a" * 36)


def refused(hospital: Hospital, body: dict[str, Any]) -> dict[str, Any]:
    """Why the registry does not take a result from a hospital."""
    answer = sent_by(hospital, body)
    assert answer.status_code == 400, answer.text
    return dict(answer.json())


def sent_by(hospital: Hospital, body: dict[str, Any]) -> requests.Response:
    """What the registry answers to a result of a hospital."""
    fields = ("name", "benchmark", "model", "dataset", "results", "metadata")
    url = f"{hospital.consortium.registry.url}/api/v0/results/"
    token = hospital.member.environment["MEDPERF_TOKEN"]
    sent = {name: body[name] for name in fields}
    return requests.post(url, json=sent, headers={"Authorization": f"Bearer {token}"}, timeout=10)
