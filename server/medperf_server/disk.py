"""What has to outlive a power cut."""

import os
from pathlib import Path


def settle(path: Path) -> None:
    """Have the disk take a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
