"""People at a real Chromium: nothing on any page may go wrong while they look at it."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.services import require

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SCHEMES = ("light", "dark")
PHONE, DESK = 400, 1280
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
    # Only rules for media and style sheets of other sites need it, and it takes half the time.
    "preload": False,
}
# All that differs between the schemes.
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
VIOLATIONS = "rules => axe.run(rules).then(results => results.violations)"
# A page that scrolls sideways as a whole; tables that do so for themselves are fine.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's Chromium; skips or fails by the rule of `require` without one."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    require("chromium", program is not None, f"none of {', '.join(PROGRAMS)} is installed")
    with sync_playwright() as playwright:
        # Containers of CI services often lack the rights that the sandbox needs.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """Somebody with a browser of their own, on a registry.

    `complaints` lists what the browser complained about: errors in scripts, what the
    Content-Security-Policy refused, files that were not there.
    """

    def __init__(self, browser: Browser, url: str, cookies: Sequence[Any] = ()) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(
            base_url=url, viewport={"width": DESK, "height": 800}
        )
        self.context.set_default_timeout(20_000)
        self.context.add_cookies(cookies)
        self.complaints: list[str] = []
        # Statuses of pages that a test asks for knowingly; the browser logs them as errors.
        self.expected: set[int] = set()
        self.page: Page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: Any) -> None:
        if message.type not in ("error", "warning"):
            return
        if not any(f"status of {status} " in message.text for status in self.expected):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def opens(self, path: str) -> Page:
        """Look at a page of the registry."""
        self.page.goto(path)
        return self.page

    def signs_in(self, token: str) -> None:
        """Sign in with a token."""
        self.opens("/sign-in")
        self.page.get_by_label("Token").fill(token)
        self.clicks("Sign in")

    def clicks(self, name: str) -> None:
        """Press the button with exactly this name."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def follows(self, name: str) -> None:
        """Follow the first link with exactly this name."""
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def sees(self, text: str) -> bool:
        """Whether a text is to be seen on the page."""
        return self.page.get_by_text(text).first.is_visible()

    def told(self) -> str:
        """What the page begins with: the outcome of the form that led to it."""
        return self.page.get_by_role("status").inner_text()

    def row(self, text: str) -> list[str]:
        """The cells of the only row of a table whose header is this text, or begins with it."""
        header = re.compile(rf"^{re.escape(text)}\b(?!/)")
        row = self.page.locator("tbody tr", has=self.page.locator("th", has_text=header))
        row.first.wait_for()
        return [cell.strip() for cell in row.locator("th, td").all_inner_texts()]

    def examine(self, name: str) -> list[str]:
        """What is wrong with the present page: axe's violations, and what is too wide.

        Light and dark, on a phone and at a desk. Leaves screenshots called `name` in the folder
        that MEDPERF_TEST_SCREENSHOTS names, if it does.
        """
        wrong = []
        self.page.evaluate(Axe().axe_script)
        for width in (PHONE, DESK):
            self.page.set_viewport_size({"width": width, "height": 800})
            if (pixels := self.page.evaluate(OVERFLOW)) > 0:
                wrong.append(f"{name} at {width} px is {pixels} px too wide")
            for scheme in SCHEMES:
                self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                rules = RULES if scheme == "light" else {**RULES, **COLOURS}
                found = self.page.evaluate(VIOLATIONS, rules)
                wrong += [_told(f"{name}, {scheme}, {width} px", one) for one in found]
                self._photograph(f"{name}-{width}-{scheme}.png")
        return wrong

    def _photograph(self, name: str) -> None:
        if folder := os.environ.get("MEDPERF_TEST_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / name, full_page=True)


def _told(where: str, violation: dict[str, Any]) -> str:
    nodes = [f"{node['html'][:200]} {node['failureSummary']}" for node in violation["nodes"][:3]]
    return f"{where}: {violation['help']} ({violation['id']}): {'; '.join(nodes)}"


Visit = Callable[..., Visitor]
