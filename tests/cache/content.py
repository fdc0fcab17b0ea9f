"""Content to keep: folders described as data, archives of them, and what a cache left behind."""

import io
import os
import tarfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from medperf_cache import Storage


class File(NamedTuple):
    """A file as a folder's description has it."""

    content: bytes
    executable: bool = False


Tree = dict[str, "File | str | Tree"]
"""A folder by names: a file, the target of a link, or a folder."""


def build(tree: Tree, folder: Path, moment: int = 0, backwards: bool = False) -> Path:
    """Make a folder as described, its files of that time, made in the order given or in reverse."""
    folder.mkdir()
    for name in reversed(tree) if backwards else tree:
        path, entry = folder / name, tree[name]
        if isinstance(entry, dict):
            build(entry, path, moment, backwards)
        elif isinstance(entry, str):
            path.symlink_to(entry)
        else:
            path.write_bytes(entry.content)
            path.chmod(0o700 if entry.executable else 0o600)
            os.utime(path, (moment, moment))
    return folder


def pack(
    folder: Path, archive: Path, compression: str = "", form: int = tarfile.PAX_FORMAT
) -> Path:
    """A tar archive of what is in a folder."""
    with tarfile.open(archive, f"w:{compression}", format=form) as tar:  # type: ignore[call-overload]
        for path in folder.iterdir():
            tar.add(path, path.name)
    return archive


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """One member for `archive_of`, with any field of `TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], compression: str = "") -> Path:
    """A tar archive of members made by hand, which no folder could give."""
    with tarfile.open(path, f"w:{compression}") as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if content else None)
    return path


def residue(storage: Storage) -> list[Path]:
    """What unfinished work left in a cache."""
    incoming = storage.root / "incoming"
    return sorted(incoming.iterdir()) if incoming.exists() else []


def names() -> st.SearchStrategy[str]:
    """Names of files, also such as are no text in any encoding."""
    sound = st.binary(min_size=1, max_size=6).filter(
        lambda name: (
            not {b"/", b"\0"} & {bytes([byte]) for byte in name} and name not in (b".", b"..")
        )
    )
    return (st.sampled_from(["a", "b", "a.b", "é"]) | sound.map(os.fsdecode)).map(str)


def trees() -> st.SearchStrategy[Tree]:
    """Small folders of files, links that stay inside, and folders."""
    files = st.builds(File, st.binary(max_size=40), st.booleans())
    links = st.sampled_from(["a", "b/a", "nowhere"])
    leaves: st.SearchStrategy[Tree] = st.dictionaries(names(), files | links, max_size=3)
    return st.recursive(
        leaves, lambda inner: st.dictionaries(names(), files | inner, max_size=3), max_leaves=6
    )
