"""A log keeps its beginning and its end, in order at any time, and bounds what is between."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from medperf_client.containers.logs import BoundedLog, piped

HEAD, TAIL = 10, 20
NOTE = len("\n... 1234567 bytes are left out here ...\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for logs."""
    return tmp_path_factory.mktemp("logs")


@given(some.lists(some.integers(0, 70), max_size=30))
def test_what_is_too_long_loses_its_middle_and_says_how_much(
    folder: Path, sizes: list[int]
) -> None:
    path, written = folder / "log", b""
    with BoundedLog(path, HEAD, TAIL) as log:
        for number, size in enumerate(sizes):
            chunk = bytes([ord("a") + number % 26]) * size
            log.write(chunk)
            written += chunk
            found = path.read_bytes()
            assert found.startswith(written[:HEAD]) and found.endswith(written[-TAIL:])
            assert len(found) <= HEAD + NOTE + 2 * TAIL
    found = path.read_bytes()
    if len(written) <= HEAD + TAIL:
        assert found == written
    else:
        left_out = len(written) - HEAD - TAIL
        note = b"\n... %d bytes are left out here ...\n" % left_out
        assert found == written[:HEAD] + note + written[-TAIL:]


def test_who_took_the_descriptor_along_is_not_waited_for(tmp_path: Path) -> None:
    with piped(tmp_path / "log") as log:
        os.write(log, b"said")
        daemon = subprocess.Popen(["sh", "-c", "yes"], stdout=log, start_new_session=True)
    # It writes to nobody now.
    assert daemon.wait(timeout=30) != 0
    assert (tmp_path / "log").read_bytes().startswith(b"said")
