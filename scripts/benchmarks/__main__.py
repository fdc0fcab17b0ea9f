"""Measure everything, print ratios against their goals; see `scripts/bench --help`."""

import argparse
import importlib
import json
import sys
from typing import Any

GROUPS = (
    "commands",
    "offline",
    "bundle",
    "cluster",
    "datasets",
    "docker",
    "download",
    "executors",
    "load",
    "queue",
    "ranking",
    "registry",
    "resume",
    "run",
)
# Those whose data can be of another size than the goals are of.
SIZED = ("bundle", "datasets")


def main() -> None:
    """Run the chosen groups and print their figures."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.add_argument(
        "--gibibytes", type=int, help=f"how large the large data are of {' and '.join(SIZED)}"
    )
    parser.add_argument(
        "--whole", action="store_true", help="have cluster simulate 10,000 jobs, and not 1,000"
    )
    choice = parser.parse_args()
    unknown = set(choice.groups) - set(GROUPS)
    if unknown:
        parser.error(f"there is no group {', '.join(unknown)}; choose from {', '.join(GROUPS)}")
    figures: dict[str, Any] = {}
    for group in choice.groups or GROUPS:
        print(f"measuring {group} ...", file=sys.stderr, flush=True)
        size = {"gibibytes": choice.gibibytes} if choice.gibibytes and group in SIZED else {}
        whole = {"whole": True} if choice.whole and group == "cluster" else {}
        measured = importlib.import_module(f"benchmarks.{group}").measure(**size, **whole)
        figures.update(measured)
        if not choice.json:
            for name, figure in measured.items():
                print(_line(name, figure), flush=True)
    if choice.json:
        print(json.dumps(figures, indent=2))


def _line(name: str, figure: dict[str, Any]) -> str:
    rest = ", ".join(f"{k} {v}" for k, v in figure.items() if k not in ("ratio", "goal"))
    against = f"{figure['ratio']:7.3f}   goal {figure['goal']:5}" if "ratio" in figure else " " * 20
    return f"{name:20} {against}   {rest}"


if __name__ == "__main__":
    main()
