"""The `medperf` command: groups of commands, loaded when called; errors for people; exit codes."""

import io
import os
import signal
import sys
from typing import NoReturn

import click

from medperf_client.cli.base import Group
from medperf_client.cli.text import plain
from medperf_client.errors import FAILED, MedPerfError

COMMANDS = {
    "auth": "Log in to a registry, and out.",
    "profile": "Choose a registry and how to work with it.",
    "benchmark": "See benchmarks, and submit one.",
    "container": "See, write, submit and associate containers.",
    "dataset": "Register data, prepare them, and have them take part in a benchmark.",
    "run": "Run one model of a benchmark on a dataset.",
    "jobs": "See the jobs that run models in a queue, and end them.",
    "result": "See what models gave on your data, and release it.",
    "policy": "See and try what your site lets run, and lets leave it.",
    "key": "Make keys that sign the results you release, and see those of others.",
    "association": "Follow and decide association requests.",
    "test": "Test a container's compatibility with a benchmark.",
    "queue": "See what waits to be sent, and mend what was refused.",
    "sync": "Send the queue, then learn what is new.",
    "ledger": "See what left this site, and prove that nobody changed the record of it.",
    "bundle": "Carry cache, catalog and queue in a file, where no network leads.",
    "storage": "Look after the local cache.",
    "completion": "Complete commands in your shell.",
}
# MedPerf's older word for containers, which its command line still takes.
OLDER = {"mlcube": "container"}
INTERRUPTED = 130


@click.group(cls=Group, modules=COMMANDS, older=OLDER)
@click.version_option(package_name="medperf-offline", prog_name="medperf")
def medperf() -> None:
    """Evaluate medical AI models without the data leaving the building; with no network too.

    \b
    Example:
      medperf benchmark ls
      medperf test run --benchmark 1 --model my_model/container_config.yaml
    """


def main() -> NoReturn:
    """Run the command line and exit: 0 ok, 1 failed, 2 usage, 3 queued, 130 interrupted."""
    _prepare_process()
    try:
        code = medperf.main(prog_name="medperf", standalone_mode=False)
        # Click returns the code of `ctx.exit()`, and what a command returns, which is nothing.
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _explain("\nInterrupted. Nothing was left half-done.")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _leave_stdout()
        sys.exit(FAILED)
    except MedPerfError as error:
        _explain(f"Error: {error}", error.hint)
        sys.exit(error.exit_code)
    except Exception as error:
        # Imported late: only a failure that no layer foresaw comes here.
        from medperf_client.cli.base import foreseen

        known = foreseen(error)
        if known is None:
            raise
        _explain(f"Error: {known}", known.hint)
        _leave_stdout()
        sys.exit(FAILED)


def _prepare_process() -> None:
    """Signals that ask to end do what Ctrl-C does; text that cannot be shown does no harm."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup has the hang-up ignored, and it stays so.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    # A stream that was closed is None, which much of Python cannot bear.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115, for as long as the process lives
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _leave_stdout() -> None:
    """Have nobody write at the end what stdout did not take: that would be another error."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = None  # type: ignore[assignment]


def _explain(*lines: str) -> None:
    for line in lines:
        if line:
            # Words of others are in it: a registry's, a container's.
            click.echo(plain(line), err=True)
