"""Ask an image registry itself (OCI distribution specification): where no engine does, and for what
engines keep to themselves.

Most engines remember which digest a registry gave for an image, not the manifest that proves it.
And Docker, where it keeps images in containerd, pulls no layer that another image gave it packed
otherwise: it runs the image, and cannot save it.
"""

import hashlib
import ipaddress
import json
import platform
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests

from medperf_cache.manifests import MOST_DOCUMENT_BYTES, Manifests
from medperf_client.containers.engine import MANIFEST_TYPES
from medperf_client.errors import InvalidContainer, Offline
from medperf_client.transfer import network

# To connect, and between two bytes.
TIMEOUT_SECONDS = (5.0, 30.0)
CHUNK_BYTES = 1 << 20
# Of an index: real ones have one a processor, and as many signatures.
MOST_ENTRIES = 64
DOCKER_HUB, ITS_HOST = "docker.io", "registry-1.docker.io"
AWAY_HINT = "Try again when the image registry can be reached."
# What the specification calls processors, where the kernel has other words.
PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386"}
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Found:
    """An image of a registry: its ID, and its manifest, after the index that led there, if any."""

    id: str
    documents: tuple[bytes, ...]

    @property
    def manifest(self) -> bytes:
        """The image's own."""
        return self.documents[-1]

    @property
    def digests(self) -> set[str]:
        """By what the image may be registered."""
        return {self.id, *(hashlib.sha256(document).hexdigest() for document in self.documents)}


def found(image: str, digest: str = "") -> Found:
    """What a registry has for this machine: by an image's name, or a digest in its repository.

    Raises `Offline` if nobody can tell now, `InvalidContainer` if there is no such image.
    """
    reference = f"sha256:{digest}" if digest else _reference(image)
    machine = platform.machine()
    wanted = {"os": "linux", "architecture": PROCESSORS.get(machine, machine)}
    read, documents = Manifests(), list[bytes]()
    # An index of indexes is rare, and no deeper than that.
    for _ in range(3):
        content = _document(image, reference)
        documents.append(content)
        read.see(reference, content)
        named = read.named(reference)
        if read.way(reference, wanted):
            return Found(named[0], tuple(documents))
        fitting = read.fitting(reference, wanted)
        if not fitting:
            break
        reference = f"sha256:{fitting[0]}"
    if not named:
        raise InvalidContainer(f"{image} is no image: its registry has something else there")
    raise InvalidContainer(
        f"image {image} is not made for {wanted['os']}/{wanted['architecture']}",
        hint="It is made for other processors. Ask the container's owner for one for this.",
    )


def _reference(image: str) -> str:
    """The tag or the digest in an image's name."""
    name, at, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    return digest if at else (tag if colon else "latest")


def _document(image: str, reference: str) -> bytes:
    """A manifest or an index of an image's repository; raises as `found`."""
    what = f"image {image} cannot be fetched"
    try:
        with requests.Session() as session:
            response = _answer(session, image, f"manifests/{reference}")
            chunks = response.iter_content(CHUNK_BYTES)
            content = b"".join(_bounded(chunks, MOST_DOCUMENT_BYTES))
    except network.trouble() as error:
        raise Offline(f"{what}: {network.reason(error)}", AWAY_HINT) from error
    status = response.status_code
    if status == requests.codes.too_many_requests or status >= requests.codes.server_error:
        raise Offline(f"{what}: its registry answers with status {status}", AWAY_HINT)
    if status != requests.codes.ok:
        raise InvalidContainer(
            f"{what}: its registry answers with status {status}",
            hint="Check the image's name; a private registry needs `docker login` first.",
        )
    if not content.startswith(b"{"):
        # A page that a captive portal answers with.
        raise Offline(f"{what}: what answers is no image registry", AWAY_HINT)
    digest = reference.removeprefix("sha256:")
    if digest != reference and hashlib.sha256(content).hexdigest() != digest:
        raise Offline(f"{what}: its registry answers {reference} with other content")
    return content


def proof(image: str, digest: str, image_id: str) -> list[bytes]:
    """The manifest of that digest in an image's repository, if it is of the image with that ID.

    For an index it is the index, and its manifest that is. Empty if that is not so, or not to be
    had. It comes with the credentials that `docker login` stored, for no other host than theirs.
    """
    content = _manifest(image, digest)
    read = Manifests()
    read.see(digest, content)
    if image_id in read.named(digest):
        return [content]
    for one in read.named(digest)[:MOST_ENTRIES]:
        below = _manifest(image, one)
        read.see(one, below)
        if image_id in read.named(one):
            return [content, below]
    return []


def saved(image: str, manifest: bytes) -> Iterator[bytes]:
    """An image of a repository as `docker save` writes it, by its manifest.

    Raises `Offline` if a part of it cannot be had.
    """
    content, digest = json.loads(manifest), hashlib.sha256(manifest).hexdigest()
    parts = [content["config"], *content["layers"]]
    config, *layers = (_place(part["digest"]) for part in parts)
    entry = {"digest": f"sha256:{digest}", "size": len(manifest)}
    entry["mediaType"] = content.get("mediaType") or MANIFEST_TYPES[0]
    documents = {
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
        "index.json": {"schemaVersion": 2, "manifests": [entry]},
        "manifest.json": [{"Config": config, "RepoTags": None, "Layers": layers}],
    }
    yield from _member(_place(digest), len(manifest), [manifest])
    for name, document in documents.items():
        text = json.dumps(document).encode()
        yield from _member(name, len(text), [text])
    for name, part in {_place(part["digest"]): part for part in parts}.items():
        yield from _member(name, part["size"], _blob(image, name.rpartition("/")[2]))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _place(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _member(name: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A file in a tar archive. Raises `Offline` if it comes in another size."""
    member = tarfile.TarInfo(name)
    member.size = left = size
    yield member.tobuf(tarfile.PAX_FORMAT)
    for chunk in chunks:
        left -= len(chunk)
        yield chunk
    if left:
        raise Offline(f"{name} of an image did not come whole from its registry")
    yield bytes(-size % tarfile.BLOCKSIZE)


def _blob(image: str, digest: str) -> Iterator[bytes]:
    found = hashlib.sha256()
    try:
        with requests.Session() as session:
            for chunk in _content(session, image, f"blobs/sha256:{digest}"):
                found.update(chunk)
                yield chunk
    except network.trouble() as error:
        raise Offline(f"a layer of {image} cannot be had: {network.reason(error)}") from error
    if found.hexdigest() != digest:
        raise Offline(f"the registry of {image} has no layer {digest}")


def _manifest(image: str, digest: str) -> bytes:
    """What a registry has of that digest; empty if nothing comes that has it."""
    try:
        with requests.Session() as session:
            whole = _content(session, image, f"manifests/sha256:{digest}")
            content = b"".join(_bounded(whole, MOST_DOCUMENT_BYTES))
    except network.trouble():
        return b""
    return content if hashlib.sha256(content).hexdigest() == digest else b""


def _bounded(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """The chunks up to about so many bytes."""
    for chunk in chunks:
        yield chunk
        most -= len(chunk)
        if most < 0:
            return


def _split(image: str) -> tuple[str, str]:
    """An image's registry and its repository there."""
    name = image.partition("@")[0]
    first, slash, rest = name.partition("/")
    if not slash or not (set(first) & set(".:") or first == "localhost"):
        first, rest = DOCKER_HUB, name if slash else f"library/{name}"
    return first, rest.partition(":")[0]


def _is_loopback(host: str) -> bool:
    """Whether engines take a registry there without TLS, unasked."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _content(session: requests.Session, image: str, path: str) -> Iterator[bytes]:
    """What a registry answers for a path of an image's repository; nothing if it refuses."""
    response = _answer(session, image, path)
    if response.status_code == requests.codes.ok:
        yield from response.iter_content(CHUNK_BYTES)


def _answer(session: requests.Session, image: str, path: str) -> requests.Response:
    host, repository = _split(image)
    address = ITS_HOST if host == DOCKER_HUB else host
    session.headers["Accept"] = ", ".join((*MANIFEST_TYPES, "*/*"))
    url = f"https://{address}/v2/{repository}/{path}"
    try:
        response = _get(session, url, host)
    except requests.ConnectionError:
        if not _is_loopback(host):
            raise
        response = _get(session, url.replace("https:", "http:", 1), host)
    return response


def _get(session: requests.Session, url: str, host: str) -> requests.Response:
    ask = partial(session.get, url, timeout=TIMEOUT_SECONDS, stream=True)
    response = ask(auth=network.no_auth)
    if response.status_code == requests.codes.unauthorized:
        response = ask(auth=_authorization(session, response, host))
    return response


def _authorization(session: requests.Session, response: requests.Response, host: str) -> Any:
    """What answers a registry's challenge: credentials, or a token that they, or nobody's, get."""
    challenge = response.headers.get("WWW-Authenticate", "")
    parameters = dict(_PARAMETER.findall(challenge))
    own = _credentials(host) or network.no_auth
    if not challenge.lower().startswith("bearer"):
        return own
    realm = parameters.pop("realm", "")
    if urlsplit(realm).scheme != "https" and not _is_loopback(urlsplit(realm).netloc):
        return network.no_auth
    told = session.get(realm, params=parameters, auth=own, timeout=TIMEOUT_SECONDS).json()
    token = told.get("token") or told.get("access_token")

    def bear(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return bear


def _credentials(host: str) -> tuple[str, str] | None:
    """What `docker login` stored for a registry."""
    from docker import auth, errors

    try:
        found = auth.load_config().resolve_authconfig(host) or {}
    except errors.DockerException:
        return None
    known = {key.lower(): value for key, value in found.items()}
    user, password = known.get("username"), known.get("password")
    return (user, password) if user and password else None
