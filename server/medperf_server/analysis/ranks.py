"""Who is ahead of whom: ranks at each site, mean ranks, places."""

from collections.abc import Sequence

Matrix = Sequence[Sequence[float | None]]


def complete(figures: Matrix) -> tuple[list[int], list[int]]:
    """The rows (models) and columns (sites) of a matrix that are compared: none lacks a figure.

    Ranks at a site mean something beside those at another only if the same models are ranked at
    both: who is missing where strong ones took part would be ahead of who met them. So the row or
    column that lacks the largest share of its figures is left out, until nothing is missing; with
    the same share a row goes before a column, and the last before the first. A model that came late
    leaves by that, and does not take the sites with it that have yet to run it.
    """
    present = [[figure is not None for figure in row] for row in figures]
    rows = set(range(len(present)))
    columns = set(range(len(present[0]) if present else 0))
    missing_in_row = {row: present[row].count(False) for row in rows}
    missing_in_column = {c: sum(not row[c] for row in present) for c in columns}
    while any(missing_in_row[row] for row in rows):
        # Compared as whole numbers: a share of a row times the other's length.
        row = max(rows, key=lambda one: (missing_in_row[one], one))
        column = max(columns, key=lambda one: (missing_in_column[one], one))
        if missing_in_row[row] * len(rows) >= missing_in_column[column] * len(columns):
            rows.remove(row)
            for one in columns:
                missing_in_column[one] -= not present[row][one]
        else:
            columns.remove(column)
            for one in rows:
                missing_in_row[one] -= not present[one][column]
    return (sorted(rows), sorted(columns)) if rows and columns else ([], [])


def average_ranks(values: Sequence[float], higher_is_better: bool) -> list[float]:
    """The rank of each value, 1 for the best; equal ones share the mean of their ranks."""
    order = sorted(range(len(values)), key=lambda at: values[at], reverse=higher_is_better)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for at in order[start:end]:
            ranks[at] = (start + 1 + end) / 2
        start = end
    return ranks


def mean_ranks(ranks: Sequence[Sequence[float]]) -> list[float]:
    """The mean over sites of each model's ranks; a row a model, a column a site.

    Ranks are whole or halves, so the sums are exact, and equal means are equal.
    """
    return [sum(row) / len(row) for row in ranks]


def places(values: Sequence[float]) -> list[int]:
    """The place of each value, 1 for the lowest; equal ones share the first of their places."""
    ordered = sorted(values)
    first: dict[float, int] = {}
    for place, value in enumerate(ordered, 1):
        first.setdefault(value, place)
    return [first[value] for value in values]
