"""A bundle of large files, out and in, against `tar` and `zstd` of the same files."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.consortium import Member

from benchmarks.memory import peak, peak_bytes
from benchmarks.stage import MEDPERF, environment
from benchmarks.timing import Run, command, compare
from medperf_cache import Storage

TIME_GOAL = 1.5
MEMORY_GOAL_BYTES = 200 << 20
FILES_A_GIBIBYTE = 8
PACK = 'tar -C "$1" -cf - . | zstd -q -f -o "$2" -'
UNPACK = 'mkdir -p "$2" && zstd -d -q -c "$1" | tar -C "$2" -xf -'


def measure(gibibytes: int = 5, rounds: int = 3) -> dict[str, Any]:
    """Export and import of so much that cannot be compressed, as weights and layers are.

    Unlike `tar` and `zstd`, both also hash everything and wait until it is on the disk.
    """
    with TemporaryDirectory(prefix="medperf-bench-") as temporary:
        folder = Path(temporary)
        url = "http://127.0.0.1:1"
        here, there = Member(folder / "here", url), Member(folder / "there", url)
        _fill(Storage(here.home / "cache"), gibibytes)
        bundle, packed = folder / "bundle", folder / "packed.tar.zst"
        unpacked, blobs = folder / "unpacked", here.home / "cache" / "blobs"
        export = [MEDPERF, "bundle", "export", str(bundle)]
        importing = [MEDPERF, "bundle", "import", str(bundle)]
        figures = {
            "bundle_export": compare(
                command(export, environment(here)),
                command(["sh", "-c", PACK, "sh", str(blobs), str(packed)]),
                rounds,
                TIME_GOAL,
                _clean(bundle),
                _clean(packed),
            ),
            "bundle_import": compare(
                command(importing, environment(there)),
                command(["sh", "-c", UNPACK, "sh", str(packed), str(unpacked)]),
                rounds,
                TIME_GOAL,
                _clean(there.home),
                _clean(unpacked),
            ),
        }
        _clean(there.home)()
        peaks = {
            "export": peak_bytes(export, environment(here)),
            "import": peak_bytes(importing, environment(there)),
        }
        return {**figures, "bundle_memory": peak(peaks, MEMORY_GOAL_BYTES)}


def _fill(storage: Storage, gibibytes: int) -> None:
    mebibytes = 1024 // FILES_A_GIBIBYTE
    for _ in range(gibibytes * FILES_A_GIBIBYTE):
        storage.blobs.add(os.urandom(1 << 20) for _ in range(mebibytes))


def _clean(path: Path) -> Run:
    """Removes what a run made, and has the disk come to rest."""

    def run() -> None:
        if path.is_dir():
            subprocess.run(["chmod", "-R", "u+w", path], check=True)  # nosec B607
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        os.sync()

    return run
