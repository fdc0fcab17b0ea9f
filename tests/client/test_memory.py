"""Tasks that run at once fit in the memory of the machine, as far as their bounds tell."""

import threading

from medperf_client.executors.memory import Memory


def begun(memory: Memory, bound: int | None) -> tuple[threading.Thread, threading.Event]:
    """A task in a thread of its own, and whether it has begun by now."""
    began = threading.Event()

    def run() -> None:
        with memory.taken(bound):
            began.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(0.2)
    return thread, began


def test_bounds_that_do_not_fit_together_are_not_taken_together() -> None:
    memory = Memory(8)
    with memory.taken(5):
        with memory.taken(3):
            waiting = [begun(memory, 1), begun(memory, 100)]
            assert not any(began.is_set() for _, began in waiting)
            assert begun(memory, None)[1].is_set()
        assert waiting[0][1].wait(30) and not waiting[1][1].is_set()
    assert waiting[1][1].wait(30)
    for thread, _ in waiting:
        thread.join(30)
    # All of it is free again.
    assert begun(memory, 8)[1].is_set()


def test_the_whole_is_what_the_machine_has() -> None:
    memory = Memory()
    with memory.taken(1 << 62):
        thread, began = begun(memory, 1)
        assert not began.is_set()
    assert began.wait(30)
    thread.join(30)
