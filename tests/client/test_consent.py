"""Where a release takes two persons, another member of the site agrees to exactly what is sent."""

import base64
import json
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import requests

from medperf_client.cli.consenting import may_be_told
from medperf_client.consent.requests import Request, Requests
from medperf_client.consent.standing import standing_of
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.evidence.keys import Keys, Pair
from medperf_client.evidence.statement import sealed
from medperf_client.evidence.verdict import APPROVED, RETURNED, sealed_verdict
from tests.support.colleagues import Site
from tests.support.consortium import Consortium, Member
from tests.support.disks import viewed
from tests.support.hospital import REQUEST, Hospital, approved, as_committee, direct

SUBMIT = ("result", "submit", "-r", "b1m2d1", "-y")
ASKED = Request(
    subject="result-1",
    called="result b1m2d1",
    of={"benchmark": {"uid": 1, "name": "b"}, "partial": False},
    document={"auroc": 0.9, "label_counts": {"rare": 4}},
    redacted=[],
    accepted=[{"key": "label_counts.rare", "rule": "threshold", "because": "public", "at": "now"}],
    by="first@example.org",
    member=5,
)


# What a member keeps, what others find, and what of that counts.


@pytest.fixture
def place(tmp_path: Path) -> Requests:
    """Where a member asks."""
    return Requests(tmp_path / "own", tmp_path / "shared")


@pytest.fixture
def second(tmp_path: Path) -> Pair:
    """The key of another member."""
    return Keys(tmp_path / "keys").create()


def says(
    asked: Request, pair: Pair, verdict: str = APPROVED, accepted: Any = None, **other: Any
) -> Any:
    """A verdict on a request, or on what is `other` in one."""
    shown = replace(asked, **other)
    said = {"verdict": verdict, "because": "look again", "by": "second@example.org"}
    theirs = asked.accepted if accepted is None else accepted
    return sealed_verdict(shown.document, shown.uid, shown.of, theirs, said, pair)


def stands(
    place: Requests, asked: Request, pair: Pair, reviewers: Any = None, **key: Any
) -> tuple[str, str]:
    """How a request stands where one key is registered, and why."""
    known = {"keyid": pair.keyid, "public_key": pair.public_key, "owner": 7, **key}
    keys = {known["keyid"]: known}
    standing = standing_of(asked, place.said(asked.uid), keys.get, reviewers)
    assert standing.is_approved == (standing.verdict is not None)
    return standing.state, "; ".join(standing.why)


def test_what_is_asked_twice_is_one_request_and_what_changed_is_another(place: Requests) -> None:
    first = place.ask(ASKED)
    # A UID that the registry gave meanwhile changes nothing, and a reason is not what is sent.
    named = replace(ASKED, of={"benchmark": {"name": "b"}, "partial": False})
    reworded = [{**ASKED.accepted[0], "because": "of the board"}]
    assert place.ask(named).uid == first.uid
    assert place.ask(replace(ASKED, accepted=reworded)).uid == first.uid
    second = place.ask(replace(ASKED, document={"auroc": 0.8}))
    assert second.uid != first.uid
    assert place.copy(first.uid).state == "withdrawn"
    assert [one.uid for one in place.mine()] == [second.uid]
    third = place.ask(replace(ASKED, document={"auroc": 0.8}, accepted=[]))
    assert third.uid != second.uid
    place.end(third, "withdrawn")
    assert place.ask(replace(ASKED, document={"auroc": 0.8}, accepted=[])).uid != third.uid


def test_others_do_not_learn_what_was_accepted_before_it_is_sent(
    place: Requests, tmp_path: Path
) -> None:
    asked = place.ask(ASKED)
    texts = [path.read_text() for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    assert texts and not any("public" in text or "threshold" in text for text in texts)
    place.end(asked, "sent")
    assert place.copy(asked.uid).accepted == ASKED.accepted


def test_the_members_of_a_group_write_beside_each_other(
    place: Requests, second: Pair, tmp_path: Path
) -> None:
    asked = place.ask(ASKED)
    place.say(asked.uid, second.keyid, says(asked, second))
    for path in [tmp_path / "shared", *(tmp_path / "shared").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o2770 if path.is_dir() else 0o660), path
    assert len(list((tmp_path / "shared" / asked.uid).iterdir())) == 2


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, second: Pair) -> None:
    (tmp_path / "stick").write_text("no folder")
    place = Requests(tmp_path / "own", tmp_path / "stick" / "shared")
    with pytest.raises(MedPerfError, match="stick/shared/r.* cannot be made") as refused:
        place.ask(ASKED)
    assert "releases_folder" in refused.value.hint
    # What was asked for is not lost with that.
    (tmp_path / "stick").unlink()
    (kept,) = place.mine()
    assert place.ask(ASKED).uid == kept.uid == place.shared()[0].uid
    shutil.rmtree(tmp_path / "stick")
    with pytest.raises(MedPerfError, match="cannot be written"):
        place.say(kept.uid, second.keyid, says(kept, second))


def test_a_request_whose_copy_was_lost_is_shared_again(place: Requests, tmp_path: Path) -> None:
    asked = place.ask(ASKED)
    shutil.rmtree(tmp_path / "shared")
    assert place.shared() == []
    assert place.ask(ASKED).uid == asked.uid == place.shared()[0].uid


def test_another_member_who_agrees_counts_and_one_who_returns_it_outweighs_all(
    place: Requests, second: Pair, tmp_path: Path
) -> None:
    asked = place.ask(ASKED)
    assert stands(place, asked, second) == ("pending", "")
    place.say(asked.uid, second.keyid, says(asked, second))
    assert stands(place, asked, second) == ("approved", "")
    assert stands(place, asked, second, reviewers=(7, 9)) == ("approved", "")
    third = Keys(tmp_path / "third").create()
    place.say(asked.uid, third.keyid, says(asked, third, RETURNED))
    keys = {
        pair.keyid: {"public_key": pair.public_key, "owner": owner}
        for pair, owner in ((second, 7), (third, 8))
    }
    standing = standing_of(asked, place.said(asked.uid), keys.get, None)
    assert standing.state == "returned" and standing.verdict is None
    assert standing.why == ["second@example.org: look again"]
    # Whoever returned it may agree after all.
    place.say(asked.uid, third.keyid, says(asked, third))
    assert standing_of(asked, place.said(asked.uid), keys.get, None).is_approved


def test_findings_that_only_one_of_them_accepts_are_told_once_both_decided(
    place: Requests, second: Pair
) -> None:
    asked = place.ask(ASKED)
    place.say(asked.uid, second.keyid, says(asked, second, accepted=[]))
    state, why = stands(place, asked, second)
    assert state == "returned" and "it accepts other findings: none" in why
    theirs = [{"key": "auroc", "rule": "extremes", "because": "known"}]
    place.say(asked.uid, second.keyid, says(asked, second, accepted=theirs))
    assert "auroc (extremes)" in stands(place, asked, second)[1]


def cut(envelope: Any, **changes: Any) -> Any:
    """An envelope with other parts."""
    return {**envelope, **changes}


BAD: dict[str, tuple[Callable[[Request, Pair], Any], Mapping[str, Any], str]] = {
    "of the one who asked": (says, {"owner": 5}, "by the member who asked: another one has"),
    "revoked": (says, {"revoked_at": "2026-11-20T10:00:00"}, "was revoked on 2026-11-20"),
    "unknown": (says, {"keyid": "other"}, "a key that nobody registered"),
    "of other figures": (
        lambda asked, pair: says(asked, pair, document={"auroc": 0.8}),
        {},
        "it is on other figures",
    ),
    "of something else": (
        lambda asked, pair: says(asked, pair, of={**asked.of, "partial": True}),
        {},
        "it is on what came of something else",
    ),
    "of another request": (
        lambda asked, pair: says(asked, pair, uid="r000000000000"),
        {},
        "it is on another request, r000000000000",
    ),
    "with other words": (
        lambda asked, pair: cut(
            says(asked, pair),
            payload=base64.b64encode(
                base64.b64decode(says(asked, pair)["payload"]).replace(b"auroc", b"aurox") + b" "
            ).decode(),
        ),
        {},
        "the signature is not that of",
    ),
    "truncated": (
        lambda asked, pair: cut(says(asked, pair), payload=says(asked, pair)["payload"][:-8]),
        {},
        "the signature is not that of",
    ),
    "unsigned": (
        lambda asked, pair: cut(says(asked, pair), signatures=[]),
        {},
        "no envelope of one signature",
    ),
    "signed twice": (
        lambda asked, pair: cut(says(asked, pair), signatures=says(asked, pair)["signatures"] * 2),
        {},
        "no envelope of one signature",
    ),
    "of a result": (
        lambda asked, pair: sealed(asked.document, asked.uid, {"verdict": APPROVED}, pair),
        {},
        "it is a 'urn:medperf-offline:result:v1'",
    ),
    "without a verdict": (
        lambda asked, pair: says(asked, pair, "perhaps"),
        {},
        "neither approved nor returned",
    ),
    "no envelope": (lambda asked, pair: ["x"], {}, "no envelope of one signature"),
    "nothing": (lambda asked, pair: None, {}, "no JSON"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_verdict_that_does_not_count_is_named(place: Requests, second: Pair, how: str) -> None:
    make, key, said = BAD[how]
    asked = place.ask(ASKED)
    place.say(asked.uid, second.keyid, make(asked, second))
    state, why = stands(place, asked, second, **key)
    assert state == "pending" and said in why
    assert f"{second.keyid}.json does not count" in why


def test_whom_the_policy_does_not_name_does_not_count(place: Requests, second: Pair) -> None:
    asked = place.ask(ASKED)
    place.say(asked.uid, second.keyid, says(asked, second))
    state, why = stands(place, asked, second, reviewers=(8,))
    assert state == "pending" and "member 7 is none of the policy's release.reviewers" in why


def test_what_is_broken_in_a_folder_of_many_keeps_nobody_from_the_rest(
    place: Requests, second: Pair, tmp_path: Path
) -> None:
    asked = place.ask(ASKED)
    broken = tmp_path / "shared" / "r0123456789ab"
    broken.mkdir()
    (broken / "request.json").write_text('{"format": 1, "document": [')
    told: list[str] = []
    assert [one.uid for one in place.shared(told.append)] == [asked.uid]
    assert len(told) == 1 and "r0123456789ab/request.json cannot be read" in told[0]
    whole = (tmp_path / "own" / "result-1.json").read_text()
    for name, wrong in (("at", 3), ("called", None), ("document", []), ("redacted", "all")):
        (broken / "request.json").write_text(json.dumps({**json.loads(whole), name: wrong}))
        with pytest.raises(MedPerfError, match=f"cannot be read: its {name} is "):
            place.copy("r0123456789ab")
    (broken / "request.json").write_text(whole)
    with pytest.raises(MedPerfError, match="not the one of its folder"):
        place.copy("r0123456789ab")
    for uid in ("r1", "../own", "r0123456789AB"):
        with pytest.raises(UsageError, match="nobody asks"):
            place.copy(uid)
    (tmp_path / "shared" / asked.uid / "junk.json").write_bytes(b"\xff\x00")
    place.say(asked.uid, second.keyid, says(asked, second))
    state, why = stands(place, asked, second)
    assert state == "approved" and "junk.json does not count: it is no JSON" in why


# The whole road.


@pytest.fixture
def site(hospital: Hospital, tmp_path: Path) -> Site:
    """Two members of a hospital that has a result to release."""
    approved(hospital)
    site = Site(hospital, tmp_path / "shared")
    site.two_persons()
    return site


def arrived(site: Site) -> list[dict[str, Any]]:
    """The results that the registry has."""
    return list(direct(site.hospital.consortium, "committee").pages("/benchmarks/1/results/"))


def write_results(site: Site, **figures: Any) -> None:
    """Have the site's result say something else, as if its metrics had."""
    (file,) = site.first.home.glob("registries/*/results/*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "results": figures}))


def test_nothing_leaves_before_another_member_agreed_and_both_names_go_along(site: Site) -> None:
    request = site.asks()
    assert site.asks() == request and arrived(site) == []
    waits = site.first.run(*SUBMIT, "--require-online")
    assert waits.returncode == 1 and f"medperf result review {request}" in waits.stdout
    assert waits.stdout.startswith("nothing was sent: result b1m2d1 waits for another member")
    site.first.does("sync")
    assert arrived(site) == [] and site.first.json("queue", "ls") == []
    assert (site.state(request), site.state(request, site.second)) == ("pending", "pending")
    shown = site.second.does("result", "review", request)
    assert "auroc" in shown and "breast-cancer" in shown
    site.agrees(request)
    assert site.state(request) == "approved"
    assert site.first.json("result", "ls")[0]["waits"] == f"approved, {request}"
    assert site.state(request, site.second) == "approved by you"
    site.first.does(*SUBMIT)
    assert "waits" not in site.first.json("result", "ls")[0]
    (result,) = arrived(site)
    statement = json.loads(base64.b64decode(result["metadata"]["statement"]["payload"]))
    release = statement["predicate"]["release"]
    verdict = json.loads(base64.b64decode(release["verdicts"][0]["payload"]))["predicate"]
    assert (release["by"], verdict["by"]) == ("hospital@example.org", "colleague@example.org")
    assert (site.state(request), site.state(request, site.second)) == ("sent", "sent")
    # The ledger's line, the registry's page, and whoever verifies name both.
    lines = [one for one in site.first.json("ledger", "ls") if one["path"] == "/results/"]
    assert [one["agreed"] for one in lines] == ["colleague@example.org"]
    line = site.first.json("ledger", "view", str(lines[0]["line"]))["sent"]
    assert line["agreed"][0]["request"] == request
    page = page_of(site.hospital.consortium, f"/results/{result['id']}")
    facts = page.partition("<dt>Agreed</dt>")[2].partition("</dd>")[0]
    assert "colleague@example.org" in facts and line["agreed"][0]["keyid"] in facts
    verified = site.first.json("result", "verify", str(result["id"]))
    (agreed,) = (one for one in verified["checks"] if one["what"] == "agreed")
    assert verified["verified"] and agreed["holds"]
    assert agreed["why"].startswith("colleague@example.org agreed to the same")


def page_of(consortium: Consortium, path: str) -> str:
    """A page of the registry, as its administrator sees it."""
    token = consortium.registry.token_for("administrator@example.org", admin=True)
    with requests.Session() as session:
        session.post(f"{consortium.registry.url}/sign-in", data={"token": token}, timeout=10)
        answer = session.get(f"{consortium.registry.url}{path}", timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_each_decides_on_the_findings_before_seeing_what_the_other_accepted(site: Site) -> None:
    write_results(site, auroc=0.9, label_counts={"rare": 4, "common": 60, "other": 70})
    held = site.first.run(*SUBMIT)
    assert held.returncode == 1 and site.second.json("result", "review") == []
    accept = ("--accept", "label_counts.rare", "--because")
    site.first.does("result", "review", "b1m2d1", *accept, "the first one's reason")
    request = site.asks()
    for path in site.folder.rglob("*.json"):
        assert "first one's" not in path.read_text()
    assert "first one's" not in site.second.does("result", "review", request)
    undecided = site.second.run("result", "review", request, "--approve", "-y")
    assert undecided.returncode == 1 and "did not decide on: label_counts.rare" in undecided.stderr
    site.second.does("result", "review", request, *accept, "the second one's reason")
    site.agrees(request)
    # Of what the second one says the first one learns nothing but that they agree.
    assert "second one's" not in site.first.does("result", "review", request)
    site.first.does(*SUBMIT)
    (result,) = arrived(site)
    assert result["metadata"]["disclosure"]["accepted"][0]["because"] == "the first one's reason"
    payload = json.loads(base64.b64decode(result["metadata"]["statement"]["payload"]))
    verdict = json.loads(
        base64.b64decode(payload["predicate"]["release"]["verdicts"][0]["payload"])
    )
    assert verdict["predicate"]["accepted"][0]["because"] == "the second one's reason"


def test_what_was_returned_is_changed_and_asked_for_anew(site: Site) -> None:
    write_results(site, auroc=0.9, threshold=0.5)
    request = site.asks()
    unseen = site.second.run("result", "review", request, "--return", "Leave it out", "-y")
    assert unseen.returncode == 2 and "Look at it first" in unseen.stderr
    site.second.does("result", "review", request)
    site.second.does("result", "review", request, "--return", "Leave the threshold out", "-y")
    assert site.state(request, site.second) == "returned by you"
    returned = site.first.run(*SUBMIT)
    assert returned.returncode == 1
    assert "colleague@example.org: Leave the threshold out" in returned.stdout
    site.first.does("result", "review", "b1m2d1", "--redact", "threshold")
    again = site.asks()
    assert again != request and site.state(request, site.second) == "withdrawn"
    late = site.second.run("result", "review", request, "--approve", "-y")
    assert late.returncode == 2 and "was withdrawn" in late.stderr
    site.agrees(again)
    # The verdict was on these figures, and is void once there are others.
    write_results(site, auroc=0.95, threshold=0.5)
    site.first.does("result", "review", "b1m2d1", "--redact", "threshold")
    third = site.asks()
    assert third not in (request, again) and arrived(site) == []
    site.agrees(third)
    site.first.does(*SUBMIT)
    assert [one["results"] for one in arrived(site)] == [{"auroc": 0.95, "threshold": "redacted"}]


def test_a_request_is_withdrawn_by_who_asked_and_nobody_else(site: Site) -> None:
    request = site.asks()
    theirs = site.second.run("result", "review", request, "--withdraw")
    assert theirs.returncode == 2 and "not yours to withdraw" in theirs.stderr
    site.agrees(request)
    site.first.does("result", "review", request, "--withdraw")
    assert site.state(request) == site.state(request, site.second) == "withdrawn"
    # What was agreed to before counts for nothing.
    assert site.asks() != request and arrived(site) == []


def test_nobody_agrees_to_what_they_ask_for_themselves(site: Site) -> None:
    request = site.asks()
    refused = site.first.run("result", "review", request, "--approve", "-y")
    assert refused.returncode == 2 and "has to agree" in refused.stderr
    # Nor from another machine, with another key.
    elsewhere = site.joined("hospital-elsewhere", with_key=False)
    elsewhere.environment["MEDPERF_TOKEN"] = site.first.environment["MEDPERF_TOKEN"]
    elsewhere.json("key", "create", "--another")
    refused = elsewhere.run("result", "review", request, "--approve", "-y")
    assert refused.returncode == 2 and "was asked for by you" in refused.stderr
    pair = key_of(elsewhere)
    site.first.does("sync")
    forge(site, request, pair)
    told = site.held(*SUBMIT)
    assert told["state"] == "pending" and "by the member who asked" in told["reason"]
    assert arrived(site) == []


def key_of(member: Member, keyid: str = "") -> Pair:
    """A key at a member's machine, the newest if none is named."""
    keys = Keys(next(member.home.glob("registries/*/keys")))
    return keys.get(keyid or keys.ids()[-1])


def forge(site: Site, request: str, pair: Pair, **other: Any) -> None:
    """Put a verdict into the shared folder without the command that would ask."""
    (folder,) = site.folder.glob(f"*/{request}")
    asked = json.loads((folder / "request.json").read_text())
    said = {"verdict": APPROVED, "because": "", "by": "colleague@example.org"}
    shown = {**asked, **other}
    verdict = sealed_verdict(shown["document"], request, shown["of"], [], said, pair)
    (folder / f"{pair.keyid}.json").write_text(json.dumps(verdict))


def test_a_copy_that_was_changed_gets_a_verdict_on_something_else(site: Site) -> None:
    request = site.asks()
    site.second.does("result", "review", request)
    (copy,) = site.folder.glob(f"*/{request}/request.json")
    shown = json.loads(copy.read_text())
    copy.write_text(json.dumps({**shown, "document": {"auroc": 0.999}}))
    # It is not what the second one was shown.
    unseen = site.second.run("result", "review", request, "--approve", "-y")
    assert unseen.returncode == 2 and "is not what you were shown" in unseen.stderr
    site.agrees(request)
    told = site.held(*SUBMIT)
    assert told["state"] == "pending" and "it is on other figures" in told["reason"]
    assert arrived(site) == []


def test_in_a_home_that_can_only_be_read_a_request_is_looked_at_and_no_more(site: Site) -> None:
    site.two_persons()
    request = site.asks()
    with viewed(site.second.home, site.second.home):
        assert "auroc" in site.second.does("result", "review", request)
        assert site.state(request, site.second) == "pending"
        refused = site.second.run("result", "review", request, "--approve", "-y")
        assert refused.returncode == 1 and "can only be read" in refused.stderr
    # What could not be noted as shown is not agreed to.
    assert site.second.run("result", "review", request, "--approve", "-y").returncode != 0
    site.agrees(request)


def test_a_key_that_is_revoked_before_the_release_agrees_to_nothing(site: Site) -> None:
    request = site.asks()
    site.agrees(request)
    (key,) = site.second.json("key", "ls", "--mine")
    site.second.does("key", "revoke", str(key["id"]), "-y")
    site.first.does("sync")
    told = site.held(*SUBMIT)
    assert told["state"] == "pending" and "which was revoked on" in told["reason"]
    without = site.second.run("result", "review", request, "--approve", "-y")
    assert without.returncode == 2 and "medperf key create" in without.stderr
    site.second.json("key", "create")
    site.agrees(request)
    told = site.held(*SUBMIT)
    assert "a key that nobody registered" in told["reason"]
    site.first.does("sync")
    site.first.does(*SUBMIT)
    assert len(arrived(site)) == 1


def test_a_release_of_two_is_signed_or_not_made(site: Site) -> None:
    (key,) = site.first.json("key", "ls", "--mine")
    site.first.does("key", "revoke", str(key["id"]), "-y")
    refused = site.first.run(*SUBMIT)
    assert refused.returncode == 2
    assert "policy.yaml, line 2: a release takes two persons, who sign it" in refused.stderr


def test_with_no_network_two_agree_and_it_is_sent_at_the_next_sync(site: Site) -> None:
    site.hospital.consortium.stop()
    request = site.asks()
    site.agrees(request)
    assert site.first.json(*SUBMIT)["queued"]
    assert site.state(request) == "sent"
    (entry,) = site.first.json("queue", "ls")
    edited = site.first.run("queue", "edit", entry["uid"], "--set", "results={}")
    assert edited.returncode == 1 and "two persons agreed to it as it is" in edited.stderr
    stripped = site.first.run("queue", "edit", entry["uid"], "--set", "metadata={}")
    assert stripped.returncode == 1
    site.hospital.consortium.start()
    site.first.does("sync")
    (result,) = arrived(site)
    assert result["signed_by"]
    lines = [one for one in site.first.json("ledger", "ls") if one["path"] == "/results/"]
    assert {one["agreed"] for one in lines} == {"colleague@example.org"}
    assert site.first.json("ledger", "verify")["findings"] == []


def test_what_was_queued_by_one_person_waits_once_the_policy_says_two(
    site: Site, tmp_path: Path
) -> None:
    site.hospital.consortium.stop()
    (site.first.home / "policy.yaml").unlink()
    entry = site.first.json(*SUBMIT)["id"]
    site.two_persons()
    bundle = ("bundle", "export", str(tmp_path / "queue.bundle"), "--queue")
    held = site.first.run(*bundle)
    assert held.returncode == 1 and f"{entry} may not leave yet" in held.stderr
    assert "policy.yaml, line 2: a release takes two persons" in held.stderr
    site.hospital.consortium.start()
    site.first.does("sync")
    (waits,) = site.first.json("queue", "ls")
    assert waits["state"] == "waiting" and "takes two persons" in waits["reason"]
    assert arrived(site) == []
    (site.first.home / "policy.yaml").write_text("release: {persons: two}\n")
    site.first.does("sync")
    (waits,) = site.first.json("queue", "ls")
    assert "the policy cannot be read" in waits["reason"] and arrived(site) == []
    site.two_persons()
    site.first.does("queue", "drop", entry, "-y")
    site.agrees(site.asks())
    site.first.does(*SUBMIT)
    assert len(arrived(site)) == 1


def test_what_one_person_queued_goes_if_one_is_enough_again(site: Site) -> None:
    site.hospital.consortium.stop()
    (site.first.home / "policy.yaml").unlink()
    site.first.does(*SUBMIT)
    site.two_persons()
    site.hospital.consortium.start()
    site.first.does("sync")
    assert arrived(site) == []
    (site.first.home / "policy.yaml").unlink()
    site.first.does("sync")
    assert len(arrived(site)) == 1


def test_two_agree_to_what_a_bundle_carries(site: Site, tmp_path: Path) -> None:
    site.hospital.consortium.stop()
    site.agrees(site.asks())
    site.first.does(*SUBMIT)
    bundle = tmp_path / "queue.bundle"
    site.first.does("bundle", "export", str(bundle), "--queue")
    site.hospital.consortium.start()
    office = site.hospital.elsewhere("office").member
    office.does("sync")
    # That the office has the same policy is no reason to ask once more.
    shutil.copyfile(site.first.home / "policy.yaml", office.home / "policy.yaml")
    office.does("sync", "--bundle", str(bundle))
    (result,) = arrived(site)
    assert statement_of(result)["predicate"]["release"]["by"] == "hospital@example.org"


def test_whoever_verifies_needs_both_keys_and_no_registry(site: Site, tmp_path: Path) -> None:
    site.agrees(site.asks())
    site.first.does(*SUBMIT)
    (result,) = arrived(site)
    committee = as_committee(site.hospital.consortium)
    committee.does("result", "ls", "-b", "1")
    files = []
    for name, member in (("first", site.first), ("second", site.second)):
        files.append(str(tmp_path / f"{name}.pem"))
        member.does("key", "export", "-o", files[-1])
    verify = ("result", "verify", str(result["id"]), "--offline")
    whole = committee.json(*verify, "--key", files[0], "--key", files[1])
    assert whole["verified"] and {one["holds"] for one in whole["checks"]} == {True}
    done = committee.run(*verify, "--key", files[0], "--json")
    half = json.loads(done.stdout)
    assert done.returncode == 1 and half["verified"] is False
    (agreed,) = (one for one in half["checks"] if one["what"] == "agreed")
    assert agreed["holds"] is None and "is not here to verify it with" in agreed["why"]
    said = committee.run(*verify, "--key", files[0]).stdout
    assert "not all could be checked (agreed)" in said and "--key" in said


# What the registry takes.


def statement_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a result's site signed, without the envelope."""
    return dict(json.loads(base64.b64decode(result["metadata"]["statement"]["payload"])))


def test_the_registry_takes_no_release_that_another_did_not_agree_to(
    site: Site, tmp_path: Path
) -> None:
    request = site.asks()
    site.agrees(request)
    site.first.does(*SUBMIT)
    (result,) = arrived(site)
    first, second = key_of(site.first), key_of(site.second)
    (folder,) = site.folder.glob(f"*/{request}")
    of = json.loads((folder / "request.json").read_text())["of"]
    predicate = statement_of(result)["predicate"]
    good = predicate["release"]["verdicts"][0]

    def why(*verdicts: Any, **release: Any) -> str:
        """Why a result with such verdicts is not taken."""
        said = {**predicate, "release": release or {"by": "first", "verdicts": [*verdicts]}}
        envelope = sealed(result["results"], "b1m2d1", said, first)
        return refused(site, {**result, "metadata": {"partial": False, "statement": envelope}})

    def verdict(pair: Pair = second, **other: Any) -> Any:
        """A verdict that says something else."""
        said = {"verdict": other.pop("verdict", APPROVED), "because": "no", "by": "second"}
        shown = {"document": result["results"], "of": of, "accepted": [], **other}
        return sealed_verdict(
            shown["document"], request, shown["of"], shown["accepted"], said, pair
        )

    assert "no list of one to 10 verdicts" in why()
    assert "no list of one to 10 verdicts" in why(by="first")
    assert "no list of one to 10 verdicts" in why(*[good] * 11)
    assert "no DSSE envelope" in why("approved")
    assert "a key of yours: another has to agree" in why(verdict(first))
    assert "no key of any member" in why(verdict(Keys(tmp_path / "stranger").create()))
    assert "does not approve the release" in why(verdict(verdict=RETURNED))
    assert "other than this: the results" in why(verdict(document={"auroc": 1.0}))
    for name in ("benchmark", "model", "dataset", "partial"):
        assert f"other than this: the {name}" in why(verdict(of={**of, name: {"name": "x"}}))
    accepted = [{"key": "a", "rule": "threshold", "because": "b"}]
    assert "the findings that were accepted" in why(verdict(accepted=accepted))
    tampered = base64.b64decode(good["payload"]).replace(b"approved", b"Approved")
    changed = {**good, "payload": base64.b64encode(tampered).decode()}
    assert f"The signature is not that of {second.keyid}" in why(changed)
    assert "no statement about one result" in why(sealed(result["results"], "x", {"a": 1}, second))
    # One bad verdict beside a good one is one too many.
    assert "a key of yours" in why(good, verdict(first))
    (key,) = site.second.json("key", "ls", "--mine")
    site.second.does("key", "revoke", str(key["id"]), "-y")
    assert "which was revoked on" in why(good)
    page = page_of(site.hospital.consortium, f"/results/{result['id']}")
    facts = page.partition("<dt>Agreed</dt>")[2].partition("</dd>")[0]
    assert "revoked since" in facts


def refused(site: Site, body: Mapping[str, Any]) -> str:
    """Why the registry does not take a result from the first one."""
    fields = ("name", "benchmark", "model", "dataset", "results", "metadata")
    url = f"{site.hospital.consortium.registry.url}/api/v0/results/"
    token = site.first.environment["MEDPERF_TOKEN"]
    sent = {name: body[name] for name in fields}
    answer = requests.post(url, json=sent, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["statement"][0])


# What else is made of data.


def test_statistics_and_requests_take_two_as_well_and_tell_nobody_who(
    hospital: Hospital, tmp_path: Path
) -> None:
    site = Site(hospital, tmp_path / "shared")
    site.two_persons()
    uid = hospital.submit()
    prepared = site.first.run("dataset", "prepare", "-d", uid, "-y")
    assert prepared.returncode == 0
    for words, path in (
        (("dataset", "set_operational", "-d", uid, "-y"), f"/datasets/{uid}/"),
        (("dataset", "associate", "-d", uid, "-b", "1", "-y"), "/datasets/benchmarks/"),
    ):
        held = site.first.run(*words)
        assert held.returncode == 1 and "nothing was sent: " in held.stderr
        assert "line 2" in held.stderr
        (waiting,) = (
            one for one in site.second.json("result", "review") if one["state"] == "pending"
        )
        assert site.first.run(*words).returncode == 1
        site.agrees(waiting["id"])
        site.first.does(*words)
        assert site.state(waiting["id"]) == "sent"
        line = [one for one in site.first.json("ledger", "ls") if one["path"] == path][-1]
        assert line["agreed"] == "colleague@example.org"
    dataset = site.first.json("dataset", "view", uid)
    assert dataset["state"] == "OPERATION"
    assert dataset["user_metadata"]["disclosure"]["persons"] == 2
    committee = as_committee(hospital.consortium)
    told = json.dumps([committee.json("dataset", "view", uid), committee.json("association", "ls")])
    assert "colleague" not in told and key_of(site.second).keyid not in told
    committee.does(*REQUEST, uid, "-y")


@pytest.mark.parametrize(("persons", "is_told"), [(1, True), (2, False)])
def test_how_far_a_preparation_is_nobody_could_review(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, persons: int, is_told: bool
) -> None:
    monkeypatch.setenv("MEDPERF_HOME", str(tmp_path))
    (tmp_path / "policy.yaml").write_text(f"release: {{persons: {persons}}}\n")
    with click.Context(click.Command("prepare")):
        assert may_be_told() is is_told


def test_no_order_releases_unseen_where_two_release(site: Site) -> None:
    follow = ("benchmark", "follow", "-b", "1", "-d", "1")
    refused = site.first.run(*follow, "--submit")
    assert refused.returncode == 1 and "policy.yaml, line 2" in refused.stderr
    assert site.first.json("benchmark", "follow", "ls") == []
    site.first.does(*follow)


# Whoever decides twice, and what lies in the shared folder.


def given(asked: Request, pair: Pair, verdict: str, at: str) -> Any:
    """A verdict with the date of the clock where it was signed."""
    said = {"verdict": verdict, "because": "look again", "by": "second@example.org", "at": at}
    return sealed_verdict(asked.document, asked.uid, asked.of, asked.accepted, said, pair)


def test_of_one_members_verdicts_the_newest_counts_whichever_key_it_has(
    place: Requests, second: Pair, tmp_path: Path
) -> None:
    asked = place.ask(ASKED)
    another, third = Keys(tmp_path / "another").create(), Keys(tmp_path / "third").create()
    owners = ((second, 7), (another, 7), (third, 8))
    keys = {pair.keyid: {"public_key": pair.public_key, "owner": owner} for pair, owner in owners}

    def state(*verdicts: tuple[Pair, str, str]) -> str:
        """How it stands once these were given."""
        for pair, verdict, at in verdicts:
            place.say(asked.uid, pair.keyid, given(asked, pair, verdict, at))
        standing = standing_of(asked, place.said(asked.uid), keys.get, None)
        if standing.is_approved:
            assert standing.verdict["signatures"][0]["keyid"] == verdicts[-1][0].keyid
        return standing.state

    early, late = "2026-11-20T10:00:00+00:00", "2026-11-20T09:30:00-01:00"
    assert state((second, RETURNED, early), (another, APPROVED, late)) == "approved"
    # An approval that somebody puts back is older than what its member said since.
    assert state((another, RETURNED, late), (second, APPROVED, early)) == "returned"
    assert state((another, RETURNED, early)) == "returned"
    # A date of another member's takes nobody's word away.
    assert state((third, APPROVED, "9999-12-31T23:59:59+00:00")) == "returned"
    for undated in ("", "yesterday", "2026-11-20T11:00:00"):
        place.say(asked.uid, third.keyid, given(asked, third, APPROVED, undated))
        why = standing_of(asked, place.said(asked.uid), keys.get, None).why
        assert any("what was signed does not say when" in line for line in why)


def test_a_member_who_has_another_key_by_now_changes_their_mind(site: Site) -> None:
    request = site.asks()
    review = ("result", "review", request)
    site.second.does(*review)
    site.second.does(*review, "--return", "Not yet", "-y")
    site.second.json("key", "create", "--another")
    # Whatever the clock of the machine with the other key said.
    (theirs,) = (path for path in site.folder.glob(f"*/{request}/*.json") if path.stem != "request")
    shown = json.loads(theirs.with_name("request.json").read_text())
    said = {"verdict": RETURNED, "because": "Not yet", "by": "colleague@example.org"}
    older = key_of(site.second, theirs.stem)
    late = {**said, "at": "2100-01-01T00:00:00+00:00"}
    verdict = sealed_verdict(shown["document"], request, shown["of"], [], late, older)
    theirs.write_text(json.dumps(verdict))
    assert site.state(request, site.second) == "returned by you"
    site.agrees(request)
    assert site.state(request, site.second) == "approved by you"
    site.first.does("sync")
    site.first.does(*SUBMIT)
    assert len(arrived(site)) == 1


def test_who_decides_learns_what_was_left_out_and_that_a_copy_was_changed(site: Site) -> None:
    write_results(site, auroc=0.9, threshold=0.5)
    site.first.does("result", "review", "b1m2d1", "--redact", "threshold")
    request = site.asks()
    assert "Left out: threshold" in site.second.does("result", "review", request)
    shown = site.second.json("result", "review", request)
    assert shown["redacted"] == ["threshold"] and shown["request"] == request
    assert shown["by"] == "hospital@example.org" and shown["of"]["benchmark"]["name"]
    site.agrees(request)
    (copy,) = site.folder.glob(f"*/{request}/request.json")
    whole = json.loads(copy.read_text())
    copy.write_text(json.dumps({**whole, "document": {"auroc": 0.99}}))
    (row,) = site.second.json("result", "review")
    assert row["state"] == "pending" and "was changed since you decided" in row["why"][0]
    # What nobody can sign on, its reviewer can neither leave out nor return.
    copy.write_text(json.dumps({**whole, "document": {"seed": 2**60}}))
    site.second.does("result", "review", request)
    for verdict in (("--approve",), ("--return", "No")):
        refused = site.second.run("result", "review", request, *verdict, "-y")
        assert refused.returncode == 2 and "--redact" not in refused.stderr
        assert "Tell hospital@example.org to leave it out" in refused.stderr


def test_nobody_asks_for_what_nobody_can_sign(site: Site) -> None:
    write_results(site, auroc=0.9, seed=2**60)
    refused = site.first.run(*SUBMIT)
    assert refused.returncode == 2 and "medperf result review b1m2d1 --redact" in refused.stderr
    assert "unsigned" not in refused.stderr
    assert site.second.json("result", "review") == []


def test_earlier_requests_are_ones_own_as_well(site: Site) -> None:
    write_results(site, auroc=0.9)
    first = site.asks()
    write_results(site, auroc=0.8)
    site.asks()
    listed = site.first.json("result", "review")
    assert [one["is_mine"] for one in listed] == [True, True]
    again = site.first.run("result", "review", first, "--withdraw")
    assert again.returncode == 2 and f"{first} was withdrawn before" in again.stderr
    assert {one["is_mine"] for one in site.second.json("result", "review")} == {False}


def test_what_is_dropped_from_the_queue_was_not_sent(site: Site) -> None:
    site.hospital.consortium.stop()
    request = site.asks()
    site.agrees(request)
    entry = site.first.json(*SUBMIT)["id"]
    assert site.state(request) == "sent"
    site.first.does("queue", "drop", entry, "-y")
    assert site.state(request) == site.state(request, site.second) == "withdrawn"
    site.hospital.consortium.start()
    assert site.asks() != request and arrived(site) == []


@pytest.mark.parametrize("how", ["gone", "file", "dangling"])
def test_a_named_folder_that_is_not_there_is_neither_made_nor_empty(
    site: Site, tmp_path: Path, how: str
) -> None:
    wrong = tmp_path / "mount" / "releases"
    if how == "file":
        wrong.parent.mkdir()
        wrong.write_text("a file")
    elif how == "dangling":
        wrong.parent.mkdir()
        wrong.symlink_to(tmp_path / "unmounted")
    for member in (site.first, site.second):
        member.does("profile", "set", "releases_folder", str(wrong))
    before = sorted(path for path in tmp_path.rglob("*") if "requests" in path.parts)
    for member, words in ((site.first, SUBMIT), (site.second, ("result", "review"))):
        refused = member.run(*words)
        assert refused.returncode == 1
        assert f"the folder of releases {wrong} cannot be read: " in refused.stderr
    assert wrong.is_file() if how == "file" else not wrong.exists()
    assert before == sorted(path for path in tmp_path.rglob("*") if "requests" in path.parts)


@pytest.mark.parametrize("target", ["nowhere/policy.yaml", "policy.yaml"])
def test_a_policy_that_a_link_leads_nowhere_to_is_not_none(site: Site, target: str) -> None:
    file = site.first.home / "policy.yaml"
    file.unlink()
    file.symlink_to(target)
    for words in (SUBMIT, ("policy", "view"), ("policy", "check"), ("result", "review", "b1m2d1")):
        refused = site.first.run(*words)
        assert refused.returncode == 2, words
        assert "policy.yaml cannot be read: " in refused.stderr
    assert arrived(site) == []
