"""A program of the member's that is handed each line of news, such as one that shows it."""

import shlex
import shutil
import subprocess

from medperf_client.errors import UsageError

# In a word of the command it stands for the line.
PLACE = "{}"
# Until a program counts as stuck, and is ended.
SECONDS = 60
STDERR = 2


class Listener:
    """A command, split into words as a shell does it, but run without one.

    Raises `UsageError` if there is no such program.
    """

    def __init__(self, command: str) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"--notify {command!r} cannot be split into words: {error}") from error
        if not self._words or shutil.which(self._words[0]) is None:
            raise UsageError(
                f"--notify {command!r} names no program that can be run",
                hint="Give its path, and quote what belongs together: --notify 'mail -s News me'",
            )

    def hear(self, line: str) -> str:
        """Run the program with a line on its stdin, and in the place of each `{}`.

        Why it did not take the line, if so; nothing is raised. What it writes goes to stderr, and
        it may take SECONDS.
        """
        words = [word.replace(PLACE, line) for word in self._words]
        heard = f"{line}\n".encode(errors="replace")
        try:
            done = subprocess.run(words, input=heard, stdout=STDERR, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return f"--notify: {words[0]} took more than {SECONDS} seconds, and was ended"
        except (OSError, ValueError) as error:
            return f"--notify: {words[0]} cannot be run: {error}"
        return f"--notify: {words[0]} ended with {done.returncode}" if done.returncode else ""
