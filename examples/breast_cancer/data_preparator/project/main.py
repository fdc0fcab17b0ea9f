"""The data preparator: `python3 main.py prepare|sanity_check|statistics`."""

# From shared/; package.py lays it beside this file.
from container import run, volume
from policy import read_policy
from prepare import RULES, prepare
from sanity_check import sanity_check
from summary import write_statistics

RAW_DATA = volume("/mlcommons/volumes/raw_data")
RAW_LABELS = volume("/mlcommons/volumes/raw_labels")
DATA = volume("/mlcommons/volumes/data")
LABELS = volume("/mlcommons/volumes/labels")
STATISTICS = volume("/mlcommons/volumes/statistics/statistics.yaml")

if __name__ == "__main__":
    run(
        {
            "prepare": lambda: prepare(RAW_DATA, RAW_LABELS, DATA, LABELS, read_policy(RULES)),
            "sanity_check": lambda: sanity_check(DATA, LABELS, read_policy(RULES)),
            "statistics": lambda: write_statistics(DATA, LABELS, STATISTICS),
        }
    )
