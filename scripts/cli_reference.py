"""Write docs/cli.md (or another file), the reference of both commands, out of their --help."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from medperf_client.cli import medperf
from medperf_server.cli import main as medperf_server

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
HEAD = """# Commands

Written by `python scripts/cli_reference.py` out of the commands' own `--help`; do not edit.

Exit codes: 0 ok, 1 failed, 2 wrong usage, 130 interrupted.
"""


def _helps(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## `{context.command_path}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            settings = {"info_name": name, "parent": context, **child.context_settings}
            yield from _helps(child, click.Context(child, **settings))


def reference() -> str:
    """The whole reference, Markdown."""
    parts = [HEAD]
    for name, command in (("medperf", medperf), ("medperf-server", medperf_server)):
        settings = {**command.context_settings, "terminal_width": 80}
        parts += _helps(command, click.Context(command, info_name=name, **settings))
    return "\n".join(parts)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_text(reference(), encoding="utf-8")
