"""How long to leave alone whoever answered in vain."""

import random


def pause(failures: int, first: float, asked: float | None = None) -> float:
    """Seconds before the next try: what was `asked` for, else exponential with jitter.

    After one of `failures` at most `first` seconds, then twice as long each time. Full jitter, as
    in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), so that a consortium's sites
    do not come back all at once.
    """
    return random.uniform(0.1, 1) * first * 2.0 ** (failures - 1) if asked is None else asked
