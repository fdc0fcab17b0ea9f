"""A registry that keeps all of them."""

import os

from tests.support.forks import ROOT
from tests.support.registry import Registry


class Foresighted(Registry):
    """A registry whose list of kinds has those that are made up."""

    program = "tests.server.made_up"

    @property
    def environment(self) -> dict[str, str]:
        """That of every registry, and where the tests are."""
        known = super().environment
        return known | {"PYTHONPATH": os.pathsep.join([known["PYTHONPATH"], str(ROOT)])}
