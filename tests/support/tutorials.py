"""The commands of a tutorial, as it has them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCKS = re.compile(
    r"^#+ (?P<title>[^\n]+)$|^```bash\n(?P<lines>.*?)^```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Typed:
    """A command below a heading, without the word `medperf`, and how it is said to end."""

    heading: str
    words: tuple[str, ...]
    exit_code: int

    def __str__(self) -> str:
        return f"{self.heading}: medperf {shlex.join(self.words)}"


def typed(document: Path) -> Iterator[Typed]:
    """Every `medperf` command of a document's blocks, in its order."""
    heading = ""
    for found in BLOCKS.finditer(document.read_text(encoding="utf-8")):
        heading = found["title"] or heading
        for line in (found["lines"] or "").replace("\\\n", " ").splitlines():
            command, _, comment = line.partition("#")
            program, *words = shlex.split(command)
            assert program == "medperf", line
            yield Typed(heading, tuple(words), 1 if "exit code 1" in comment else 0)
