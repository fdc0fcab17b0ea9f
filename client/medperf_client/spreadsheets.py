"""Tables as CSV (RFC 4180) of which no spreadsheet takes a cell for a formula."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

# What makes a cell a formula where it begins with it, also in full width (OWASP, CSV Injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_lines(rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Rows as CSV, one by one.

    None is an empty cell, a truth value `true` or `false`. A text that would be a formula has an
    apostrophe before it; a number, such as -0.5, is none.

    >>> list(csv_lines([["=1+1", -0.5, None, True]]))
    ["'=1+1,-0.5,,true\\r\\n"]
    """
    for cells in rows:
        line = io.StringIO()
        csv.writer(line).writerow(map(_cell, cells))
        yield line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
