"""`medperf-step FOLDER`: do the step that a folder describes, and leave its record there.

It opens no cache, no queue and no connection to a registry, and knows no token: what it needs is
in `work.json` and in the files that this names. `medperf-step --element RUN NUMBER` does one
element of a run, whose steps are folders of that kind: see `executors.elements`.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from medperf_client.errors import MedPerfError, UsageError
from medperf_client.executors.records import described, do

USAGE = "usage: medperf-step [--with-parent] FOLDER, or: medperf-step --element RUN NUMBER"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Interrupt this process once the other end of its stdin is closed, or dead."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main(words: list[str] | None = None) -> int:
    """The command; its exit code."""
    words = sys.argv[1:] if words is None else words
    # Who stops it, a scheduler or a person, wants its container to end with it.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if words[:1] == ["--with-parent"]:
            words = words[1:]
            _end_with_parent()
        if words[:1] == ["--element"] and len(words) == 3 and words[2].isdecimal():
            # Imported late: a step of this machine's own needs none of it.
            from medperf_client.executors.elements import do_element

            return do_element(Path(words[1]), int(words[2]))
        if len(words) != 1 or words[0].startswith("-"):
            raise UsageError(USAGE)
        return do(described(Path(words[0])), Path(words[0]))
    except MedPerfError as error:
        print(error, error.hint, sep="\n", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main())
