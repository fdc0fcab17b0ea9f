"""Ask the local Docker engine what it is and has, at the price of one socket.

The Docker SDK takes 0.2 s to import, `http.client` 0.02 s. A test that is answered from the cache
asks nothing but this, so it speaks to the engine's socket itself: HTTP/1.0, where the answer ends
when the connection does.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

DEFAULT_SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "podman/podman.sock"
TIMEOUT_SECONDS = 10.0
# What a registry may call an image, or a list of images by processor.
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


def socket_path() -> str | None:
    """The engine's Unix socket; None if the SDK has to find the engine (TCP, SSH, a context)."""
    host = os.environ.get("DOCKER_HOST")
    if host:
        return host.removeprefix("unix://") if host.startswith("unix://") else None
    return None if _context() else DEFAULT_SOCKET


def podman_socket() -> str | None:
    """Podman's Unix socket, or what DOCKER_HOST names; None if the SDK has to find that."""
    if os.environ.get("DOCKER_HOST"):
        return socket_path()
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}", PODMAN_SOCKET)
    return str(own if own.exists() else Path("/run", PODMAN_SOCKET))


def answers(path: str | None) -> bool:
    """Whether an engine listens at a socket; where there is none to look at, it is said to."""
    if path is None:
        return True
    import socket

    try:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(TIMEOUT_SECONDS)
            engine.connect(path)
    except OSError:
        return False
    return True


def _context() -> str:
    chosen = os.environ.get("DOCKER_CONTEXT")
    if chosen is None:
        # For a user without a home there is no folder of that name, and so no context.
        folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
        try:
            chosen = json.loads(Path(folder, "config.json").read_bytes())["currentContext"]
        except (OSError, ValueError, KeyError, TypeError):
            chosen = ""
    return "" if chosen == "default" else str(chosen)


def image(path: str, reference: str) -> dict[str, Any] | None:
    """What the engine says of an image by name or `sha256:ID`; None if it or the engine is away.

    Of what it says, `plain_id`, `is_configuration` and `repository_digests` make sense.
    """
    _, body = _answer(path, f"/images/{quote(reference, safe='/:@')}/json")
    found = dict(json.loads(body)) if body else {}
    return found if is_image(found) else None


def api_version(path: str) -> str | None:
    """The version of its API that an engine speaks, such as `1.41`; None if it does not say so.

    An engine that is asked for its version, as the SDK does, looks up those of all its parts:
    Podman takes 0.3 s for that.
    """
    head, _ = _answer(path, "/_ping")
    fields = (line.partition(b":") for line in head.splitlines())
    found = next((value for name, _, value in fields if name.lower() == b"api-version"), b"")
    return found.strip().decode("latin-1") or None


def _answer(path: str, target: str) -> tuple[bytes, bytes]:
    """The head and the body of a good answer; two times nothing for any other, and for none."""
    import socket

    try:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(TIMEOUT_SECONDS)
            engine.connect(path)
            engine.sendall(f"GET {target} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            answer = b"".join(iter(lambda: engine.recv(1 << 16), b""))
    except OSError:
        return b"", b""
    head, _, body = answer.partition(b"\r\n\r\n")
    return (head, body) if head.split(b" ", 2)[1:2] == [b"200"] else (b"", b"")


def is_image(found: Mapping[str, Any]) -> bool:
    """Whether what an engine has under a name is an image at all.

    Where Docker keeps images in containerd, a pull that a captive portal answers with a page leaves
    the page under the image's name.
    """
    kind = (found.get("Descriptor") or {}).get("mediaType")
    return bool(found) and (not kind or kind in MANIFEST_TYPES)


def is_configuration(found: Mapping[str, Any]) -> bool:
    """Whether an engine's ID of an image is the digest of the image's configuration.

    It is that of a manifest, or of an index of manifests, where Docker keeps images in containerd.
    """
    described = (found.get("Descriptor") or {}).get("digest")
    return found["Id"] != described and plain_id(found["Id"]) not in repository_digests(found)


def repository_digests(found: Mapping[str, Any]) -> set[str]:
    """The digests by which registries are known to have an image."""
    return {plain_id(name.partition("@")[2]) for name in found.get("RepoDigests") or ()}


def plain_id(image_id: str) -> str:
    """The 64 hexadecimal digits of an ID, as MedPerf keeps them in `image_hash`."""
    return image_id.removeprefix("sha256:")
