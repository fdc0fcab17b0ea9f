"""Every fuzz test is of bounded memory, and tidies up as the end of a process would."""

import gc
import resource
from collections.abc import Iterator

import pytest

MOST_KIB = 1 << 20


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """No case takes a GiB more than there was in use before."""
    gc.collect()
    # So that tidying up, after every command, looks only at what came since.
    gc.freeze()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    gc.unfreeze()
    assert taken < MOST_KIB
