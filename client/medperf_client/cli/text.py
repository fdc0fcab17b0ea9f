"""Results on stdout: JSON for scripts, tables and fields for people."""

from collections.abc import Iterable, Sequence
from typing import Any

import click

# Of a cell of a table: every row is as wide as the widest.
MOST_CHARACTERS = 500


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON document on stdout; on one line without `indent`."""
    # Imported late: help does not pay for it.
    import json

    # In ASCII: no terminal is steered by it, and any encoding holds it.
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        # What is not a number is none in JSON either, so it is a word.
        words = json.loads(json.dumps(value), parse_constant=str)
        text = json.dumps(words, indent=indent)
    click.echo(text)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns for people, as wide as their widest cell, which is cut off; None is a dash."""
    cells = [[_cut(_cell(value)) for value in row] for row in (headers, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = (
        "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
    # At once: each echo is a write of its own.
    click.echo("\n".join(lines))


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return plain(str(value)).replace("\n", " ")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def plain(text: str) -> str:
    """Text that may come from other members or machines, with nothing that steers a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def print_entity(entity: dict[str, Any], err: bool = False) -> None:
    """An entity for people: a line a field, empty ones left out, nested ones indented."""
    for line in _lines(entity):
        click.echo(line, err=err)


def _lines(value: Any, indent: str = "") -> Iterable[str]:
    for key, item in value.items():
        entries = item if isinstance(item, list) and item else [item]
        if all(isinstance(entry, dict) and entry for entry in entries):
            for entry in entries:
                yield f"{indent}{_cell(key)}:"
                yield from _lines(entry, indent + "  ")
        elif item not in (None, "", {}, []):
            yield f"{indent}{_cell(key)}: {_cell(item)}"


def state_of(entity: dict[str, Any]) -> str:
    """An entity's state, and what it waits for if it is in the queue."""
    queued = entity.get("queued")
    return f"{entity['state']} ({queued})" if queued else str(entity["state"])


def human_size(size_bytes: float) -> str:
    """A number of bytes in decimal units, as 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.4g} TB"
