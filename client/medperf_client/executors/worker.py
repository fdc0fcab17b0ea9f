"""`medperf-step FOLDER`: do the step that a folder describes, and leave its record there.

It opens no cache, no queue and no connection to a registry, and knows no token: what it needs is
in `work.json` and in the files that this names. `medperf-step --element RUN NUMBER` does one
element of a run, whose steps are folders of that kind: see `executors.elements`. `medperf-step
--each` does one after the other for a client of this machine, see `executors.local`.
"""

import io
import json
import os
import select
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

from medperf_client.errors import FAILED, OK, MedPerfError, UsageError
from medperf_client.executors.records import described, do

USAGE = "usage: medperf-step FOLDER, or: medperf-step --element RUN NUMBER"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _do_each() -> int:
    """Do the steps whose folders are lines of stdin, as JSON; each one's exit code is a line, too.

    Each is done by a process of its own, which begins with all imported and nothing else, and ends
    with this one, and once the other end of stdin is closed, or dead.
    """
    # What runs containers on any platform, so that no child imports it anew.
    from medperf_client.containers import process, supervise  # noqa: F401

    # Unbuffered: what is not read yet is nobody's but this process's.
    with io.FileIO(sys.stdin.fileno(), closefd=False) as lines:
        for line in lines:
            ours, mine = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(mine)
                _interrupted_by(sys.stdin.fileno(), ours)
                _become([json.loads(line)])
            os.close(ours)
            try:
                _, status = os.waitpid(child, 0)
            finally:
                os.close(mine)
            print(os.waitstatus_to_exitcode(status), flush=True)
    return OK


def _interrupted_by(*ends: int) -> None:
    """Interrupt this process once the other end of one of these pipes is closed, or dead."""

    def wait() -> None:
        # Nothing is written to them meanwhile.
        select.select(ends, (), ())
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _become(words: list[str]) -> NoReturn:
    """Have a process that was forked do this, and nothing of what its parent was about to do."""
    code = FAILED
    try:
        code = main(words)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(words: list[str] | None = None) -> int:
    """The command; its exit code."""
    words = sys.argv[1:] if words is None else words
    # Who stops it, a scheduler or a person, wants its container to end with it.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if words == ["--each"]:
            return _do_each()
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
    except OSError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main())
