"""Mail: what is sent to whom and when, by a real mail server that takes it, or does not."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from scripts.ports import own_port
from sqlalchemy import select, text, update

from medperf_server.base import db, utc_now
from medperf_server.notices import mailserver
from medperf_server.notices.table import Letter, Notice
from tests.support.api import Body, Member, created, key_body
from tests.support.mailhost import (
    BEGINNING,
    END,
    PASSWORD,
    RECIPIENT,
    SENDER,
    USER,
    Mailbox,
    Victim,
    mail_server,
    server_context,
)
from tests.support.registry import Registry
from tests.support.tls import Authority

ROOT = "https://registry.example.org"
# Who may send, as a URL has it.
GOOD = f"{quote(USER)}:{quote(PASSWORD, safe='')}"
FROM = "MedPerf registry <registry@example.org>"


@pytest.fixture(scope="module")
def port() -> int:
    """Where the mail server is, when there is one."""
    return own_port()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def served(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, port: int
) -> Iterator[Registry]:
    """A registry that sends mail."""
    is_postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres").new_database() if is_postgres else None
    settings = {
        "MEDPERF_SMTP_URL": f"smtp://127.0.0.1:{port}",
        "MEDPERF_MAIL_FROM": FROM,
        "MEDPERF_URL": ROOT,
    }
    yield from Registry.serving(tmp_path_factory.mktemp("mailing"), url, **settings)


@pytest.fixture(scope="module")
def admin(served: Registry) -> Member:
    """Who approves benchmarks here, and is mailed nothing."""
    member = Member(served, "admin", admin=True)
    choices = dict.fromkeys(member.get("/me/notices/").json()["mail"], "never")
    assert member.put("/me/notices/", {"mail": choices}).ok
    return member


@pytest.fixture
def mailbox(port: int, served: Registry) -> Iterator[Mailbox]:
    """What the mail server took in a test, where nothing waits from before."""
    with served.app.app_context():
        db.session.execute(update(Notice).values(is_waiting=False))
        db.session.execute(update(Letter).values(state="empty"))
        db.session.commit()
    mailbox = Mailbox()
    with mail_server(mailbox, port):
        yield mailbox


def send(registry: Registry, fails: bool = False) -> str:
    """What `medperf-server notify --once` says."""
    done = registry.invoke("notify", "--once")
    assert done.exit_code == int(fails), done.stderr
    return done.stderr


def later(registry: Registry) -> None:
    """Let the time come at which what was not taken is tried again."""
    with registry.app.app_context():
        db.session.execute(update(Letter).values(next_at=utc_now()))
        db.session.commit()


def age(registry: Registry, what: Any, by: timedelta) -> None:
    """Have everything of a table happened earlier."""
    with registry.app.app_context():
        for row in db.session.scalars(select(what)):
            row.created_at -= by
        db.session.commit()


def states(registry: Registry, member: Member) -> list[tuple[str, int]]:
    """The letters to a member: what became of each, and how often it was tried."""
    with registry.app.app_context():
        found = select(Letter).filter_by(user_id=member.uid).order_by(Letter.id)
        return [(one.state, one.attempts) for one in db.session.scalars(found) if one.attempts]


def words(mail: EmailMessage, kind: str = "plain") -> str:
    """The text of a mail."""
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def revoke(member: Member, name: str = "laptop") -> Body:
    """Something that a member is mailed of at once: their key is revoked."""
    key = created(member.post("/keys/", key_body(name)))
    assert member.put(f"/keys/{key['id']}/", {"is_revoked": True}).ok
    return key


@pytest.fixture
def new_model(
    taken: Body, requested: Body, committee: Member, pair: str, model: Body, approved: Body
) -> str:
    """A model is approved where the data owner takes part; what they are told."""
    assert committee.put(pair, {"approval_status": "APPROVED"}).ok
    benchmark = f'benchmark "{approved["name"]}" ({approved["id"]})'
    return f'Model "{model["name"]}" ({model["id"]}) is new in {benchmark}'


def test_a_data_owner_is_mailed_of_a_new_model_once(
    mailbox: Mailbox, served: Registry, new_model: str, data_owner: Member, approved: Body
) -> None:
    assert ", 0 to be tried again, 0 refused." in send(served)
    (mail,) = [one for one in mailbox.to(data_owner.email) if new_model in words(one)]
    assert mail["From"] == FROM and mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@example.org>")
    page = f"{ROOT}/benchmarks/{approved['id']}"
    assert page in words(mail) and f'<a href="{page}">' in words(mail, "html")
    stop = str(mail["List-Unsubscribe"])
    assert stop.startswith(f"<{ROOT}/notices/stop/{data_owner.uid}/") and stop[1:-1] in words(mail)
    # In the form of RFC 2369 as it goes over the wire, however long it is.
    raw = mailbox.raw[mailbox.mails.index(mail)].replace(b"\r\n", b"\n")
    assert f"\nList-Unsubscribe: {stop}\n".encode() in raw
    assert b"\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\n" in raw
    assert all(len(line) < 998 and line.isascii() for line in raw.splitlines())
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    count = len(mailbox.mails)
    assert "Mails: 0 sent" in send(served) and len(mailbox.mails) == count


def test_what_came_together_is_one_mail(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    names = ["one", "two", "three"]
    for name in names:
        revoke(stranger, name)
    send(served)
    (mail,) = mailbox.to(stranger.email)
    assert mail["Subject"].startswith('MedPerf: 3 notices: Key "one"')
    assert words(mail).split().count(f"{ROOT}/keys/") == 3
    assert all(f'Key "{name}"' in words(mail) for name in names)


def test_a_mail_has_so_many_lines_and_says_how_many_more(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    with served.app.app_context():
        key = revoke(stranger)
        facts = {"event": "key", "entity_type": "signing_key", "entity_id": key["id"]}
        db.session.add_all(Notice(user_id=stranger.uid, **facts) for _ in range(59))
        db.session.commit()
    send(served)
    (mail,) = mailbox.to(stranger.email)
    assert words(mail).count('Key "laptop"') == 50 and "And 10 more." in words(mail)
    assert "And 10 more." in words(mail, "html")


def test_a_day_is_mailed_when_it_is_over_all_of_it_at_once(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    stranger.put("/me/notices/", {"mail": {"key": "daily"}})
    revoke(stranger, "one")
    revoke(stranger, "two")
    send(served)
    assert mailbox.to(stranger.email) == []
    age(served, Notice, timedelta(days=1))
    revoke(stranger, "today")
    send(served)
    (mail,) = mailbox.to(stranger.email)
    assert 'Key "one"' in words(mail) and 'Key "two"' in words(mail)
    assert 'Key "today"' not in words(mail)


def test_who_chose_so_is_mailed_nothing_also_when_they_choose_again(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    stranger.put("/me/notices/", {"mail": {"key": "never"}})
    revoke(stranger)
    send(served)
    stranger.put("/me/notices/", {"mail": {"key": "at_once"}})
    send(served)
    assert mailbox.to(stranger.email) == []


def test_who_is_disabled_is_mailed_nothing(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    revoke(stranger)
    served.command("user", "disable", stranger.email)
    send(served)
    assert mailbox.to(stranger.email) == []


def test_what_happened_long_before_mail_was_set_up_is_not_mailed(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    revoke(stranger)
    age(served, Notice, timedelta(days=8))
    send(served)
    assert mailbox.to(stranger.email) == []


def test_what_is_old_is_forgotten(mailbox: Mailbox, served: Registry, stranger: Member) -> None:
    revoke(stranger)
    send(served)
    for what in (Notice, Letter):
        age(served, what, timedelta(days=91))
    send(served)
    with served.app.app_context():
        for what in (Notice, Letter):
            assert not db.session.scalars(select(what).filter_by(user_id=stranger.uid)).all()


def test_a_benchmark_that_became_private_meanwhile_is_not_told_of(
    mailbox: Mailbox,
    served: Registry,
    new_model: str,
    data_owner: Member,
    committee: Member,
    approved: Body,
) -> None:
    # The letter is gathered, and tried, while all may see the benchmark.
    mailbox.says[RECIPIENT, ""] = "451 later"
    send(served)
    assert states(served, data_owner) == [("waiting", 1)]
    assert committee.put(f"/benchmarks/{approved['id']}/", {"is_private": True}).ok
    mailbox.says.clear()
    later(served)
    send(served)
    for mail in mailbox.to(data_owner.email):
        assert approved["name"] not in mail.as_string()
    assert [state for state, _ in states(served, data_owner)] == ["empty"]


def test_what_was_stopped_meanwhile_is_not_sent(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    revoke(stranger)
    mailbox.says[RECIPIENT, ""] = "451 later"
    send(served)
    stranger.put("/me/notices/", {"mail": {"key": "never"}})
    mailbox.says.clear()
    later(served)
    send(served)
    assert mailbox.to(stranger.email) == []


def test_what_members_wrote_is_shown_as_it_is_and_is_no_header(
    mailbox: Mailbox,
    served: Registry,
    committee: Member,
    model_owner: Member,
    requested: Body,
    pair: str,
) -> None:
    reason = '<script>"&amp;\r\nBcc: eve@example.org ключ'
    assert committee.put(pair, {"approval_status": "REJECTED", "reason": reason}).ok
    send(served)
    (mail,) = mailbox.to(model_owner.email)
    shown = reason.replace("\r\n", " ")
    assert shown in words(mail) and shown in mail["Subject"]
    assert "<script>" not in words(mail, "html") and "&lt;script&gt;" in words(mail, "html")
    assert mail["Bcc"] is None


@pytest.mark.parametrize("command", [RECIPIENT, BEGINNING])
@pytest.mark.parametrize("reply", ["451 try again later", "421 too busy"])
def test_what_is_not_taken_now_is_tried_again_ever_more_rarely(
    mailbox: Mailbox, served: Registry, stranger: Member, command: str, reply: str
) -> None:
    revoke(stranger)
    mailbox.says[command, ""] = reply
    waits = []
    for attempt in range(1, 4):
        said = send(served)
        assert "Mails: 0 sent, 1 to be tried again, 0 refused." in said
        assert states(served, stranger) == [("waiting", attempt)]
        # Not before its time.
        assert "Mails: 0 sent, 0 to be tried again" in send(served)
        with served.app.app_context():
            letter = db.session.scalars(select(Letter).filter_by(user_id=stranger.uid)).one()
            assert reply[:3] in letter.trouble
            waits.append(round((letter.next_at - utc_now()).total_seconds() / 60))
        later(served)
    assert waits == [1, 2, 4] and mailbox.mails == []
    mailbox.says.clear()
    assert "Mails: 1 sent" in send(served)
    assert len(mailbox.to(stranger.email)) == 1 and states(served, stranger) == [("sent", 4)]


def test_what_is_refused_is_not_tried_again_and_keeps_no_other_up(
    mailbox: Mailbox, served: Registry, stranger: Member, model_owner: Member
) -> None:
    for member in (stranger, model_owner):
        revoke(member)
    mailbox.says[RECIPIENT, stranger.email] = "550 no such user here"
    assert "Mails: 1 sent, 0 to be tried again, 1 refused." in send(served)
    assert states(served, stranger) == [("refused", 1)] and len(mailbox.to(model_owner.email)) == 1
    later(served)
    assert "Mails: 0 sent, 0 to be tried again, 0 refused." in send(served)
    checked = served.invoke("check").stdout
    assert "mails of the last week that nobody took:" in checked and "550 no such user" in checked


def test_what_a_server_says_is_kept_whatever_it_is(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    revoke(stranger)
    mailbox.says[RECIPIENT, ""] = "550 \x1b[31mno\0 é" + "n" * 400
    assert "1 refused" in send(served)
    told = served.invoke("check").stdout
    assert "550" in told and "\x1b" not in told and "\0" not in told


def test_after_days_it_is_given_up(mailbox: Mailbox, served: Registry, stranger: Member) -> None:
    revoke(stranger)
    mailbox.says[RECIPIENT, ""] = "452 mailbox full"
    send(served)
    age(served, Letter, timedelta(days=6))
    later(served)
    assert "1 refused" in send(served)
    assert "452 mailbox full" in served.invoke("check").stdout and mailbox.mails == []


@pytest.mark.parametrize("command", [SENDER, RECIPIENT, BEGINNING])
def test_a_dropped_connection_costs_a_letter_nothing_but_time(
    mailbox: Mailbox, served: Registry, stranger: Member, model_owner: Member, command: str
) -> None:
    for member in (stranger, model_owner):
        revoke(member)
    mailbox.drops = [command]
    assert "1 to be tried again" in send(served)
    later(served)
    send(served)
    counts = [len(mailbox.to(member.email)) for member in (stranger, model_owner)]
    assert counts == [1, 1] and len(mailbox.mails) == 2


def test_a_server_that_took_it_and_could_not_say_so_gets_the_same_mail_again(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    revoke(stranger)
    mailbox.drops = [END]
    assert "1 to be tried again" in send(served)
    later(served)
    send(served)
    first, second = mailbox.to(stranger.email)
    assert first["Message-ID"] == second["Message-ID"] and first["Date"] == second["Date"]
    assert words(first) == words(second)


def test_a_server_that_is_away_fails_no_letter(
    served: Registry, stranger: Member, mailbox: Mailbox, monkeypatch: Any
) -> None:
    revoke(stranger)
    monkeypatch.setitem(served.settings, "MEDPERF_SMTP_URL", f"smtp://127.0.0.1:{own_port()}")
    for _ in range(2):
        said = send(served, fails=True)
        assert "does not answer as a mail server (" in said and "Connection refused" in said
    assert states(served, stranger) == []
    monkeypatch.undo()
    send(served)
    assert states(served, stranger) == [("sent", 1)]


def test_a_slow_server_is_waited_for_and_a_silent_one_is_not(
    mailbox: Mailbox, served: Registry, stranger: Member, monkeypatch: Any
) -> None:
    revoke(stranger)
    # However busy this machine is, too.
    monkeypatch.setattr(mailserver, "SECONDS", 30.0)
    mailbox.delay_seconds = 0.3
    assert "Mails: 1 sent" in send(served)
    revoke(stranger)
    monkeypatch.setattr(mailserver, "SECONDS", 1.0)
    mailbox.delay_seconds = 2
    assert "1 to be tried again" in send(served)
    assert len(mailbox.to(stranger.email)) == 1


def test_nothing_is_locked_while_a_slow_server_takes_its_time(
    mailbox: Mailbox, served: Registry, stranger: Member
) -> None:
    revoke(stranger)
    took: list[float] = []

    def write(_: object) -> None:
        began = time.monotonic()
        stranger.container()
        took.append(time.monotonic() - began)

    mailbox.on_taken = write
    send(served)
    assert len(took) == 1 and took[0] < 5


SETTINGS = [
    ("smtp://mail.example.org", "", "MEDPERF_MAIL_FROM is no address"),
    ("smtp://mail.example.org", "registry", "MEDPERF_MAIL_FROM is no address"),
    ("smtp://mail.example.org", "a b@example.org", "MEDPERF_MAIL_FROM is no address"),
    ("mail.example.org", FROM, "MEDPERF_SMTP_URL is none of smtp://host:port"),
    ("https://mail.example.org", FROM, "MEDPERF_SMTP_URL is none of smtp://host:port"),
    ("smtp://", FROM, "MEDPERF_SMTP_URL is none of smtp://host:port"),
    ("smtp://mail.example.org:many", FROM, "MEDPERF_SMTP_URL is no URL"),
    ("smtp://u:secret@mail.example.org", FROM, "would send its password in clear"),
    ("smtps://:secret@mail.example.org", FROM, "has a password and no user"),
    ("smtp://mail.example.org#relay", FROM, "MEDPERF_SMTP_URL is none of smtp://host:port"),
    *(
        ("smtp://mail.example.org", sender, "MEDPERF_MAIL_FROM is no address")
        for sender in ("a@b.org, c@d.org", "A <a@b.org>, c@d.org", "A <a@b", "a@b.org,c@d.org")
    ),
]


@pytest.mark.parametrize(("url", "sender", "told"), SETTINGS)
def test_settings_that_are_wrong_are_named(
    served: Registry, monkeypatch: Any, url: str, sender: str, told: str
) -> None:
    monkeypatch.setitem(served.settings, "MEDPERF_SMTP_URL", url)
    monkeypatch.setitem(served.settings, "MEDPERF_MAIL_FROM", sender)
    for command in (("notify", "--once"), ("check",)):
        done = served.invoke(*command)
        assert done.exit_code == 1 and told in done.output and "secret" not in done.output
    # Nothing else fails by it.
    served.command("user", "ls")


@pytest.mark.parametrize(
    "url",
    [
        *("", "registry.example.org", "ftp://x.org", "https://", "https://x.org:many"),
        *("https://u:secret@x.org", "https://x.org?a=1", "https://x.org?", "https://x.org#a"),
        *("https://x.org\n", "https://x .org"),
    ],
)
def test_links_that_would_lead_nowhere_are_neither_mailed_nor_shown(
    mailbox: Mailbox, served: Registry, stranger: Member, monkeypatch: Any, url: str
) -> None:
    monkeypatch.setitem(served.settings, "MEDPERF_URL", url)
    revoke(stranger)
    before = served.command("invite", "ls", "--json")
    told = "MEDPERF_URL is no address at which members find the registry"
    invite = ("invite", "create", "ada@example.org")
    for command in (("notify", "--once"), ("check",), invite):
        done = served.invoke(*command)
        assert done.exit_code == 1 and told in done.output and "secret" not in done.output
    assert mailbox.mails == [] and served.command("invite", "ls", "--json") == before
    done = served.invoke(*invite, "--url", url)
    assert done.exit_code == 1 and "--url is no address" in done.output


def test_without_settings_it_says_which_and_check_finds_nothing_wrong(
    served: Registry, monkeypatch: Any
) -> None:
    monkeypatch.setitem(served.settings, "MEDPERF_SMTP_URL", "")
    said = served.invoke("notify", "--once")
    assert said.exit_code == 1 and "MEDPERF_SMTP_URL" in said.stderr
    assert "ok     members are mailed nothing: MEDPERF_SMTP_URL" in served.invoke("check").stdout


def test_check_tells_what_is_wrong_with_mail(
    mailbox: Mailbox, served: Registry, stranger: Member, monkeypatch: Any
) -> None:
    assert "ok     127.0.0.1 takes mail from registry@example.org" in served.invoke("check").stdout
    assert mailbox.mails == []
    mailbox.says[SENDER, ""] = "550 not from you"
    told = served.invoke("check")
    assert told.exit_code == 1
    assert "550 not from you): look at MEDPERF_MAIL_FROM" in told.stdout
    monkeypatch.setitem(served.settings, "MEDPERF_SMTP_URL", f"smtp://127.0.0.1:{own_port()}")
    assert "Connection refused): look at MEDPERF_SMTP_URL" in served.invoke("check").stdout
    monkeypatch.setitem(served.settings, "MEDPERF_URL", "http://127.0.0.1:8000")
    assert "MEDPERF_URL is http://127.0.0.1:8000: set the https" in served.invoke("check").stdout
    revoke(stranger)
    age(served, Notice, timedelta(days=2))
    assert "have medperf-server notify run" in served.invoke("check").stdout


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs the mail server's certificate."""
    return Authority(tmp_path)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_mail_is_encrypted_where_that_is_asked_for_and_only_to_whom_is_trusted(
    mailbox: Mailbox,
    served: Registry,
    stranger: Member,
    authority: Authority,
    monkeypatch: Any,
    scheme: str,
) -> None:
    context = server_context(str(authority.certificate()))
    ways: dict[str, dict[str, Any]] = {
        "smtps": {"ssl_context": context},
        "smtp+starttls": {"tls_context": context, "require_starttls": True},
    }
    login = {"authenticator": mailbox.authenticates, "auth_required": True}
    login |= {"auth_require_tls": scheme != "smtps"}
    revoke(stranger)
    with mail_server(mailbox, **ways[scheme], **login) as port:

        def as_user(user: str) -> None:
            url = f"{scheme}://{user}@127.0.0.1:{port}"
            monkeypatch.setitem(served.settings, "MEDPERF_SMTP_URL", url)

        as_user(GOOD)
        said = send(served, fails=True)
        assert "CERTIFICATE_VERIFY_FAILED" in said or "certificate verify failed" in said
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        as_user("registry:wrong")
        said = send(served, fails=True)
        assert "refuses user registry (535" in said and "wrong" not in said
        assert states(served, stranger) == []
        as_user(GOOD)
        assert "Mails: 1 sent" in send(served)
    assert len(mailbox.to(stranger.email)) == 1


def test_who_asks_for_starttls_sends_nothing_in_clear(
    mailbox: Mailbox, served: Registry, stranger: Member, port: int, monkeypatch: Any
) -> None:
    revoke(stranger)
    monkeypatch.setitem(served.settings, "MEDPERF_SMTP_URL", f"smtp+starttls://127.0.0.1:{port}")
    assert "STARTTLS" in send(served, fails=True) and mailbox.mails == []


StartSender = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(served: Registry) -> Iterator[StartSender]:
    """Starts a sender in a process of its own, which does not outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "medperf_server.cli", "notify", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = served.popen(command, env=served.environment, cwd=served.folder, **pipes)  # type: ignore[call-overload]
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(count: int, mailbox: Mailbox) -> None:
    """Return once the mail server took so many."""
    end = time.monotonic() + 60
    while len(mailbox.mails) < count:
        assert time.monotonic() < end, f"{len(mailbox.mails)} of {count} came"
        time.sleep(0.02)


def test_the_service_sends_what_happens_and_ends_when_it_is_told(
    mailbox: Mailbox, served: Registry, stranger: Member, start: StartSender
) -> None:
    service = start("--interval", "1")
    for count in (1, 2):
        revoke(stranger)
        wait_for(count, mailbox)
    mailbox.delay_seconds = 1
    sending = time.monotonic()
    revoke(stranger)
    wait_for(3, mailbox)
    # The letter is with the server, whose word is still to come.
    service.send_signal(signal.SIGTERM)
    _, said = service.communicate(timeout=60)
    assert time.monotonic() - sending > 3
    assert service.returncode == 0 and said.count("Mails: 1 sent") == 3, said
    assert set(states(served, stranger)) == {("sent", 1)}


def test_the_service_says_once_that_the_server_is_away_and_that_it_is_back(
    served: Registry, stranger: Member, start: StartSender, port: int
) -> None:
    revoke(stranger)
    service = start("--interval", "1")
    assert service.stderr is not None
    assert "does not answer as a mail server" in service.stderr.readline()
    time.sleep(2.5)
    with mail_server(mailbox := Mailbox(), port):
        assert "Mails: " in service.stderr.readline()
        assert service.stderr.readline() == "Mail can be sent again.\n"
        assert len(mailbox.to(stranger.email)) == 1


def test_two_senders_send_each_letter_once(
    mailbox: Mailbox, served: Registry, stranger: Member, model_owner: Member, start: StartSender
) -> None:
    for member in (stranger, model_owner):
        revoke(member)
    mailbox.delay_seconds = 0.5
    first = start("--once")
    end = time.monotonic() + 60
    while not mailbox.greeted:
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.02)
    assert "Nothing was sent: another medperf-server notify is sending." in send(served)
    _, said = first.communicate(timeout=60)
    assert "Mails: 2 sent" in said and len(mailbox.mails) == 2
    assert "Mails: 0 sent" in send(served)


def test_a_sender_that_lost_its_lock_begins_no_other_letter(
    mailbox: Mailbox, served: Registry, stranger: Member, model_owner: Member
) -> None:
    if not served.database_url.startswith("postgresql"):
        pytest.skip("SQLite's is the process's own")
    for member in (stranger, model_owner):
        revoke(member)
    held = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    def take_away(_: object) -> None:
        with served.app.app_context(), db.engine.begin() as connection:
            assert connection.execute(text(held)).all() == [(True,)]

    mailbox.on_taken = take_away
    assert "the database does not answer" in send(served, fails=True)
    assert len(mailbox.mails) == 1
    mailbox.on_taken = lambda _: None
    send(served)
    assert [len(mailbox.to(one.email)) for one in (stranger, model_owner)] == [1, 1]


def test_killed_before_the_mail_is_whole_it_is_sent_once(
    mailbox: Mailbox, served: Registry, stranger: Member, start: StartSender
) -> None:
    revoke(stranger)
    victim = Victim()
    mailbox.delay_seconds = 0.2
    mailbox.on_recipient = victim.kill
    process = start("--once")
    victim.pid = process.pid
    assert process.wait(timeout=60) == -signal.SIGKILL
    later(served)
    send(served)
    assert len(mailbox.to(stranger.email)) == 1 and states(served, stranger) == [("sent", 2)]


def test_killed_before_the_word_that_it_was_taken_the_same_mail_comes_again(
    mailbox: Mailbox, served: Registry, stranger: Member, start: StartSender
) -> None:
    revoke(stranger)
    victim = Victim()
    mailbox.on_taken = victim.kill
    process = start("--once")
    victim.pid = process.pid
    assert process.wait(timeout=60) == -signal.SIGKILL
    later(served)
    send(served)
    first, second = mailbox.to(stranger.email)
    assert first["Message-ID"] == second["Message-ID"] and words(first) == words(second)
    later(served)
    assert "Mails: 0 sent" in send(served)


def test_killed_at_any_moment_nothing_is_lost_and_nothing_else_sent_twice(
    mailbox: Mailbox, served: Registry, start: StartSender, join: Callable[..., Member]
) -> None:
    members = [join("killed") for _ in range(6)]
    chance, kills = random.Random(7), 0
    mailbox.delay_seconds = 0.01
    happened: Counter[str] = Counter()
    for turn in range(12):
        for member in members[turn % 2 :: 2]:
            revoke(member, f"key {turn}")
            happened[member.email] += 1
        later(served)
        process = start("--once")
        try:
            process.communicate(timeout=chance.uniform(0, 0.8))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
    assert kills > 2
    later(served)
    send(served)
    for member in members:
        by_message: dict[str, set[str]] = {}
        for mail in mailbox.to(member.email):
            by_message.setdefault(mail["Message-ID"], set()).add(words(mail))
        # One mail each time, so its reader knows it for the same.
        assert all(len(texts) == 1 for texts in by_message.values())
        told = "".join(next(iter(texts)) for texts in by_message.values())
        assert told.count("is revoked") == happened[member.email], member.email
    doubled = len(mailbox.mails) - len({mail["Message-ID"] for mail in mailbox.mails})
    assert doubled <= kills
