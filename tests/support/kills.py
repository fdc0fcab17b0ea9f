"""Commands that are killed at any moment."""

import random
import subprocess

from tests.support.consortium import Member


def kill_at_random(member: Member, words: list[str], longest: float, chance: random.Random) -> bool:
    """Start a command and kill it within `longest` seconds; whether it was still running."""
    process = member.start(*words)
    try:
        process.communicate(timeout=chance.uniform(0, longest))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    return False
