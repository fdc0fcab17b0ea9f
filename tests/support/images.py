"""An image registry of the tests' own, and the images that go there."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING

from scripts import local_images
from scripts.local_images import BASE, base_image, tag
from scripts.ports import own_port

from tests.support.consortium import packaging
from tests.support.services import require

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.types import Ulimit

__all__ = [
    "ARM_ONLY",
    "BASE",
    "ImageRegistry",
    "answering",
    "base_image",
    "build",
    "image_after",
    "ulimits",
]


def build(client: "DockerClient", folder: Path, name: str) -> str:
    """Build a container's folder, also one of the example as it is in the tree; the image ID."""
    if (folder / "Dockerfile").exists():
        return local_images.build(client, folder, name)
    # What it shares with others has to be laid out first.
    package = packaging()
    with TemporaryDirectory() as context:
        package.copy(package.build_context(folder), Path(context))
        return local_images.build(client, Path(context), name)


def ulimits() -> "list[Ulimit]":
    """Limits that every engine can grant."""
    from docker.types import Ulimit

    return [Ulimit(name=name, soft=1024, hard=1024) for name in ("nofile", "nproc")]


@contextmanager
def image_after(client: "DockerClient", code: str) -> Iterator[str]:
    """The ID of an image that is the base image once Python code ran there, as root."""
    api = client.api
    host = api.create_host_config(network_mode="none", ulimits=ulimits())
    make = api.create_container(base_image(client), ["python3", "-c", code], host_config=host)
    try:
        api.start(make)
        assert api.wait(make)["StatusCode"] == 0
        image = str(api.commit(make)["Id"])
    finally:
        api.remove_container(make)
    yield image.removeprefix("sha256:")
    client.images.remove(image, force=True)


TLS_HANDSHAKE = b"\x16"
# What a registry has of an image that nobody made for this processor.
ARM_ONLY = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifests": [
        {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "size": 527,
            "digest": f"sha256:{'ab' * 32}",
            "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"},
        }
    ],
}


@contextmanager
def answering(
    status: int, content: bytes, content_type: str, address: str = "127.0.0.1:0"
) -> Iterator[str]:
    """The address of an image registry on loopback that answers so, whatever image is asked for."""

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            # Some engines try TLS first, and go on without it if they are told so in HTTP.
            if self.rfile.peek(1)[:1] == TLS_HANDSHAKE:
                self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            else:
                super().handle()

        def do_GET(self) -> None:
            is_greeting = self.path == "/v2/"
            self.send_response(200 if is_greeting else status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(0 if is_greeting else len(content)))
            self.send_header("Docker-Content-Digest", f"sha256:{sha256(content).hexdigest()}")
            self.end_headers()
            if not is_greeting and self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    host, _, port = address.rpartition(":")
    with ThreadingHTTPServer((host, int(port)), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


class ImageRegistry:
    """An image registry of the test's own, on a loopback port it keeps over stops and starts."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("docker-registry")
        require("docker", program is not None, "docker-registry is not installed")
        self.address = f"127.0.0.1:{own_port()}"
        self._folder, self._log = folder, folder / "registry.log"
        self._command = [str(program), "serve", str(folder / "registry.yml")]
        self._configure()

    def _configure(self, **more: object) -> None:
        storage = {"filesystem": {"rootdirectory": str(self._folder / "images")}}
        settings = {"version": "0.1", "storage": storage, "http": {"addr": self.address}, **more}
        # JSON is YAML.
        (self._folder / "registry.yml").write_text(json.dumps(settings))

    @contextmanager
    def private(self, htpasswd: str) -> Iterator[None]:
        """Serve for the block only those whom a line of an htpasswd file (bcrypt) lets in."""
        path = self._folder / "htpasswd"
        path.write_text(f"{htpasswd}\n")
        self._restart(auth={"htpasswd": {"realm": "tests", "path": str(path)}})
        try:
            yield
        finally:
            self._restart()

    def _restart(self, **more: object) -> None:
        self.stop()
        self._configure(**more)
        self.start()

    def start(self) -> None:
        """Serve; returns when it listens."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        words = self._process.stderr
        assert words is not None
        if not any(b"listening on" in line for line in words):
            raise AssertionError(f"docker-registry ended with {self._process.wait()}")
        # Its messages must go on being read, or it stops when the pipe is full.
        Thread(target=lambda: self._log.write_bytes(words.read()), daemon=True).start()

    def stop(self) -> None:
        """Stop serving; what was pushed stays."""
        self._process.terminate()
        self._process.wait(timeout=10)

    def push(self, client: "DockerClient", image_id: str, name: str) -> str:
        """Push an image under `name`; returns the reference to pull it by."""
        reference = f"{self.address}/{name}"
        tag(client, f"sha256:{image_id}", reference)
        for event in client.api.push(reference, stream=True, decode=True):
            assert "error" not in event, event["error"]
        return reference

    def index(self, repository: str, tag: str) -> tuple[str, str]:
        """Put an index in place of a tag's manifest; the digests of the manifest and of the index.

        It says of the manifest that it is for several processors.
        """
        import requests

        url = f"http://{self.address}/v2/{repository}/manifests/"
        kinds = "application/vnd.docker.distribution.manifest.v2+json"
        found = requests.get(url + tag, headers={"Accept": kinds}, timeout=10)
        manifest = sha256(found.content).hexdigest()
        entry = {"mediaType": kinds, "size": len(found.content), "digest": f"sha256:{manifest}"}
        content = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": ARM_ONLY["mediaType"],
                "manifests": [
                    {**entry, "platform": {"os": "linux", "architecture": "s390x"}},
                    {**entry, "platform": {"os": "linux", "architecture": "amd64"}},
                    {**entry, "platform": {"os": "linux", "architecture": "arm64"}},
                ],
            }
        ).encode()
        headers = {"Content-Type": str(ARM_ONLY["mediaType"])}
        requests.put(url + tag, content, headers=headers, timeout=10).raise_for_status()
        return manifest, sha256(content).hexdigest()
