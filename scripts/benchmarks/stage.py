"""What the benchmarks work on: the tutorial's consortium, used by the installed `medperf`."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.consortium import Consortium, Member
from tests.support.registry import Registry

PYTHON = sys.executable
MEDPERF = str(Path(PYTHON).with_name("medperf"))


@contextmanager
def consortium(platform: str, image_prefix: str = "") -> Iterator[Consortium]:
    """A consortium with the tutorial's benchmark, in a temporary folder."""
    with TemporaryDirectory(prefix="medperf-bench-") as temporary:
        folder = Path(temporary)
        for registry in Registry.serving(folder / "registry"):
            stage = Consortium(folder, registry, platform, image_prefix)
            stage.make_benchmark()
            yield stage
            stage.host.stop()


def environment(member: Member) -> Mapping[str, str]:
    """A member's environment, in which Python finds the installed package, compiled, alone."""
    return {k: v for k, v in member.environment.items() if k != "PYTHONPATH"}


def grow(folder: Path, gibibytes: int) -> None:
    """Add a file of that size to a folder; its bytes are random and its blocks are written."""
    block = os.urandom(1 << 20)
    with (folder / "large.bin").open("wb") as file:
        for _ in range(gibibytes * 1024):
            file.write(block)
