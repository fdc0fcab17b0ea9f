"""The GPUs of this machine, each for one task at a time."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from threading import Condition

from medperf_client.containers.spec import ALL_GPUS
from medperf_client.errors import Unsupported

ASK = ("--query-gpu=uuid", "--format=csv,noheader")
# The devices are asked for once; a driver that hangs keeps nobody waiting for ever.
SECONDS = 60
# Asked for: a number (`ALL_GPUS`: every one), the IDs of devices, or none.
Asked = int | tuple[str, ...] | None


class Gpus:
    """Hands out devices by their UUIDs, as `nvidia-smi` tells them."""

    def __init__(self) -> None:
        self._changed, self._used = Condition(), set[str]()

    @cached_property
    def _all(self) -> list[str]:
        """The UUIDs of all devices; one that stands for them where nobody tells which there are."""
        program = shutil.which("nvidia-smi")
        try:
            found = program and subprocess.run(
                [program, *ASK], capture_output=True, text=True, timeout=SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError):
            found = None
        return (found.stdout.split() if found else []) or [""]

    @contextmanager
    def taken(self, asked: Asked) -> Iterator[Asked]:
        """Wait for what is asked for; what a task gets of it is nobody else's in the block.

        Raises `Unsupported` for more devices than there are.
        """
        if not asked:
            yield asked
            return
        with self._changed:
            wanted = self._wanted(asked)
            self._changed.wait_for(lambda: len(self._free(asked)) >= wanted)
            mine = self._free(asked)[:wanted]
            self._used.update(mine)
        try:
            yield tuple(mine) if all(mine) else asked
        finally:
            with self._changed:
                self._used.difference_update(mine)
                self._changed.notify_all()

    def _wanted(self, asked: Asked) -> int:
        """How many devices a task waits for."""
        known = self._all
        if not all(known) or asked == ALL_GPUS or not isinstance(asked, int):
            return len(self._among(asked))
        if asked > len(known):
            raise Unsupported(f"a task asks for {asked} GPUs, and this machine has {len(known)}")
        return asked

    def _among(self, asked: Asked) -> list[str]:
        """The devices that a task may be given; all, if the names that it gives are no UUIDs."""
        if isinstance(asked, tuple) and set(asked) <= set(self._all):
            return list(asked)
        return self._all

    def _free(self, asked: Asked) -> list[str]:
        return [one for one in self._among(asked) if one not in self._used]
