"""Content to keep: folders described as data, archives of them, and what a cache left behind."""

import io
import os
import tarfile
import warnings
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from hypothesis import strategies as st

from medperf_cache import CacheError, Storage, tree_digest

LAYER = bytes(range(256)) * 64


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


def zip_member(name: str, mode: int = 0, system: int = 3, method: int = 8) -> zipfile.ZipInfo:
    """One member for `zip_of`, with the mode and the operating system that its maker noted."""
    info = zipfile.ZipInfo(name)
    # zipfile writes another separator as its own.
    info.filename = name
    info.external_attr, info.create_system, info.compress_type = mode << 16, system, method
    return info


def zip_of(path: Path, *members: tuple[zipfile.ZipInfo, bytes]) -> Path:
    """A zip archive of members made by hand, which no folder could give."""
    with zipfile.ZipFile(path, "w") as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for info, content in members:
            packed.writestr(info, content)
    return path


def zipped(folder: Path, archive: Path) -> Path:
    """A zip archive of what is in a folder, with its links and modes, as Info-ZIP's `zip -y`."""
    members = []
    for path in sorted(folder.rglob("*")):
        content, end = b"", "/" if path.is_dir() and not path.is_symlink() else ""
        if path.is_symlink():
            content = os.fsencode(os.readlink(path))
        elif path.is_file():
            content = path.read_bytes()
        name = f"{path.relative_to(folder)}{end}"
        members.append((zip_member(name, path.lstat().st_mode), content))
    return zip_of(archive, *members)


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
    links = st.sampled_from(["a", "./a", "b/a", "b//a/", "nowhere"])
    leaves: st.SearchStrategy[Tree] = st.dictionaries(names(), files | links, max_size=3)
    return st.recursive(
        leaves, lambda inner: st.dictionaries(names(), files | inner, max_size=3), max_leaves=6
    )


def archive(*files: bytes, form: int = tarfile.PAX_FORMAT, **links: str) -> bytes:
    """A tar archive of files named by their digests in folders, and of links by their names."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as tar:
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
        for file in files:
            # Longer than a header has room for.
            member = tarfile.TarInfo(f"{'deep/' * 50}{sha256(file).hexdigest()}/layer.tar")
            member.size = len(file)
            tar.addfile(member, io.BytesIO(file))
    return content.getvalue()


def check_damaged(
    storage: Storage, archive: Path, damage: list[tuple[float, int]], most: int
) -> None:
    """What a cache makes of an archive with other bytes at shares of its first `most`.

    It is refused, or it is a sound folder, and nothing else is left of it.
    """
    content = bytearray(archive.read_bytes())
    for place, byte in damage:
        content[int(place * (min(len(content), most) - 1))] = byte
    archive.write_bytes(content)
    try:
        digest = storage.trees.unpack(archive, uuid4().hex)
    except CacheError:
        pass
    else:
        assert tree_digest(storage.trees.path(digest)) == digest
        storage.trees.remove(digest)
    assert residue(storage) == []
