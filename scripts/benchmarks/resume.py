"""A large download over a line that is cut again and again: the bytes that moved for it."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.proxy import Fault, proxy
from tests.support.rangehost import range_host

from benchmarks.download import FETCH
from benchmarks.stage import PYTHON, grow

GOAL = 1.02
CUT_BYTES = 50 << 20


def measure() -> dict[str, dict[str, Any]]:
    """1 GiB through a proxy that ends every connection after 50 MiB, or resets it."""
    figures = {}
    with TemporaryDirectory(prefix="medperf-bench-") as temporary:
        hosted = Path(temporary) / "hosted"
        hosted.mkdir()
        grow(hosted, 1)
        size = (hosted / "large.bin").stat().st_size
        for name, reset in (("resume_cut", False), ("resume_reset", True)):
            fault = Fault(cut_after=CUT_BYTES, reset=reset)
            with range_host(hosted) as url, proxy(url, lambda _, fault=fault: fault) as line:  # type: ignore[misc]
                cache = str(Path(temporary) / "cache")
                subprocess.run([PYTHON, "-c", FETCH, cache, f"{line.url}/large.bin"], check=True)
                figures[name] = {
                    "bytes": line.moved,
                    "baseline_bytes": size,
                    "ratio": round(line.moved / size, 4),
                    "goal": GOAL,
                    "requests": len(line.requests),
                }
    return figures
