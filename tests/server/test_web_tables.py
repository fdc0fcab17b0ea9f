"""Tables on pages: searched, sorted and paged, whatever a query says."""

import html
import re

import pytest

from medperf_server.base import db
from medperf_server.kinds.container.table import Container
from tests.server.visitor import Visitor, signed_in
from tests.support.api import NUMBERS, Member
from tests.support.registry import Registry

ROWS = 25
Filled = tuple[str, list[str]]


@pytest.fixture
def visitor(served: Registry, stranger: Member) -> Visitor:
    """A member with a browser."""
    visitor = signed_in(stranger)
    return visitor


@pytest.fixture
def filled(served: Registry, stranger: Member) -> Filled:
    """Sixty containers, three pages of them: what their names begin with, and the names."""
    prefix = f"table{next(NUMBERS)}-"
    names = [f"{prefix}{number:03}" for number in range(60)]
    with served.app.app_context():
        for name in names:
            db.session.add(
                Container(
                    name=name,
                    git_mlcube_url="https://example.org/c.yaml",
                    mlcube_hash=name,
                    image_hash=name,
                    owner=stranger.uid,
                    state="OPERATION" if name.endswith("0") else "DEVELOPMENT",
                )
            )
        db.session.commit()
    return prefix, names


def shown(page: str) -> list[str]:
    """The names in the first column of a table."""
    return re.findall(r'<th scope="row"><a href="[^"]*">([^<]*)</a>', page)


def links(page: str) -> list[str]:
    """Where the links of a page lead."""
    return [html.unescape(link) for link in re.findall(r'href="([^"]*)"', page)]


def following(page: str, text: str) -> str | None:
    """Where the link with this text leads, if there is one."""
    found = re.search(rf'href="([^"]*)">{text}</a>', page)
    return html.unescape(found[1]) if found else None


def test_the_pages_of_a_table_have_every_row_once(visitor: Visitor, filled: Filled) -> None:
    prefix, names = filled
    path: str | None = f"/containers/?q={prefix}"
    found: list[str] = []
    sizes: list[int] = []
    while path:
        page = visitor.opens(path).text
        assert "60 in all" in page
        sizes.append(len(shown(page)))
        found += shown(page)
        path = following(page, "Next")
    assert sizes == [ROWS, ROWS, 10]
    assert found == names[::-1]  # The newest first.


def test_from_the_last_page_one_comes_back(visitor: Visitor, filled: Filled) -> None:
    page = visitor.opens(f"/containers/?q={filled[0]}&page=3").text
    assert following(page, "Next") is None
    back = following(page, "Previous")
    assert back is not None and len(shown(visitor.opens(back).text)) == ROWS


def test_a_page_beyond_the_last_is_the_last(visitor: Visitor, filled: Filled) -> None:
    page = visitor.opens(f"/containers/?q={filled[0]}&page=999999999999").text
    assert "page 3 of 3" in page and len(shown(page)) == 10


@pytest.mark.parametrize("column", ["name", "state", "id", "created"])
def test_a_column_sorts_both_ways(visitor: Visitor, filled: Filled, column: str) -> None:
    path = f"/containers/?q={filled[0]}&sort={column}&order="
    up, down = (visitor.opens(path + order).text for order in ("asc", "desc"))
    for page, direction in ((up, "ascending"), (down, "descending")):
        assert page.count('aria-sort="ascending"') + page.count('aria-sort="descending"') == 1
        assert f'aria-sort="{direction}"' in page
    first, last = shown(up)[0], shown(down)[0]
    if column == "state":
        assert not first.endswith("0") and last.endswith("0")
    else:
        assert (first, last) == (filled[1][0], filled[1][-1])


def test_sorting_keeps_what_was_searched(visitor: Visitor, filled: Filled) -> None:
    page = visitor.opens(f"/containers/?q={filled[0]}&state=OPERATION&page=1").text
    by_name = next(link for link in links(page) if "sort=name" in link)
    sorted_page = visitor.opens(by_name).text
    assert shown(sorted_page) == [name for name in filled[1] if name.endswith("0")]


def test_a_search_takes_capitals_and_wildcards_literally(visitor: Visitor, filled: Filled) -> None:
    prefix = filled[0]
    assert "60 in all" in visitor.opens(f"/containers/?q={prefix.upper()}").text
    for nothing in (f"{prefix}%25", f"{prefix[:-1]}__0", f"{prefix}' OR 1=1--", "\\"):
        page = visitor.opens(f"/containers/?q={nothing}")
        assert page.status_code == 200 and shown(page.text) == []
        assert "0 in all" in page.text


def test_benchmarks_are_found_by_name_and_description(visitor: Visitor, committee: Member) -> None:
    number = next(NUMBERS)
    made = committee.benchmark(name=f"Lung{number}", description=f"Nodules{number} on CT")
    for words in (f"lung{number}", f"nodules{number}"):
        assert shown(visitor.opens(f"/benchmarks/?q={words}").text) == [made["name"]]
    query = f"?q=lung{number}&approval_status="
    assert shown(visitor.opens(f"/benchmarks/{query}PENDING").text) == [made["name"]]
    assert shown(visitor.opens(f"/benchmarks/{query}APPROVED").text) == []


# A query's names are no arguments of what builds the links of a page.
@pytest.mark.parametrize(
    "query",
    [
        "endpoint=x",
        "uid=3",
        "self=1",
        "_method=DELETE",
        "_external=1",
        "_external=1&_scheme=javascript",
        "_anchor=x",
        "_scheme=https",
        "page=%F0%9F%98%80&sort=id%00",
        "q=%ff%fe",
        "order=%22%3E%3Cscript%3E",
        "page=" + "9" * 5000,
    ],
)
@pytest.mark.parametrize("path", ["/benchmarks/", "/containers/", "/associations/"])
def test_no_query_breaks_a_table_or_leads_away(visitor: Visitor, path: str, query: str) -> None:
    page = visitor.opens(f"{path}?{query}")
    assert page.status_code == 200
    assert all(link.startswith(("/", "#")) for link in links(page.text))
    assert "><script>" not in page.text


@pytest.mark.parametrize("uid", ["0", str(2**31), str(10**30), "-1", "one", "1%00"])
@pytest.mark.parametrize(
    "path",
    ["/benchmarks/{}", "/benchmarks/{}/leaderboard", "/containers/{}", "/associations/{}"],
)
def test_an_entity_that_cannot_be_is_not_there(visitor: Visitor, path: str, uid: str) -> None:
    answer = visitor.opens(path.format(uid))
    assert answer.status_code == 404 and "<h1>There is no such page</h1>" in answer.text


@pytest.mark.one_engine
@pytest.mark.parametrize("path", ["/benchmarks/", "/containers/", "/associations/", "/tokens/"])
def test_a_table_can_be_read_by_a_screen_reader_and_scrolled_by_keys(
    visitor: Visitor, path: str, filled: Filled
) -> None:
    page = visitor.opens(path).text
    assert re.search(r'role="region" aria-label="[^"]+" tabindex="0"', page)
    assert page.count("<caption>") == 1
    header = page.partition("<thead>")[2].partition("</thead>")[0]
    assert header.count("<th ") == header.count('scope="col"') > 0
    for field in re.findall(r"<(?:input|select) id=\"(\w+)\"", page):
        assert f'<label for="{field}">' in page


@pytest.mark.one_engine
def test_states_are_told_in_words(visitor: Visitor, filled: Filled) -> None:
    page = visitor.opens(f"/containers/?q={filled[0]}").text
    assert '<span class="badge operation">operation</span>' in page
    assert '<span class="badge development">development</span>' in page
