"""Names and words of members: told apart by people, and steering no terminal."""

import json

import pytest

from tests.support.api import Member, benchmark_body, container_body
from tests.support.registry import Registry

NAMES = ["my-model", "My Model 2", "Prüfung", "模型", "модель", "👍 model", "naïve"]
NAMES += ["Δ-net 10", "模型 net 1", "ロボット手術"]
NO_NAMES = {
    " a": "write it as",
    "a ": "write it as",
    "a  b": "write it as",
    "a\u00a0b": "write it as",
    "\uff46ull": "write it as",
    "a\u200bb": "U+200B",
    "a\u202eb": "U+202E",
    "a\u00adb": "U+00AD",
    "a\u2028b": "U+2028",
    # What its first characters become is longer than they are.
    "\ufb03\ufb03\u200b": "U+200B",
    "  \u200b": "U+200B",
    "p\u0430ypal": "looks like a letter of another script",
    "\u03b1lpha": "looks like a letter of another script",
    # Of Lisu, of Coptic.
    "\ua4eepple": "looks like a letter of another script",
    "\u2c9ene": "looks like a letter of another script",
    "a\x85b": "not match",
    "a\x9b31m": "not match",
    "a\x7fb": "not match",
}
NO_URLS = [
    "http://[::1",
    "http://[",
    "http://[zz]/",
    "http://host:port/",
    "http://host:99999999/",
    "http://a\u2100b/",
    "http://host/a b",
    "direct:https://[::1",
    "direct:https://host:99999/",
    "http://host/\u202e",
    "http://host/\x9b",
    "https://host/\n",
]
URLS = ["https://[::1]:8000/a", "synapse:syn123", "direct:https://host/a", "http://host/ü?a=[1]"]


@pytest.mark.parametrize("name", NAMES)
def test_an_honest_name_is_taken(join, name: str) -> None:  # type: ignore[no-untyped-def]
    ada = join("ada")
    answer = ada.post("/mlcubes/", container_body(name=f"{name} {ada.uid}"))
    assert answer.status_code == 201 and answer.json()["name"] == f"{name} {ada.uid}"


@pytest.mark.one_engine
@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_a_name_that_people_cannot_tell_apart_is_refused(model_owner: Member, name: str) -> None:
    for path, body in (
        ("/mlcubes/", container_body(name=name)),
        ("/benchmarks/", benchmark_body(model_owner, name=name)),
    ):
        answer = model_owner.post(path, body)
        assert answer.status_code == 400 and NO_NAMES[name] in str(answer.json()["name"])


@pytest.mark.one_engine
@pytest.mark.parametrize("field", ["username", "first_name", "last_name"])
def test_members_have_such_names_too(admin: Member, stranger: Member, field: str) -> None:
    path = f"/users/{stranger.uid}/"
    assert admin.put(path, {field: "a\u200bb"}).status_code == 400
    assert admin.put(path, {field: f"Zoë {stranger.uid}"}).status_code == 200


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "address", ["\u212aate@example.org", "a\u200b@example.org", '"\x1b[31m"@example.org']
)
def test_an_address_is_of_ascii(admin: Member, stranger: Member, address: str) -> None:
    assert admin.put(f"/users/{stranger.uid}/", {"email": address}).status_code == 400


@pytest.mark.one_engine
@pytest.mark.parametrize("url", NO_URLS, ids=ascii)
def test_what_no_client_can_take_apart_is_no_url(model_owner: Member, url: str) -> None:
    answer = model_owner.post("/mlcubes/", container_body(git_mlcube_url=url))
    assert answer.status_code == 400 and "git_mlcube_url" in answer.json()


@pytest.mark.one_engine
@pytest.mark.parametrize("url", URLS)
def test_what_clients_understand_is_taken(model_owner: Member, url: str) -> None:
    assert model_owner.container(git_mlcube_url=url)["git_mlcube_url"] == url


def test_free_text_has_lines_and_nothing_that_steers(model_owner: Member) -> None:
    for text, status in (("a\nb\tc", 201), ("a\x1b[31m", 400), ("a\x9b", 400)):
        body = benchmark_body(model_owner, description=text)
        assert model_owner.post("/benchmarks/", body).status_code == status


def test_a_name_of_earlier_stays_and_steers_nothing(registry: Registry) -> None:
    import sqlite3
    from contextlib import closing

    ada = Member(registry, "ada")
    uid = ada.container()["id"]
    with closing(sqlite3.connect(registry.folder / "registry.db")) as database, database:
        database.execute("UPDATE mlcubes SET name = 'a' || char(155) || 'b'")
        database.execute("UPDATE users SET email = 'ada' || char(27) || '[31m@x'")
        database.execute("UPDATE users SET email_key = email")
        database.execute("UPDATE users SET first_name = '', username = 'x' || char(155, 8238)")
    assert ada.put(f"/mlcubes/{uid}/", {"is_valid": False}).status_code == 200
    email = "ada\x1b[31m@x"
    for command in (("user", "set", email, "--admin"), ("user", "disable", email), ("check",)):
        done = registry.invoke(*command)
        assert all(char.isprintable() or char == "\n" for char in done.output), command
    shown = registry.command("user", "ls")
    assert all(char.isprintable() or char == "\n" for char in shown) and "x  " in shown
    assert json.loads(registry.command("user", "ls", "--json"))[0]["username"] == "x\x9b\u202e"
