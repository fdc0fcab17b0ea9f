"""Every fuzz test is of bounded memory, and tidies up as the end of a process would."""

import gc
import resource
from collections.abc import Iterator

import pytest

MOST_KIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def tidied() -> Iterator[None]:
    """Tidying up, after some commands, looks only at what came since."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def bounded_memory(tidied: None) -> Iterator[None]:
    """No case takes a GiB more than there was in use before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert taken < MOST_KIB
