"""Images as their engine saves them: tar archives kept in pieces, so that images share layers."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from medperf_cache.blobs import BlobStore
from medperf_cache.digests import CHUNK_BYTES, is_digest
from medperf_cache.errors import CacheError, CorruptContent, NotCached
from medperf_cache.names import IMAGE, Names

if TYPE_CHECKING:  # Who only asks whether a copy is here does not pay for tarfile.
    from tarfile import TarInfo

FORMAT = 1
BLOCK_BYTES = 512
# Smaller files are kept in the recipe itself.
INLINE_BYTES = 4096
# What is held in memory: a recipe, and whatever of an archive is no file.
MOST_RECIPE_BYTES, MOST_HEADER_BYTES = 64 << 20, 1 << 20
# The size of a member that its header has no room for (POSIX pax, "size").
_PAX_SIZE = re.compile(rb"\d+ size=(\d+)\n")


class ImageStore:
    """Copies of images by ID, each a recipe and the files of its archive, all plain blobs.

    The recipe is JSON: the archive's bytes in order, where each larger file, such as a layer, is
    named by its SHA-256. So a layer is kept once, whatever images have it, and an archive comes
    out byte for byte as it went in. Processes may add the same image at once.
    """

    def __init__(self, blobs: BlobStore, names: Names) -> None:
        self._blobs, self._names = blobs, names

    def __contains__(self, image_id: str) -> bool:
        try:
            return all(part in self._blobs for part in self.parts(image_id))
        except NotCached:
            return False

    def add(self, image_id: str, archive: Iterable[bytes]) -> None:
        """Keep the image in a tar archive, as `docker save` writes it.

        Raises `CacheError` if the archive is damaged, or holds no file whose SHA-256 is the ID, as
        an image's configuration is (OCI image specification, "ImageID"); then it is not known.
        """
        pieces, digests = _taken_apart(_Stream(archive), self._blobs.add)
        if image_id not in digests:
            raise CacheError(f"the archive of image {image_id} holds no such image")
        recipe = json.dumps({"format": FORMAT, "pieces": pieces}).encode()
        self._names.put(IMAGE + image_id, self._blobs.add([recipe]))

    def note(self, image_id: str, recipe: str) -> None:
        """Know an image by a recipe that was carried here, if that makes it up.

        Raises `CacheError` if it does not, `NotCached` if a part of it is not here.
        """
        self._require(image_id, recipe)
        self._names.put(IMAGE + image_id, recipe)

    def verify(self) -> Iterator[CorruptContent]:
        """Read every copy again; yields those whose recipe does not make up their image."""
        for name, recipe in list(self._names.items(IMAGE)):
            image_id = name.removeprefix(IMAGE)
            try:
                self._require(image_id, recipe)
            except NotCached:
                continue
            except CacheError as error:
                what = f"copy of image {image_id}"
                yield CorruptContent(what, image_id, str(error), "name", name)

    def _require(self, image_id: str, recipe: str) -> None:
        pieces = self._pieces(recipe)
        _, digests = _taken_apart(_Stream(self._bytes(pieces)), _digest_of)
        if image_id not in digests:
            raise CacheError(f"recipe {recipe} holds no image {image_id}")

    def name(self, reference: str, image_id: str) -> None:
        """Remember which image had that name last."""
        self._names.put(f"image-name:{reference}", image_id)

    def named(self, reference: str) -> str | None:
        """The ID of the image that had that name last, whether there is a copy or not."""
        return self._names.get(f"image-name:{reference}")

    def parts(self, image_id: str) -> list[str]:
        """The digests of the blobs that make up a copy, its recipe first. Raises `NotCached`."""
        recipe, pieces = self._recipe(image_id)
        named = (piece["sha256"] for piece in pieces if isinstance(piece, dict))
        return [recipe, *dict.fromkeys(named)]

    def read(self, image_id: str) -> Iterator[bytes]:
        """The archive's bytes; marks its blobs as used now. Raises `NotCached`."""
        return self._bytes(self._recipe(image_id)[1])

    def _bytes(self, pieces: list[Any]) -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, dict):
                with open(self._blobs.path(piece["sha256"]), "rb") as file:
                    while chunk := file.read(CHUNK_BYTES):
                        yield chunk
            else:
                yield base64.b64decode(piece)

    def _recipe(self, image_id: str) -> tuple[str, list[Any]]:
        digest = self._names.get(IMAGE + image_id)
        if digest is None or digest not in self._blobs:
            raise NotCached(f"there is no copy of image {image_id}")
        try:
            return digest, self._pieces(digest)
        except CacheError:
            raise NotCached(f"the copy of image {image_id} is damaged") from None

    def _pieces(self, recipe: str) -> list[Any]:
        """What a recipe says. Raises `CacheError` if it has another form."""
        path = self._blobs.path(recipe)
        try:
            if path.stat().st_size > MOST_RECIPE_BYTES:
                raise ValueError("it is too large")
            pieces = json.loads(path.read_bytes())["pieces"]
            for piece in pieces:
                match piece:
                    case str():
                        base64.b64decode(piece, validate=True)
                    case {"sha256": str(digest)} if is_digest(digest):
                        pass
                    case _:
                        raise ValueError("a piece of it has another form")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CacheError(f"{recipe} is no recipe of an image: {error}") from error
        return list(pieces)


# Takes a file's bytes, and gives their SHA-256.
Keep = Callable[[Iterable[bytes]], str]


def _digest_of(chunks: Iterable[bytes]) -> str:
    digest = sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _taken_apart(stream: "_Stream", keep: Keep) -> tuple[list[Any], set[str]]:
    """An archive's pieces, its larger files kept, and the digests of all its files."""
    pieces: list[Any] = []
    digests = set()
    announced = None
    while header := stream.read(BLOCK_BYTES):
        pieces.append(_text(header))
        if not header.strip(b"\0"):
            continue
        member = _member(header)
        size = member.size if announced is None else announced
        padding = -size % BLOCK_BYTES
        announced = None
        if member.isreg() and size > INLINE_BYTES:
            digest = keep(stream.take(size))
            pieces += [{"sha256": digest}, _text(b"".join(stream.take(padding)))]
        else:
            if size > MOST_HEADER_BYTES:
                raise CacheError(f"the archive of an image is damaged: a header of {size} bytes")
            content = b"".join(stream.take(size))
            digest = sha256(content).hexdigest()
            pieces.append(_text(content + b"".join(stream.take(padding))))
            if member.type == b"x" and (match := _PAX_SIZE.search(content)):
                announced = int(match[1])
        digests.add(digest)
    return pieces, digests


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _member(header: bytes) -> "TarInfo":
    import tarfile

    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise CacheError(f"the archive of an image is damaged: {error}") from error
    if member.size < 0:
        raise CacheError(f"the archive of an image is damaged: a size of {member.size} bytes")
    return member


class _Stream:
    """Chunks of bytes, read in portions of other sizes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = filter(None, chunks), memoryview(b"")

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end."""
        return b"".join(self._portions(size))

    def take(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes in portions. Raises `CacheError` if the stream ends before."""
        for portion in self._portions(size):
            size -= len(portion)
            yield portion
        if size:
            raise CacheError(
                f"the archive of an image was cut off, {size} bytes or more are missing"
            )

    def _portions(self, size: int) -> Iterator[bytes]:
        while size:
            self._rest = self._rest or memoryview(next(self._chunks, b""))
            if not self._rest:
                return
            portion, self._rest = self._rest[:size], self._rest[size:]
            size -= len(portion)
            yield bytes(portion)
