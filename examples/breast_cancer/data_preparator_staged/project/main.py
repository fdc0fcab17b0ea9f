"""The data preparator that works in stages: `python3 main.py prepare|sanity_check|statistics`."""

# From shared/; package.py lays it beside this file.
from container import run, volume
from corrections import refuse_waiting
from policy import read_policy
from sanity_check import sanity_check
from stages import Places, prepare
from summary import write_statistics

PLACES = Places(
    raw_data=volume("/mlcommons/volumes/raw_data"),
    raw_labels=volume("/mlcommons/volumes/raw_labels"),
    data=volume("/mlcommons/volumes/data"),
    labels=volume("/mlcommons/volumes/labels"),
    metadata=volume("/mlcommons/volumes/metadata"),
    report=volume("/mlcommons/volumes/report/report.yaml"),
)
STATISTICS = volume("/mlcommons/volumes/statistics/statistics.yaml")


def check() -> None:
    """Refuse data that wait for a person, and what is wrong with any others."""
    refuse_waiting(PLACES.data)
    sanity_check(PLACES.data, PLACES.labels, read_policy())


if __name__ == "__main__":
    run(
        {
            "prepare": lambda: prepare(PLACES, read_policy()),
            "sanity_check": check,
            "statistics": lambda: write_statistics(PLACES.data, PLACES.labels, STATISTICS),
        }
    )
