"""What one file may be at most, and how slow its host."""

from dataclasses import dataclass

from medperf_client.errors import Refused


@dataclass(frozen=True)
class Bounds:
    """The most bytes that a file may have, decoded, and how many a second its host must send."""

    most_bytes: int = 1 << 38
    least_speed: int = 1000

    def check(self, source: str, size: int) -> None:
        """Raise `Refused` for a file that is, or will be, too large."""
        if size > self.most_bytes:
            raise Refused(
                f"{source} is larger than the {self.most_bytes} bytes that a file may have",
                "If it has to be, raise the profile's download_bytes.",
            )
