"""The most memory that whole commands ever have."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any


def peak_bytes(words: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """The most memory that a command, which must succeed, ever had (its resident set)."""
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return usage.ru_maxrss * 1024


def peak(peaks: Mapping[str, int], goal_bytes: int) -> dict[str, Any]:
    """The figure of some commands' peaks, against what any of them may have."""
    shares = {name: round(found / (1 << 20)) for name, found in peaks.items()}
    return {
        "ratio": round(max(peaks.values()) / goal_bytes, 3),
        "goal": 1.0,
        **{f"{name}_mebibytes": share for name, share in shares.items()},
    }
