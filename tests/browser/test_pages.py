"""Every page can be read and used by anyone, and nothing on it goes wrong."""

from collections.abc import Callable

import pytest

from tests.browser.consortium import Consortium
from tests.support.browser import Visit

# Who looks at each page, and where it is.
Page = tuple[str, Callable[[Consortium], str]]
PAGES: dict[str, Page] = {
    "sign_in": ("", lambda _: "/sign-in"),
    "invitation": ("", lambda c: f"/invitations/{c.invitation}"),
    "home": ("admin", lambda _: "/"),
    "benchmarks": ("models", lambda _: "/benchmarks/"),
    "benchmark": ("admin", lambda c: f"/benchmarks/{c.pending_benchmark}"),
    "leaderboard": ("models", lambda c: f"/benchmarks/{c.benchmark}/leaderboard?metric=auroc"),
    "containers": ("models", lambda _: "/containers/"),
    "container": ("models", lambda _: "/containers/3"),
    "associations": ("committee", lambda _: "/associations/"),
    "association": ("committee", lambda c: f"/associations/{c.pending}"),
    "datasets": ("models", lambda _: "/datasets/"),
    "my_datasets": ("site", lambda _: "/datasets/mine"),
    "dataset": ("site", lambda c: f"/datasets/{c.preparing}"),
    "dataset_associations": ("committee", lambda _: "/dataset-associations/"),
    "dataset_association": ("committee", lambda c: f"/dataset-associations/{c.asking}"),
    "keys": ("committee", lambda _: "/keys/"),
    "results": ("committee", lambda _: "/results/"),
    "result": ("site", lambda c: f"/results/{c.result}"),
    "notices": ("committee", lambda _: "/notices/"),
    "stop_mail": ("", lambda c: c.stop),
    "tokens": ("models", lambda _: "/tokens/"),
    "admin": ("admin", lambda _: "/admin/"),
    "admin_member": ("admin", lambda _: "/admin/members/3"),
    "admin_tokens": ("admin", lambda _: "/admin/tokens"),
    "admin_invitations": ("admin", lambda _: "/admin/invitations"),
    "audit": ("admin", lambda _: "/admin/audit"),
}
# The same pages where there is more on them, less, or something else.
MORE: dict[str, Page] = {
    "home-committee": ("committee", lambda _: "/"),
    "home-model-owner": ("models", lambda _: "/"),
    "home-data-owner": ("site", lambda _: "/"),
    "home-newcomer": ("newcomer", lambda _: "/"),
    "benchmark-approved": ("committee", lambda c: f"/benchmarks/{c.benchmark}"),
    "benchmark-private": ("committee", lambda c: f"/benchmarks/{c.private_benchmark}"),
    "leaderboard-sites": ("committee", lambda c: f"/benchmarks/{c.benchmark}/leaderboard"),
    "leaderboard-ranked": ("judges", lambda c: f"{c.ranked.page}?withdrawn=true"),
    "leaderboard-own": ("clinic", lambda c: c.ranked.page),
    "leaderboard-empty": ("models", lambda c: f"/benchmarks/{c.private_benchmark}/leaderboard"),
    "container-preparing": ("models", lambda c: f"/containers/{c.draft}"),
    "dataset-public": ("models", lambda c: f"/datasets/{c.preparing}"),
    "my-datasets-empty": ("newcomer", lambda _: "/datasets/mine"),
    "notices-empty": ("newcomer", lambda _: "/notices/"),
    "results-empty": ("newcomer", lambda _: "/results/"),
    "associations-empty": ("newcomer", lambda _: "/associations/"),
    "association-odd": ("models", lambda c: f"/associations/{c.odd}"),
    "association-decided": ("models", lambda _: "/associations/5"),
    "audit-found": ("admin", lambda _: "/admin/audit?q=committee&action=updated"),
}
EVERY = {**PAGES, **MORE}


def test_every_page_is_looked_at(consortium: Consortium) -> None:
    rules = consortium.registry.app.url_map.iter_rules()
    pages = {
        rule.endpoint.removeprefix("web.")
        for rule in rules
        if rule.endpoint.startswith("web.") and "GET" in (rule.methods or ())
    }
    assert pages - {"static"} == PAGES.keys()


@pytest.mark.parametrize("name", EVERY)
def test_a_page_has_no_barriers(name: str, consortium: Consortium, visit: Visit) -> None:
    who, where = EVERY[name]
    visitor = visit(consortium.registry, consortium.token(who))
    response = visitor.page.goto(where(consortium))
    assert response is not None and response.status == 200
    assert visitor.examine(name) == []


def test_a_page_that_is_not_there_has_no_barriers(consortium: Consortium, visit: Visit) -> None:
    visitor = visit(consortium.registry, consortium.token("models"))
    visitor.expected = {404}
    visitor.opens("/benchmarks/999")
    assert visitor.sees("There is no such page")
    assert visitor.examine("missing") == []


def test_a_refused_sign_in_has_no_barriers(consortium: Consortium, visit: Visit) -> None:
    visitor = visit(consortium.registry)
    visitor.expected = {401}
    visitor.signs_in("mpt_wrong")
    assert visitor.sees("This is not a valid token")
    assert visitor.examine("sign_in-refused") == []


def test_a_feed_that_was_made_has_no_barriers(consortium: Consortium, visit: Visit) -> None:
    visitor = visit(consortium.registry, consortium.token("clinic"))
    visitor.opens("/notices/")
    visitor.clicks("Make a feed")
    assert visitor.sees("The address of your feed, shown this once")
    assert visitor.examine("notices-feed") == []


def test_a_mail_that_was_stopped_has_no_barriers(consortium: Consortium, visit: Visit) -> None:
    visitor = visit(consortium.registry)
    visitor.opens(consortium.stop)
    visitor.clicks("Stop all mails")
    assert visitor.sees("You are mailed nothing any more")
    assert visitor.examine("stop_mail-done") == []


# No label, a colour that is legible in light alone, a page too wide for a phone, what is forbidden
# by the Content-Security-Policy, and a file that is not there.
SABOTAGE = """() => {
    document.querySelector("label[for=token]").remove();
    document.querySelector("h1").style.color = "#444";
    document.querySelector(".brand").style.paddingRight = "500px";
    const image = "<img alt='' src='/static/none' onerror='0'>";
    document.body.insertAdjacentHTML("beforeend", image);
}"""


def test_barriers_are_found(consortium: Consortium, visit: Visit) -> None:
    visitor = visit(consortium.registry)
    visitor.opens("/sign-in").evaluate(SABOTAGE)
    wrong = visitor.examine("barriers")
    for told in (
        "barriers at 400 px is",
        "barriers, light, 400 px: Form elements must have labels",
        "barriers, light, 1280 px: Form elements must have labels",
        "barriers, dark, 400 px: Elements must meet minimum color contrast",
        "barriers, dark, 1280 px: Elements must meet minimum color contrast",
    ):
        (found,) = [one for one in wrong if one.startswith(told)]
        wrong.remove(found)
    assert wrong == []
    for told in ("Content Security Policy", "status of 404"):
        assert any(told in complaint for complaint in visitor.complaints)
    visitor.complaints.clear()
