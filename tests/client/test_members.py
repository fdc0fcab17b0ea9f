"""What members see and decide: logging in, the copy of the registry, submissions, decisions."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medperf_client.settings.config import Home
from medperf_client.site import Site
from tests.support.badhost import json_answer
from tests.support.consortium import Consortium, Member
from tests.support.proxy import Fault, plain, proxy, writes
from tests.support.registry import Registry

_numbers = itertools.count(1)
STATES = ("PENDING", "APPROVED", "REJECTED")


def submit(consortium: Consortium, member: Member, name: str, *options: str) -> int:
    """The UID of a new container: the candidate, with parameters that nobody used before."""
    number = next(_numbers)
    hosted = consortium.host.folder / "model_mlp" / "workspace" / f"parameters-{number}.yaml"
    hosted.write_text((hosted.parent / "parameters.yaml").read_text() + f"\n# {number}\n")
    files = consortium.container_options("model_mlp")
    files[3] = f"{consortium.host.url}model_mlp/workspace/{hosted.name}"
    submitted = member.json("container", "submit", "--name", name, *files, "-y", *options)
    return int(submitted["id"])


def names(member: Member, *words: str) -> list[str]:
    """The names of what a list shows."""
    return [entity["name"] for entity in member.json(*words)]


@pytest.fixture
def owner(consortium: Consortium) -> Member:
    """A model owner whose name nobody had before."""
    return consortium.member(f"owner-{next(_numbers)}")


def test_logging_in_by_pipe_keeps_the_token_and_says_who(
    consortium: Consortium, tmp_path: Path
) -> None:
    token = consortium.registry.token_for("ada@example.org")
    ada = Member(tmp_path / "home", consortium.registry.url)
    before = ada.run("benchmark", "ls")
    assert before.returncode == 1 and "medperf auth login" in before.stderr
    assert ada.json("auth", "status")["logged_in"] is False
    said = ada.does("auth", "login", answers=f"  {token}\n")
    assert "as ada@example.org" in said and token not in said
    status = ada.json("auth", "status")
    assert status["logged_in"] and status["member"]["email"] == "ada@example.org"
    assert "breast-cancer" in ada.does("benchmark", "ls")
    ada.does("auth", "logout")
    assert ada.run("benchmark", "ls").returncode == 1
    assert "You were not logged in" in ada.does("auth", "logout")


@pytest.mark.parametrize("typed", ["", "two words\n", "mpf_ä\n"])
def test_what_is_no_token_is_not_sent(tmp_path: Path, typed: str) -> None:
    stranger = Member(tmp_path / "home", "http://127.0.0.1:1")
    done = stranger.run("auth", "login", answers=typed)
    assert done.returncode == 2 and "holds no token" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_that_the_registry_does_not_know_is_not_kept(
    consortium: Consortium, tmp_path: Path
) -> None:
    stranger = Member(tmp_path / "home", consortium.registry.url)
    done = stranger.run("auth", "login", answers="mpf_unknown\n")
    assert done.returncode == 1 and "does not accept this token" in done.stderr
    assert "mpf_unknown" not in done.stderr + done.stdout
    assert stranger.json("auth", "status")["logged_in"] is False


def test_another_member_on_the_same_machine_sees_only_what_is_theirs(
    consortium: Consortium, owner: Member
) -> None:
    model = submit(consortium, owner, f"theirs-{next(_numbers)}", "--operational")
    owner.does("container", "associate", "--benchmark", "1", "--model_uid", str(model), "-y")
    assert len(owner.json("association", "ls", "-bm")) == 1
    other = consortium.registry.token_for("other@example.org")
    # By logging in, and by a token in the environment.
    del owner.environment["MEDPERF_TOKEN"]
    owner.does("auth", "login", answers=other)
    assert owner.json("association", "ls", "-bm") == []
    assert owner.json("container", "ls", "--mine") == []
    owner.environment["MEDPERF_TOKEN"] = consortium.registry.token_for("committee@example.org")
    assert names(owner, "container", "ls", "--mine")[:1] == ["data_preparator"]
    assert owner.json("auth", "status")["member"]["email"] == "committee@example.org"


def test_a_login_without_a_registry_does_not_pass_for_who_was_here_before(
    own_registry_member: tuple[Registry, Member],
) -> None:
    registry, ada = own_registry_member
    assert ada.json("benchmark", "ls") == []
    bob = registry.token_for("bob@example.org")
    registry.stop()
    del ada.environment["MEDPERF_TOKEN"]
    done = ada.run("auth", "login", answers=bob)
    assert done.returncode == 0 and "kept unchecked" in done.stderr and bob not in done.stderr
    assert ada.json("auth", "status")["member"] is None
    registry.start()
    ada.json("benchmark", "ls")
    assert ada.json("auth", "status")["member"]["email"] == "bob@example.org"


@pytest.fixture
def own_registry_member(registry: Registry, tmp_path: Path) -> tuple[Registry, Member]:
    """An empty registry to stop and start, and Ada, who is a member of it."""
    return registry, Member(tmp_path / "ada", registry.url, registry.token_for("ada@example.org"))


def test_a_container_in_development_is_asked_for_and_one_in_operation_is_not(
    consortium: Consortium, owner: Member
) -> None:
    draft = submit(consortium, owner, f"draft-{next(_numbers)}")
    final = submit(consortium, owner, f"final-{next(_numbers)}", "--operational")
    owner.json("test", "run", "--benchmark", "1", "--model", str(final))
    log = consortium.registry.log
    log.write_text("")
    owner.json("test", "run", "--benchmark", "1", "--model", str(final))
    assert log.read_text() == ""
    owner.json("test", "run", "--benchmark", "1", "--model", str(draft))
    assert "/changes/" in log.read_text()


def test_a_test_finds_the_files_of_a_container_that_moved(
    consortium: Consortium, owner: Member, newcomer: Member
) -> None:
    model = submit(consortium, owner, f"moved-{next(_numbers)}", "--operational")
    newcomer.json("container", "ls")
    entity = owner.json("container", "view", str(model))
    parameters = consortium.host.folder / entity["git_parameters_url"].removeprefix(
        consortium.host.url
    )
    moved = parameters.with_name(f"moved-{parameters.name}")
    parameters.rename(moved)
    url = entity["git_parameters_url"].replace(parameters.name, moved.name)
    put(owner, f"/mlcubes/{model}/", {"git_parameters_url": url})
    assert newcomer.json("test", "run", "--benchmark", "1", "--model", str(model))["passed"]


def put(member: Member, path: str, body: dict[str, object]) -> None:
    """Change an entity in a way for which there is no command yet."""
    url, token = (member.environment[name] for name in ("MEDPERF_SERVER_URL", "MEDPERF_TOKEN"))
    from medperf_client.registry.client import Registry as Client

    Client(url, token).put(path, body, f"key-{next(_numbers)}")


def test_the_copy_follows_what_is_made_changed_and_deleted(
    own_registry_member: tuple[Registry, Member],
) -> None:
    registry, ada = own_registry_member
    token = registry.token_for("ada@example.org")
    uids = [make_container(registry.url, token, number) for number in range(5)]
    assert names(ada, "container", "ls") == [f"made-{number}" for number in range(5)]
    put(ada, f"/mlcubes/{uids[0]}/", {"name": "renamed"})
    delete(registry.url, registry.token_for("admin@example.org", admin=True), uids[1])
    assert names(ada, "container", "ls") == ["renamed", "made-2", "made-3", "made-4"]
    gone = ada.run("container", "view", str(uids[1]))
    assert gone.returncode == 2 and "See: medperf container ls" in gone.stderr


def make_container(url: str, token: str, number: int) -> int:
    """A container in a registry, as cheaply as can be."""
    from medperf_client.registry.client import Registry as Client

    body = {
        **{
            "name": f"made-{number}",
            "git_mlcube_url": "http://h/c",
            "mlcube_hash": f"{number:064}",
        },
        **{"image_hash": f"{number:064x}"},
    }
    return int(Client(url, token).post("/mlcubes/", body, f"make-{number}")["id"])


def delete(url: str, token: str, uid: int) -> None:
    """Delete a container, as an administrator."""
    import requests

    headers = {"Authorization": f"Bearer {token}"}
    assert requests.delete(f"{url}/api/v0/mlcubes/{uid}/", headers=headers, timeout=30).ok


def test_a_first_pull_of_many_pages_goes_on_where_it_was_cut(
    own_registry_member: tuple[Registry, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, ada = own_registry_member
    token = registry.token_for("ada@example.org")
    for number in range(12):
        make_container(registry.url, token, number)
    monkeypatch.setattr("medperf_client.exchange.sync.PAGE_SIZE", 3)
    monkeypatch.setenv("MEDPERF_SERVER_URL", registry.url)
    monkeypatch.setenv("MEDPERF_TOKEN", token)
    home = Home(ada.home, ada.home / "cache")
    site = Site(home)
    get, asked = site.registry.get, []

    def cut_off(path: str, *args: object, **params: object) -> object:
        asked.append(params.get("since"))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return get(path, *args, **params)  # type: ignore[arg-type]

    monkeypatch.setattr(site.registry, "get", cut_off)
    with pytest.raises(KeyboardInterrupt):
        site.freshen()
    cut = len(site.catalog.all("mlcube"))
    assert 0 < cut < 12 and site.catalog.fetched_at is None
    resumed = Site(home)
    assert resumed.catalog.cursor == asked[3]
    resumed.freshen()
    assert len(resumed.catalog.all("mlcube")) == 12


def test_pulls_at_once_end_with_what_the_registry_has(
    own_registry_member: tuple[Registry, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, ada = own_registry_member
    token = registry.token_for("ada@example.org")
    monkeypatch.setattr("medperf_client.exchange.sync.PAGE_SIZE", 2)
    monkeypatch.setenv("MEDPERF_SERVER_URL", registry.url)
    monkeypatch.setenv("MEDPERF_TOKEN", token)
    home, failures = Home(ada.home, ada.home / "cache"), []

    def pull() -> None:
        try:
            Site(home).freshen()
        except Exception as error:
            failures.append(error)

    for number in range(9):
        make_container(registry.url, token, number)
        pulls = [threading.Thread(target=pull) for _ in range(3)]
        for thread in pulls:
            thread.start()
        if number % 3 == 2:
            put(ada, f"/mlcubes/{number}/", {"name": f"renamed-{number}"})
        for thread in pulls:
            thread.join()
    assert failures == []
    here = names(ada, "container", "ls")
    fresh = Member(ada.home.parent / "fresh", registry.url, token)
    assert here == names(fresh, "container", "ls") and len(here) == 9


def test_a_name_that_is_taken_is_refused_in_the_registry_s_words(
    consortium: Consortium, owner: Member
) -> None:
    name = f"taken-{next(_numbers)}"
    submit(consortium, owner, name)
    files = consortium.container_options("model_logistic")
    done = owner.run("container", "submit", "--name", name, *files, "-y")
    assert done.returncode == 1 and done.stdout == ""
    assert "the registry refused (400): name" in done.stderr and len(done.stderr) < 2000
    # The same content under another name: the reference model is there already.
    done = owner.run("container", "submit", "--name", f"{name}-again", *files, "-y")
    assert done.returncode == 1 and "the registry refused (400): " in done.stderr
    assert names(owner, "container", "ls", "--mine") == [name]


@pytest.fixture
def requested(consortium: Consortium, owner: Member) -> Callable[[], tuple[str, ...]]:
    """Makes requests of new models of the owner to join benchmark 1; the options that name one."""

    def request() -> tuple[str, ...]:
        model = submit(consortium, owner, f"asking-{next(_numbers)}", "--operational")
        owner.does("container", "associate", "--benchmark", "1", "--model-uid", str(model), "-y")
        return ("--benchmark", "1", "--model_uid", str(model))

    return request


def test_the_committee_decides_and_the_owner_sees_it(
    consortium: Consortium, owner: Member, requested: Callable[[], tuple[str, ...]]
) -> None:
    committee = consortium.member("committee", home="deciding-committee")
    approved, rejected, withdrawn = requested(), requested(), requested()
    mine = owner.run("association", "approve", *approved, "-y")
    assert mine.returncode == 1 and "the registry refused (400)" in mine.stderr
    unsure = committee.run("association", "approve", *approved, answers="n\n")
    assert unsure.returncode == 1 and "Nothing was sent." in unsure.stderr
    said = committee.does("association", "approve", *approved, answers="y\n")
    assert "approval_status is APPROVED" in said
    refusal = committee.json("association", "reject", *rejected, "--reason", "No docs", "-y")
    assert (refusal["approval_status"], refusal["reason"]) == ("REJECTED", "No docs")
    owner.does("association", "reject", *withdrawn, "-y")
    committee.does("association", "set_priority", *approved, "--priority", "7")
    mine = owner.run("association", "set_priority", *approved, "--priority", "8")
    assert mine.returncode == 1 and "the registry refused (403)" in mine.stderr
    seen = {(a["approval_status"], a["priority"]) for a in owner.json("association", "ls", "-bm")}
    assert seen == {("APPROVED", 7), ("REJECTED", 0)}
    for status, count in zip(STATES, (0, 1, 2), strict=True):
        assert len(owner.json("association", "ls", "--status", status.lower())) == count
    late = committee.run("association", "approve", *rejected, "-y")
    assert late.returncode == 1 and "the registry refused (400)" in late.stderr
    nobody = committee.run("association", "approve", "-b", "1", "-m", "9999", "-y")
    assert nobody.returncode == 1 and "the registry refused (404)" in nobody.stderr


def test_a_request_that_the_registry_approves_at_once_is_said_to_be_approved(
    consortium: Consortium, owner: Member
) -> None:
    model = submit(consortium, owner, f"own-{next(_numbers)}", "--operational")
    approved = {"approval_status": "APPROVED", "approved_at": "2026-11-26T23:00:00Z"}
    reply = Fault(reply=json_answer(approved, "201 Created"))
    with proxy(consortium.registry.url, writes(reply)) as between:
        owner.environment["MEDPERF_SERVER_URL"] = between.url
        words = ("--benchmark", "1", "--model_uid", str(model), "-y")
        said = owner.does("container", "associate", *words)
    assert f"Container {model} in benchmark 1 is APPROVED." in said and "Requested" not in said


def test_a_reason_that_a_plain_server_does_not_keep_is_not_said_to_be_kept(
    consortium: Consortium, requested: Callable[[], tuple[str, ...]]
) -> None:
    rejected = requested()
    committee = consortium.member("committee", home="committee-at-a-plain-server")
    decided = {"approval_status": "REJECTED", "approved_at": "2026-11-26T23:00:00Z", "priority": 0}
    reply = Fault(reply=json_answer(decided))
    with proxy(consortium.registry.url, plain(reply)) as between:
        committee.environment["MEDPERF_SERVER_URL"] = between.url
        said = committee.does("association", "reject", *rejected, "--reason", "No docs", "-y")
    assert "approval_status is REJECTED. This registry keeps no reasons" in said
    assert "No docs" not in said


def test_a_benchmark_waits_for_an_administrator(consortium: Consortium, owner: Member) -> None:
    name = f"second-{next(_numbers)}"
    words = (
        *("benchmark", "submit", "--name", name, "--description", "Another", "--operational"),
        *("--demo-url", f"{consortium.host.url}assets/demo_data.tar.gz"),
        *("--data-preparation-container", "1", "--reference-model-container", "2"),
        *("--evaluator-container", "3"),
    )
    assert owner.run(*words, answers="n\n").returncode == 1
    made = owner.json(*words, "-y")
    assert made["approval_status"] == "PENDING" and made["metadata"]["test_result"]["auroc"] > 0.9
    assert names(owner, "benchmark", "ls", "--mine") == [name]
    uid = str(made["id"])
    assert f"name: {name}" in owner.does("benchmark", "view", uid)
    denied = owner.run("benchmark", "approve", uid, "-y")
    assert denied.returncode == 1 and "the registry refused (4" in denied.stderr
    administrator = consortium.member("administrator", admin=True, home=f"admin-{uid}")
    assert "REJECTED" in administrator.does("benchmark", "reject", uid, "-y")
    assert administrator.run("benchmark", "approve", uid, "-y").returncode == 1
    assert owner.json("benchmark", "view", uid)["approval_status"] == "REJECTED"


def test_a_private_benchmark_waits_with_its_invitation_and_is_shown_to_the_invited_alone(
    consortium: Consortium, owner: Member
) -> None:
    name = f"private-{next(_numbers)}"
    invited, stranger = (consortium.member(f"{who}-to-{name}") for who in ("invited", "stranger"))
    owner.does("benchmark", "fetch", "1")
    made = owner.json(
        *("benchmark", "submit", "--offline", "--name", name, "--private", "-y"),
        *("--demo-url", f"{consortium.host.url}assets/demo_data.tar.gz"),
        *("--data-preparation-container", "1", "--reference-model-container", "2"),
        *("--evaluator-container", "3"),
    )
    email = f"invited-to-{name}@example.org"
    owner.does("benchmark", "invite", made["id"], email, "--offline")
    owner.does("sync")
    assert name in names(owner, "benchmark", "ls") and name in names(invited, "benchmark", "ls")
    assert name not in names(stranger, "benchmark", "ls")
    (uid,) = (b["id"] for b in owner.json("benchmark", "ls", "--mine") if b["name"] == name)
    again = owner.run("benchmark", "invite", str(uid), email)
    assert again.returncode == 1 and "is invited already" in again.stderr
    owner.does("benchmark", "invite", str(uid), f"stranger-to-{name}@example.org")
    assert name in names(stranger, "benchmark", "ls")


def test_names_of_other_members_cannot_steer_the_terminal(
    consortium: Consortium, newcomer: Member
) -> None:
    # Our registry refuses such a name; another, or an old one, may have taken it.
    newcomer.does("sync")
    newcomer.environment["MEDPERF_OFFLINE"] = "1"
    site = Site(Home(newcomer.home, newcomer.home / "cache"), offline=True)
    site.profile = replace(site.profile, server_url=consortium.registry.url)
    catalog = site.catalog
    catalog.put("mlcube", {**catalog.get("mlcube", 1), "name": "rude-\u202e\x9b31m"})
    for words in (("container", "ls"), ("container", "view", "1")):
        shown = newcomer.does(*words)
        assert "rude-" in shown
        assert all(char.isprintable() or char == "\n" for char in shown)
    as_json = newcomer.run("container", "ls", "--json")
    assert as_json.stdout.isascii() and "\\u202e" in as_json.stdout
