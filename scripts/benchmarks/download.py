"""A download into the cache against `curl` and `sha256sum` of the same file."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.stage import PYTHON, grow
from benchmarks.timing import command, compare

GOAL = 1.2

FETCH = """
import shutil, sys
from pathlib import Path
from medperf_cache import Storage
from medperf_client.transfer.fetcher import Fetcher
storage = Storage(Path(sys.argv[1]))
Fetcher(storage).fetch(sys.argv[2])
shutil.rmtree(sys.argv[1])
"""


def measure(rounds: int = 5) -> dict[str, Any]:
    """1 GiB from a host in a process of its own, both written to the same file system."""
    with TemporaryDirectory(prefix="medperf-bench-") as temporary:
        folder = Path(temporary)
        (folder / "hosted").mkdir()
        grow(folder / "hosted", 1)
        host = subprocess.Popen(
            [PYTHON, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
            cwd=folder / "hosted",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert host.stdout is not None
        port = host.stdout.readline().split(" port ")[1].split()[0]
        url = f"http://127.0.0.1:{port}/large.bin"
        try:
            return {
                "download": compare(
                    command([PYTHON, "-c", FETCH, str(folder / "cache"), url]),
                    command(
                        [
                            *("sh", "-c", 'curl -s -o "$1" "$2" && sha256sum "$1" && rm "$1"'),
                            *("sh", str(folder / "curled"), url),
                        ]
                    ),
                    rounds,
                    GOAL,
                )
            }
        finally:
            host.terminate()
            host.wait()
