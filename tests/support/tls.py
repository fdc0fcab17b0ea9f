"""Hosts that speak TLS on loopback, with certificates of an authority of the test's own."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

LOOPBACK = x509.IPAddress(ip_address("127.0.0.1"))


class Authority:
    """Signs certificates. `file` is its own, for who is to trust it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A hospital's proxy")])
        extension = x509.BasicConstraints(ca=True, path_length=None)
        made = _builder(self._name, 0).issuer_name(self._name).add_extension(extension, True)
        self._certificate = made.public_key(self._key.public_key()).sign(self._key, hashes.SHA256())
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def certificate(self, name: x509.GeneralName = LOOPBACK, began_days_ago: int = 1) -> Path:
        """A file of a host's certificate for two days, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(x509.Name([]), began_days_ago).issuer_name(self._name)
        made = made.add_extension(x509.SubjectAlternativeName([name]), True)
        signed = made.public_key(key.public_key()).sign(self._key, hashes.SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file = self._folder / f"{signed.serial_number}.pem"
        file.write_bytes(signed.public_bytes(Encoding.PEM) + private)
        return file


def _builder(subject: x509.Name, began_days_ago: int) -> x509.CertificateBuilder:
    began = datetime.now(timezone.utc) - timedelta(days=began_days_ago)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=2))
    )


@contextmanager
def tls_host(certificate: Path, content: bytes) -> Iterator[str]:
    """A host that has `content` at every path; gives its URL, without a slash at the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # Not `handle_error`'s traceback, where a client hangs up because it does not trust it.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
