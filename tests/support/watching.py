"""Sites that watch their registry, for tests to hear what they say."""

import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.hospital import Hospital

PATIENCE_SECONDS = 240


class Watching:
    """A site that watches its registry, looking every second."""

    def __init__(self, hospital: Hospital) -> None:
        self.process = hospital.member.start("sync", "--watch", "--interval", "1")
        self.said: list[str] = []
        # Whoever waits for a line that never comes is told by the end of the stream.
        self._timer = threading.Timer(PATIENCE_SECONDS, self.process.kill)
        self._timer.start()

    def says(self, words: str, err: bool = False) -> str:
        """The next line with these words."""
        stream = self.process.stderr if err else self.process.stdout
        assert stream is not None
        for line in stream:
            self.said.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words!r} was never said: {self.said}")

    def end(self) -> tuple[str, str]:
        """What it said since it was last heard, once it has ended as it is asked."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        self.kill()
        return out, err

    def kill(self) -> None:
        """End it at once."""
        self._timer.cancel()
        self.process.kill()
        self.process.communicate()
        self._timer.join()


@pytest.fixture
def watch(hospital: Hospital) -> Iterator[Callable[[], Watching]]:
    """Starts sites that watch, and do not outlive the test."""
    started: list[Watching] = []

    def start() -> Watching:
        started.append(Watching(hospital))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()
