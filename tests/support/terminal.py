"""What a person at a terminal sees."""

import os


def read_terminal(descriptor: int) -> str:
    """What was written to a pseudo-terminal until its last writer left."""
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:
        # How Linux says that nobody writes any more.
        pass
    os.close(descriptor)
    return b"".join(parts).decode()
