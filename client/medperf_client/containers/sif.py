"""Images as Apptainer runs them (SIF files): converted once, and kept by the image's ID."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from medperf_cache.locks import hold
from medperf_cache.names import CONVERTED
from medperf_client.containers.job import Job
from medperf_client.containers.supervise import last_lines, supervised
from medperf_client.errors import MedPerfError, Unsupported

if TYPE_CHECKING:  # A node that runs an image opens no cache.
    from medperf_cache import Storage

# The other name is that of Singularity, which it comes from.
PROGRAMS = ("apptainer", "singularity")
# How a file begins that can be run so.
LAUNCH_BYTES, MAGIC = 32, b"SIF_MAGIC"
# Of a folder in the cache: the image, and its configuration, byte for byte.
IMAGE, CONFIG = "image.sif", "config.json"
# Half the time, for a tenth more bytes.
QUICKLY = ("--mksquashfs-args", "-Xcompression-level 1")


def program() -> str | None:
    """Where Apptainer is; None if it is not on PATH."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def require_program() -> str:
    """The same; raises `Unsupported` without it."""
    found = program()
    if found is None:
        raise Unsupported(
            f"none of {' and '.join(PROGRAMS)} is on PATH",
            hint="Install Apptainer; on a cluster it may take: module load apptainer",
        )
    return found


def is_sif(file: Path) -> bool:
    """Whether a file is an image of Apptainer's."""
    with open(file, "rb") as content:
        return content.read(LAUNCH_BYTES + len(MAGIC))[LAUNCH_BYTES:] == MAGIC


def own_environment(folder: Path) -> dict[str, str]:
    """What Apptainer itself is started with: nothing but its own files, which go with `folder`.

    Much of the caller's could tell it to mount this or that.
    """
    places = {name: str(folder / name.lower()) for name in ("CACHEDIR", "CONFIGDIR", "TMPDIR")}
    for place in places.values():
        os.makedirs(place, exist_ok=True)
    named = {f"{kind}_{name}": place for name, place in places.items() for kind in _KINDS}
    return {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": places["TMPDIR"], **named}


_KINDS = tuple(name.upper() for name in PROGRAMS)


class SifStore:
    """The converted images of one cache. Nobody else's are taken: what one holds cannot be told."""

    def __init__(self, storage: "Storage") -> None:
        self._storage = storage

    def find(self, image_id: str) -> Path | None:
        """The folder of a converted image, if it is here."""
        digest = self._storage.names.get(CONVERTED + image_id)
        trees = self._storage.trees
        return trees.path(digest) if digest is not None and digest in trees else None

    def convert_copy(self, image_id: str, name: str) -> None:
        """Convert an image of which the cache has a copy, called `name`, unless it is here.

        Raises as `convert_archive` does.
        """
        if self.find(image_id) is None:
            with self._storage.scratch() as folder:
                with open(folder / "image.tar", "wb") as file:
                    file.writelines(self._storage.images.read(image_id))
                self.convert_archive(image_id, folder / "image.tar", name)

    def convert_archive(self, image_id: str, archive: Path, name: str) -> None:
        """Convert the image of that ID in a `docker save` archive, unless it is here.

        Of several that convert at once, each waits for the one before. Raises `InvalidContainer` if
        the image is not in there, `Unsupported` without Apptainer, and `MedPerfError` with
        Apptainer's words if it fails.
        """
        # Imported late: what is converted already does not need it.
        from medperf_client.containers.layout import lay_out

        if self.find(image_id) is not None:
            return
        alone = hold(self._storage.root / "conversion.lock", "never said, for it waits")
        with alone, self._storage.scratch() as folder:
            # Whoever was at it meanwhile may have converted this one.
            if self.find(image_id) is not None:
                return
            made, work = folder / "made", folder / "work"
            made.mkdir()
            work.mkdir()
            config = lay_out(archive, image_id, folder / "image", name)
            (made / CONFIG).write_bytes(config)
            self._build(image_id, work, name)
            self._storage.names.put(CONVERTED + image_id, self._storage.trees.adopt(made))

    def _build(self, image_id: str, work: Path, name: str) -> None:
        """Have Apptainer make a file of the layout beside a folder to work in."""
        folder = work.parent
        log, what = folder / "log", [f"../made/{IMAGE}", "oci:../image"]
        # Earlier versions do not know the options.
        for options in (QUICKLY, ()):
            task = {
                "command": [require_program(), "--silent", "build", *options, *what],
                "environment": own_environment(folder),
                "pids": None,
                "groups": [],
            }
            if supervised(Job("apptainer", "convert", image_id, log), task, work)[0] == 0:
                return
        said = "\n  ".join([f"{name} cannot be converted for Apptainer:", *last_lines(log)])
        raise MedPerfError(said)
