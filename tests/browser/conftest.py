"""A browser, people at it, and a registry with something on every page."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.consortium import Consortium, filled
from tests.support.browser import Visit, Visitor, chromium
from tests.support.registry import Registry


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The machine's Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def cookies() -> dict[str, Any]:
    """The cookies of who has signed in, by token."""
    return {}


@pytest.fixture
def visit(browser: Browser, cookies: dict[str, Any]) -> Iterator[Visit]:
    """Visitors with a browser each: `visit(registry, token)`; signed out without a token.

    At the end of the test nothing may have gone wrong in any of their browsers.
    """
    visitors: list[Visitor] = []

    def visit(registry: Registry, token: str = "") -> Visitor:
        visitors.append(visitor := Visitor(browser, registry.url, cookies.get(token, ())))
        if token and token not in cookies:
            visitor.signs_in(token)
            cookies[token] = visitor.context.cookies()
        return visitor

    yield visit
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    for visitor in visitors:
        visitor.context.close()
    assert not complaints


@pytest.fixture(scope="package")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A registry that has been in use for a while."""
    for registry in Registry.serving(tmp_path_factory.mktemp("registry")):
        yield filled(registry)
