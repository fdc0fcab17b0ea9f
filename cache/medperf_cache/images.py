"""Images as their engine saves them: tar archives kept in pieces, so that images share layers."""

import base64
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any, cast

from medperf_cache.blobs import BlobStore
from medperf_cache.digests import CHUNK_BYTES, is_digest
from medperf_cache.errors import CacheError, CorruptContent, NotCached, NotWritable
from medperf_cache.manifests import MOST_DOCUMENT_BYTES, Manifests, Platform
from medperf_cache.names import IMAGE, IMAGE_ID, Names

if TYPE_CHECKING:  # Who only asks whether a copy is here does not pay for tarfile.
    from tarfile import TarInfo

FORMAT = 1
# By any digest of an image, what others say: its ID and the digest of its recipe.
Said = Callable[[str], Iterable[tuple[str, str]]]
BLOCK_BYTES = 512
# Smaller files are kept in the recipe itself.
INLINE_BYTES = 4096
# What is held in memory: a recipe, and whatever of an archive is no file.
MOST_RECIPE_BYTES, MOST_HEADER_BYTES = 64 << 20, 1 << 20
# The size of a member that its header has no room for (POSIX pax, "size").
_PAX_SIZE = re.compile(rb"\d+ size=(\d+)\n")


class ImageStore:
    """Copies of images by ID, each a recipe and the files of its archive, all plain blobs.

    The ID is the digest of the image's configuration, whatever engine or registry names it how. Who
    asks may give the digest of a manifest or an index in its place, once it is known (`know`).

    The recipe is JSON: the archive's bytes in order, where each larger file, such as a layer, is
    named by its SHA-256. So a layer is kept once, whatever images have it, and an archive comes
    out byte for byte as it went in. It may name manifests beside it, which prove what digests the
    image is known by where the archive has none. Processes may add the same image at once.

    What is `said` elsewhere of copies is proven before it is used, and then remembered; `tell` gets
    a line for people if it is not so.
    """

    def __init__(
        self,
        blobs: BlobStore,
        names: Names,
        said: Said = lambda digest: (),
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._blobs, self._names, self._said, self._tell = blobs, names, said, tell
        # What was proven, where nothing can be remembered; and what turned out not to be so.
        self._proven: dict[str, str] = {}
        self._disproven: set[tuple[str, str]] = set()

    def __contains__(self, image_id: str) -> bool:
        try:
            return all(part in self._blobs for part in self.parts(image_id))
        except NotCached:
            return False

    def add(self, image_id: str, archive: Iterable[bytes]) -> set[str]:
        """Keep the image in a tar archive, as `docker save` writes it.

        Returns the digests of the image that the archive itself proves: its ID, and manifests'.
        Raises `CacheError` if the archive is damaged, or holds no file whose SHA-256 is the ID, as
        an image's configuration is (OCI image specification, "ImageID"); then it is not known.
        """
        manifests = Manifests()
        pieces, digests = _taken_apart(_Stream(archive), self._blobs.add, manifests)
        if image_id not in digests:
            raise CacheError(f"the archive of image {image_id} holds no such image")
        self._put(image_id, pieces, [])
        self._learn(image_id, manifests)
        return manifests.leading_to(image_id)

    def note(self, image_id: str, recipe: str) -> None:
        """Know an image by a recipe that was carried here, if that makes it up.

        Raises `CacheError` if it does not, `NotCached` if a part of it is not here.
        """
        manifests = self._require(image_id, recipe)
        self._names.put(IMAGE + image_id, recipe)
        self._learn(image_id, manifests)

    def _believed(self, wanted: str) -> str | None:
        """The recipe of an image as it is said elsewhere, once it is proven to make that up."""
        for image_id, recipe in self._said(wanted):
            if (wanted, recipe) in self._disproven:
                continue
            try:
                digests = self._require(image_id, recipe).leading_to(image_id)
                if wanted not in {image_id, *digests}:
                    raise CacheError(f"recipe {recipe} holds nothing that leads to it")
            except CacheError as error:
                self._disproven.add((wanted, recipe))
                # Of parts that are not sound it was told where they lie.
                if not isinstance(error, NotCached):
                    self._tell(f"the shared copy of image {wanted} is passed over: {error}")
                continue
            self._remember(IMAGE + image_id, recipe)
            # What is known of a digest stays: an index may lead to several images.
            for digest in {image_id, *digests}:
                if self.id_of(digest) is None:
                    self._remember(IMAGE_ID + digest, image_id)
            return recipe
        return None

    def _remember(self, name: str, digest: str) -> None:
        self._proven[name] = digest
        with suppress(NotWritable, sqlite3.OperationalError):
            self._names.put(name, digest)

    def _known(self, name: str) -> str | None:
        return self._names.get(name) or self._proven.get(name)

    def prove(self, image_id: str, documents: Iterable[bytes]) -> None:
        """Keep manifests and indexes with a copy whose archive lacks them. Raises `NotCached`."""
        _, pieces, known = self._recipe(image_id)
        more = [self._blobs.add([content]) for content in documents]
        if more:
            self._put(image_id, pieces, [*known, *more])

    def _put(self, image_id: str, pieces: list[Any], manifests: list[str]) -> None:
        content = {"format": FORMAT, "pieces": pieces}
        if manifests:
            content["manifests"] = manifests
        recipe = json.dumps(content).encode()
        if len(recipe) > MOST_RECIPE_BYTES:
            raise CacheError(f"image {image_id} is of too many small files to be copied")
        self._names.put(IMAGE + image_id, self._blobs.add([recipe]))

    def know(self, image_id: str, digests: Iterable[str]) -> None:
        """Remember by which digests an engine here knows an image; its own ID is one."""
        # What cannot be remembered is found out again.
        with suppress(NotWritable):
            for digest in {image_id, *digests}:
                if self.id_of(digest) != image_id:
                    self._names.put(IMAGE_ID + digest, image_id)

    def id_of(self, digest: str) -> str | None:
        """The ID of the image that a digest means, if that is known: one may be of a manifest."""
        return self._known(IMAGE_ID + digest)

    def digests_of(self, image_id: str) -> list[str]:
        """By which digests an image is known."""
        known = self._names.items(IMAGE_ID)
        return [name.removeprefix(IMAGE_ID) for name, its in known if its == image_id]

    def _learn(self, image_id: str, manifests: Manifests) -> None:
        """Remember what an archive itself proves; what is known of a digest stays."""
        found = manifests.leading_to(image_id)
        self.know(image_id, [digest for digest in found if self.id_of(digest) is None])

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

    def _require(self, image_id: str, recipe: str) -> Manifests:
        (pieces, named), manifests = self._content(recipe), Manifests()
        for digest in named:
            with open(self._blobs.path(digest), "rb") as file:
                content = file.read(MOST_DOCUMENT_BYTES)
            manifests.see(sha256(content).hexdigest(), content)
        _, digests = _taken_apart(_Stream(self._bytes(pieces)), _digest_of, manifests)
        if image_id not in digests:
            raise CacheError(f"recipe {recipe} holds no image {image_id}")
        return manifests

    def name(self, reference: str, image_id: str) -> None:
        """Remember which image had that name last."""
        self._names.put(f"image-name:{reference}", image_id)

    def named(self, reference: str) -> str | None:
        """The ID of the image that had that name last, whether there is a copy or not."""
        return self._names.get(f"image-name:{reference}")

    def copied(self, reference: str, expected: str | None = None) -> str | None:
        """The ID of an image that there is a copy of: the expected one, else the last of a name.

        `expected` may be any digest of it.
        """
        wanted = expected or self.named(reference)
        if wanted is None or wanted not in self:
            return None
        return self.id_of(wanted) or wanted

    def parts(self, image_id: str) -> list[str]:
        """The digests of the blobs that make up a copy, its recipe first. Raises `NotCached`."""
        recipe, pieces, manifests = self._recipe(image_id)
        named = (piece["sha256"] for piece in pieces if isinstance(piece, dict))
        return [recipe, *dict.fromkeys((*named, *manifests))]

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

    def _recipe(self, image_id: str) -> tuple[str, list[Any], list[str]]:
        wanted = self.id_of(image_id) or image_id
        digest = self._known(IMAGE + wanted)
        if digest is None or digest not in self._blobs:
            digest = self._believed(wanted)
        if digest is None:
            raise NotCached(f"there is no copy of image {image_id}")
        try:
            return digest, *self._content(digest)
        except CacheError:
            raise NotCached(f"the copy of image {image_id} is damaged") from None

    def _content(self, recipe: str) -> tuple[list[Any], list[str]]:
        """A recipe's pieces, and its manifests. Raises `CacheError` if it has another form."""
        path = self._blobs.path(recipe)
        try:
            if path.stat().st_size > MOST_RECIPE_BYTES:
                raise ValueError("it is too large")
            content = json.loads(path.read_bytes())
            pieces, manifests = content["pieces"], content.get("manifests", [])
            if not isinstance(manifests, list) or not all(map(is_digest, manifests)):
                raise ValueError("its manifests have another form")
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
        return list(pieces), manifests


def way_to_configuration(archive: Iterable[bytes], digest: str, platform: Platform) -> list[str]:
    """The digests from an image's manifest or index down to its configuration.

    Reads the archive as `docker save` writes it, no further than it takes. Raises `CacheError` if
    it does not say.
    """
    import tarfile

    manifests, stream = Manifests(), cast("IO[bytes]", _Stream(archive))
    try:
        with tarfile.open(fileobj=stream, mode="r|") as members:
            for member in members:
                file = members.extractfile(member) if member.isreg() else None
                if file and member.size <= MOST_DOCUMENT_BYTES:
                    content = file.read()
                    manifests.see(sha256(content).hexdigest(), content)
                    if way := manifests.way(digest, platform):
                        return way
    except tarfile.TarError as error:
        raise CacheError(f"the archive of image {digest} is damaged: {error}") from error
    raise CacheError(f"the archive of image {digest} names no configuration of it")


# Takes a file's bytes, and gives their SHA-256.
Keep = Callable[[Iterable[bytes]], str]


def _digest_of(chunks: Iterable[bytes]) -> str:
    digest = sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _taken_apart(stream: "_Stream", keep: Keep, manifests: Manifests) -> tuple[list[Any], set[str]]:
    """An archive's pieces, its larger files kept, and the digests of all its files.

    `manifests` sees those that could be one.
    """
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
            digest = _kept(stream, size, keep, manifests)
            pieces += [{"sha256": digest}, _text(b"".join(stream.take(padding)))]
        else:
            if size > MOST_HEADER_BYTES:
                raise CacheError(f"the archive of an image is damaged: a header of {size} bytes")
            content = b"".join(stream.take(size))
            digest = sha256(content).hexdigest()
            pieces.append(_text(content + b"".join(stream.take(padding))))
            manifests.see(digest, content)
            if member.type == b"x" and (match := _PAX_SIZE.search(content)):
                announced = int(match[1])
        digests.add(digest)
    return pieces, digests


def _kept(stream: "_Stream", size: int, keep: Keep, manifests: Manifests) -> str:
    if size > MOST_DOCUMENT_BYTES:
        return keep(stream.take(size))
    content = b"".join(stream.take(size))
    digest = keep([content])
    manifests.see(digest, content)
    return digest


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
