"""The page of notices: what there is, what is chosen, the feed; and the link that stops mail."""

import re

import pytest
import requests

from medperf_server.notices.choices import stop_path
from tests.server.visitor import Visitor, signed_in
from tests.support.api import Body, Member, created, key_body
from tests.support.registry import Registry


@pytest.fixture
def stop(served: Registry, stranger: Member) -> str:
    """The link that stops mails to the stranger."""
    with served.app.app_context():
        return served.url + stop_path(stranger.uid)


def chosen(member: Member) -> set[str]:
    return set(member.get("/me/notices/").json()["mail"].values())


def test_the_page_shows_what_there_is_and_saves_what_is_chosen(stranger: Member) -> None:
    visitor = signed_in(stranger)
    assert "Nothing yet." in visitor.opens("/notices/").text
    key = created(stranger.post("/keys/", key_body("laptop")))
    stranger.put(f"/keys/{key['id']}/", {"is_revoked": True})
    page = visitor.opens("/notices/").text
    assert "Key &#34;laptop&#34;" in page and key["keyid"] in page
    assert "This registry sends no mail" in page
    answer = visitor.fills("/notices/", {"key": "daily", "model": "never", "nonsense": "daily"})
    assert "Saved." in answer.text
    mail = stranger.get("/me/notices/").json()["mail"]
    assert (mail["key"], mail["model"], mail["result"]) == ("daily", "never", "daily")
    assert visitor.fills("/notices/", {"key": "hourly"}).status_code == 400
    assert stranger.get("/me/notices/").json()["mail"] == mail


def test_the_address_of_a_feed_is_shown_once_and_revoked(stranger: Member) -> None:
    visitor = signed_in(stranger)
    page = visitor.fills("/notices/feed", {}).text
    (address,) = set(re.findall(r"http://[^\"<]*/feeds/mpn_[\w-]+", page))
    assert requests.get(address, timeout=60).status_code == 200
    assert address not in visitor.opens("/notices/").text
    assert "worthless from now on" in visitor.fills("/notices/feed/revoke", {}).text
    assert requests.get(address, timeout=60).status_code == 404


def test_forms_need_a_session_and_its_token(served: Registry, stranger: Member) -> None:
    for path in ("/notices/", "/notices/feed", "/notices/feed/revoke"):
        assert Visitor(served).sends(path, {"key": "never"}).status_code == 401
        assert signed_in(stranger).sends(path, {"key": "never"}).status_code == 403
    assert chosen(stranger) == {"at_once", "daily"}


def test_one_click_stops_all_mails(stop: str, stranger: Member, model_owner: Member) -> None:
    # As a program that reads mail does it: RFC 8058, section 3.2.
    click = {"List-Unsubscribe": "One-Click"}
    headers = {"Origin": "https://mail.example.com", "Sec-Fetch-Site": "cross-site"}
    for _ in range(2):
        answer = requests.post(stop, click, headers=headers, timeout=60)
        assert answer.status_code == 200 and stranger.email in answer.text
    assert chosen(stranger) == {"never"} and chosen(model_owner) == {"at_once", "daily"}
    # They may choose again.
    stranger.put("/me/notices/", {"mail": {"key": "at_once"}})
    assert chosen(stranger) == {"never", "at_once"}


def test_who_only_looks_at_the_link_stops_nothing(stop: str, stranger: Member) -> None:
    page = requests.get(stop, timeout=60)
    assert page.status_code == 200 and '<form method="post">' in page.text
    assert chosen(stranger) == {"at_once", "daily"}


def test_a_link_is_good_for_one_member_and_guessed_by_nobody(
    served: Registry, stop: str, stranger: Member, model_owner: Member
) -> None:
    other = stop.replace(f"/{stranger.uid}/", f"/{model_owner.uid}/")
    for url in (other, stop[:-1], stop + "0", f"{served.url}/notices/stop/999999/" + "0" * 64):
        for method in ("GET", "POST"):
            assert requests.request(method, url, timeout=60).status_code == 404
    assert chosen(model_owner) == {"at_once", "daily"}
    assert stop.rpartition("/")[2] not in served.log.read_text()


def test_the_stop_is_in_the_audit_log(stop: str, admin: Member, stranger: Member) -> None:
    requests.post(stop, timeout=60)
    rows: list[Body] = admin.get("/audit/?entity_type=notice_choice").json()["results"]
    mine = [row for row in rows if row["entity_id"].startswith(f"{stranger.uid}/")]
    assert mine and all(row["actor"] == "anonymous" and row["address"] for row in mine)
