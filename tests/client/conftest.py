"""A consortium that has the tutorial's benchmark, and newcomers to it."""

from tests.support.commands import prepared, traveller, waiting
from tests.support.consortium_fixtures import (
    beginning,
    consortium,
    model_copy,
    newcomer,
    own_consortium,
)
from tests.support.hospital import hospital
from tests.support.watching import watch

__all__ = [
    "beginning",
    "consortium",
    "hospital",
    "model_copy",
    "newcomer",
    "own_consortium",
    "prepared",
    "traveller",
    "waiting",
    "watch",
]
