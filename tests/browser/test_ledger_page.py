"""The page of a ledger can be read by anyone, on a screen and on paper."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from medperf_client.ledger.audit import export
from medperf_client.ledger.records import Ledger, Upload
from tests.support.browser import OVERFLOW, Visitor

# What of an A4 page in landscape lies between its margins, in CSS pixels.
PAPER_WIDTH = 1030


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger of a hundred results and of one of everything else, and of long words."""
    ledger = Ledger(tmp_path / "ledger", "https://registry.example.org", lambda: {"email": "a@b.c"})
    for number in range(100):
        body = json.dumps({"name": f"b1m{number}d1", "results": {"auroc": 0.9}}).encode()
        line = ledger.write("POST", "/results/", body, f"{number:036}")
        ledger.answered(line, 201, b"{}", {"id": number + 1}, "")
    ledger.failed(ledger.write("PUT", "/datasets/1/", b"x" * 5000, "0" * 36), "no answer in time")
    refused = ledger.write("POST", "/benchmarks/", b"{}", "1" * 36)
    ledger.answered(refused, 400, b"{}", {}, f"name: {'long' * 100}")
    ledger.write("PATCH", "/assets/uploads/1/", b"", None, Upload("a" * 64, 10, 5))
    with ledger.exporting("bundle", tmp_path / ("long" * 20)) as watch:
        watch.begin(b"{}")
        watch.seal("b" * 64, 123456)
    return ledger


@pytest.mark.parametrize("changed", [False, True], ids=["sound", "changed"])
@pytest.mark.parametrize("bodies", [False, True], ids=["list", "bodies"])
def test_the_page_of_a_ledger_has_no_barriers(
    browser: Browser, ledger: Ledger, tmp_path: Path, bodies: bool, changed: bool
) -> None:
    if changed:
        lines = tmp_path / "ledger" / "lines.jsonl"
        lines.write_text(lines.read_text().replace("b1m50d1", "b1m51d1"))
    page = tmp_path / "audit.html"
    verdict = export(ledger, "https://registry.example.org", page, "html", bodies)
    assert bool(verdict.findings) == changed
    visitor = Visitor(browser, page.as_uri())
    visitor.opens(page.as_uri())
    assert visitor.sees("line 102 was changed") == changed
    assert visitor.examine(f"ledger-{bodies}-{changed}") == []
    visitor.page.emulate_media(media="print")
    visitor.page.set_viewport_size({"width": PAPER_WIDTH, "height": 800})
    assert visitor.page.evaluate(OVERFLOW) == 0
    assert visitor.page.locator("tbody tr").count() == 104
    assert visitor.complaints == []
    visitor.context.close()
