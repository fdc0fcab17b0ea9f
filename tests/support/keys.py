"""Keys to sign bundles with."""

import subprocess
from pathlib import Path


def make_keys(place: Path) -> tuple[str, str]:
    """A key to sign with and its public half, made by OpenSSL as the help says."""
    private, public = f"{place}.pem", f"{place}.pub.pem"
    make = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", private]
    subprocess.run(make, check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public
