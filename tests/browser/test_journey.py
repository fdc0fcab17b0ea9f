"""From an invitation to an approved model, in browsers and at shells, without the API by hand."""

from pathlib import Path

import pytest

from tests.support.browser import Visit, Visitor
from tests.support.consortium import Consortium, Member
from tests.support.registry import Registry


@pytest.fixture
def consortium(tmp_path: Path, registry: Registry) -> Consortium:
    """The tutorial's files, hosted; the registry knows none of them."""
    return Consortium(tmp_path, registry, "process")


def invites(admin: Visitor, email: str) -> str:
    """The link of a new invitation, as the page that shows it once has it."""
    admin.opens("/admin/invitations").get_by_label("E-mail address").fill(email)
    admin.clicks("Make a link")
    return admin.page.locator("section code", has_text="/invitations/").inner_text()


def joins(guest: Visitor, link: str, consortium: Consortium) -> Member:
    """Accept an invitation, and log in at a shell with the token that is shown once."""
    guest.opens(link)
    guest.clicks("Accept and sign in")
    token = guest.page.locator("section code", has_text="mpf_").inner_text()
    home = consortium.folder / "homes" / token[-8:]
    member = Member(home, consortium.registry.url)
    home.parent.mkdir(exist_ok=True)
    member.does("auth", "login", answers=f"{token}\n")
    member.does("profile", "set", "allow_process", "true")
    return member


def submits_the_benchmark(at_shell: Member, consortium: Consortium) -> None:
    """The tutorial's three containers, and the benchmark of them."""
    for name in ("data_preparator", "model_logistic", "metrics"):
        files = consortium.container_options(name)
        at_shell.does("container", "submit", "--name", name, *files, "--operational", "-y")
    at_shell.does(
        *("benchmark", "submit", "--name", "breast-cancer", "--operational", "-y"),
        *("--demo-url", f"{consortium.host.url}assets/demo_data.tar.gz"),
        *("--data-preparation-container", "1", "--reference-model-container", "2"),
        *("--evaluator-container", "3"),
    )


def test_from_an_invitation_to_an_approved_model(consortium: Consortium, visit: Visit) -> None:
    registry = consortium.registry
    made = registry.command("user", "add", "admin@example.org", "--admin", "--quiet")
    admin, committee, owner = visit(registry, made.strip()), visit(registry), visit(registry)

    link = invites(admin, "committee@example.org")
    wrong = admin.examine("invitation-made")
    committee_shell = joins(committee, link, consortium)
    wrong += committee.examine("welcome")
    submits_the_benchmark(committee_shell, consortium)

    admin.opens("/")
    admin.follows("breast-cancer")
    admin.clicks("Approve")
    assert admin.told() == "breast-cancer is approved."

    owner_shell = joins(owner, invites(admin, "owner@example.org"), consortium)
    files = consortium.container_options("model_mlp")
    owner_shell.does("container", "submit", "--name", "my-model", *files, "--operational", "-y")
    owner_shell.does("container", "associate", "--benchmark", "1", "--model_uid", "4", "-y")
    owner.opens("/")
    assert owner.row("Request 1")[1:4] == ["pending", "my-model", "breast-cancer"]

    committee.opens("/")
    committee.follows("Request 1")
    _, ours, reference, _ = committee.row("auroc")
    assert float(ours) > 0.95 and float(reference) > 0.9
    assert [committee.row(step)[0] for step in ("prepare", "infer", "evaluate")]
    committee.page.get_by_label("Reason").fill("Better than ours.")
    committee.clicks("Approve")
    assert committee.told() == "The request is approved."

    owner.opens("/associations/")
    state, *_, reason = owner.row("Request 1")[1:]
    assert (state, reason) == ("approved", "Better than ours.")
    owner.opens("/benchmarks/1/leaderboard?metric=auroc")
    assert owner.row("my-model")[0] in ("1", "2") and "reference" in owner.row("model_logistic")[1]
    (association,) = owner_shell.json("association", "ls", "-bm")
    assert (association["approval_status"], association["reason"]) == ("APPROVED", reason)

    owner.opens("/tokens/").get_by_label("Name, such as the machine's").fill("workstation")
    owner.clicks("Make a token")
    wrong += owner.examine("token-made")
    assert wrong == []

    late = visit(registry)
    late.expected = {404}
    late.opens(link)
    assert late.sees("This invitation was used")
    consortium.host.stop()
