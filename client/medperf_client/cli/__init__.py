"""The `medperf` command: groups of commands, loaded when called; errors for people; exit codes."""

import signal
import sys
from typing import NoReturn

import click

from medperf_client.cli.base import Group
from medperf_client.errors import FAILED, MedPerfError

COMMANDS = {
    "auth": "Log in to a registry, and out.",
    "profile": "Choose a registry and how to work with it.",
    "benchmark": "See benchmarks, and submit one.",
    "container": "See, write, submit and associate containers.",
    "association": "Follow and decide association requests.",
    "test": "Test a container's compatibility with a benchmark.",
    "storage": "Look after the local cache.",
    "completion": "Complete commands in your shell.",
}
INTERRUPTED = 130


@click.group(cls=Group, modules=COMMANDS)
@click.version_option(package_name="medperf-offline", prog_name="medperf")
def medperf() -> None:
    """Evaluate medical AI models without the data leaving the building; with no network too.

    \b
    Example:
      medperf benchmark ls
      medperf test run --benchmark 1 --model my_model/container_config.yaml
    """


def run() -> NoReturn:
    """Run the command line and exit: 0 ok, 1 failed, 2 usage, 3 queued, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = medperf.main(prog_name="medperf", standalone_mode=False)
        # Click returns the code of `ctx.exit()`, and what a command returns, which is nothing.
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nInterrupted. Nothing was left half-done.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]
        sys.exit(FAILED)
    except MedPerfError as error:
        _explain(str(error), error.hint)
        sys.exit(error.exit_code)
    except Exception as error:
        # Imported late: only a failure that no layer foresaw comes here.
        from medperf_client.cli.base import foreseen

        message = foreseen(error)
        if message is None:
            raise
        _explain(message, "")
        sys.exit(FAILED)


def _explain(message: str, hint: str) -> None:
    click.echo(f"Error: {message}", err=True)
    if hint:
        click.echo(hint, err=True)
