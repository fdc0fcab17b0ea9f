"""An image registry of the tests' own, and the images that go there."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from scripts.local_images import BASE, base_image, build, tag

from tests.support.services import free_port, require

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["BASE", "ImageRegistry", "base_image", "build"]


class ImageRegistry:
    """An image registry of the test's own, on a loopback port it keeps over stops and starts."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("docker-registry")
        require("docker", program is not None, "docker-registry is not installed")
        self.address = f"127.0.0.1:{free_port()}"
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
