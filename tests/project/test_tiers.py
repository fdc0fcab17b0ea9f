"""What the lists of which tests run when name is there."""

import ast
from collections.abc import Iterator

import pytest

from tests.support.forks import ROOT
from tests.support.tiers import ON_EACH_ENGINE, SECONDS, WITH_ALL, listed, unit


def known() -> Iterator[str]:
    """Every test, with parameters that few have."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for parameter in ("podman", "bucket"):
                    yield f"{path.relative_to(ROOT)}::{node.name}[{parameter}]"


@pytest.mark.parametrize("pattern", [*WITH_ALL, *ON_EACH_ENGINE])
def test_a_pattern_is_of_some_test(pattern: str) -> None:
    assert any(listed(test, (pattern,)) for test in known())


def test_what_is_said_to_take_long_is_there() -> None:
    assert set(SECONDS) <= {unit(test).partition("[")[0] for test in known()}
