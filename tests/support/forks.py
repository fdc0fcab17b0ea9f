"""Processes of the product without the wait for their imports: forks of one that has done them.

`Popen` and `run` are those of `subprocess`, for `python -m` and a module of the product. The first
command of a kind starts a parent that imports everything and opens nothing; each command is a fork
of it, with the arguments, environment, folder and streams that were asked for, and a child of
whoever asked: it is waited for, and killed, like any other. What a fork cannot be asked (another
interpreter's settings, another process group), and what is not on Linux, is started as ever.

Where the start itself is the subject, a test uses `subprocess`.
"""

import atexit
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMPORT_ROOTS = [str(ROOT / name) for name in ("cache", "client", "server")]

# By the module that is run: what is imported beforehand, with all that is in it or on its own.
PRELOADED = {
    "medperf_client": (
        ("medperf_client", "medperf_cache"),
        ("docker", "keyring", "requests", "rich.console", "rich.progress", "platformdirs")
        + ("cryptography.hazmat.primitives.asymmetric.ed25519", "tarfile", "sqlite3"),
    ),
    "medperf_server.cli": (
        ("medperf_server",),
        ("psycopg", "precis_i18n", "confusable_homoglyphs.confusables", "alembic.command")
        + ("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg"),
    ),
}
# Importing these is doing what they are for; and numpy, which one of them needs, starts threads.
NOT_IMPORTED = (".__main__", ".wsgi", ".migrations", ".analysis.resampling")
# What an interpreter reads when it starts: a fork cannot read it again.
OF_THE_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")
LARGEST_REQUEST = 1 << 20
PR_SET_CHILD_SUBREAPER = 36


def ordinary() -> dict[str, str]:
    """This process's environment, in which Python finds the product."""
    path = os.pathsep.join([*IMPORT_ROOTS, os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


class Popen(subprocess.Popen[str]):
    """A command in a process of its own, which may be a fork."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        executable, preexec, close_fds, pass_fds, cwd, env, _, _, shell, *others = rest
        streams, (_, *identity) = others[:6], others[6:]
        p2cread, _, _, c2pwrite, _, errwrite = streams
        program = _program(args)
        as_ever = executable or preexec or not close_fds or pass_fds or shell or env is None
        # Another user, group, umask, session or process group.
        as_ever = as_ever or any(one not in (None, False, -1) for one in identity)
        if as_ever or program is None or _settings(env) != _settings(ordinary()):
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        parent = _parent(program[0], _settings(env))
        descriptors = [
            number if asked == -1 else asked
            for number, asked in enumerate((p2cread, c2pwrite, errwrite))
        ]
        request = {"words": program[2], "unbuffered": program[1], "cwd": str(cwd or Path.cwd())}
        self.pid = parent.fork({**request, "environment": dict(env)}, descriptors)
        self._child_created = True
        self._close_pipe_fds(*streams)  # type: ignore[attr-defined]


def run(command: Any, *, input: str = "", timeout: float, **options: Any) -> Any:
    """`subprocess.run` of a command whose output is kept."""
    pipe = subprocess.PIPE
    with Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _program(args: Any) -> tuple[str, bool, list[str]] | None:
    """The module that a command line runs, whether unbuffered, and its arguments."""
    if not sys.platform.startswith("linux") or isinstance(args, str):
        return None
    executable, *words = map(str, args)
    unbuffered = words[:1] == ["-u"]
    words = words[unbuffered:]
    if executable != sys.executable or words[:1] != ["-m"] or words[1] not in PRELOADED:
        return None
    return words[1], unbuffered, words[2:]


def _settings(environment: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in environment.items() if item[0].startswith(OF_THE_START)))


@cache
def _parent(module: str, settings: tuple[tuple[str, str], ...]) -> "Parent":
    return Parent(module, dict(settings))


class Parent:
    """A process that has imported what a module needs, to be forked."""

    def __init__(self, module: str, settings: dict[str, str]) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OF_THE_START)}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, __file__, module],
                env={**kept, **settings},
                stdin=theirs,
                stdout=subprocess.DEVNULL,
            )
        self._lock = threading.Lock()
        self._prctl = ctypes.CDLL(None).prctl

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        """The process ID of a new child, of this process, that does what was asked."""
        with self._lock:
            # Whose parent ends meanwhile becomes a child of this process: the new one does.
            self._prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self.control, [json.dumps(request).encode()], streams)
                answer = self.control.recv(100)
            finally:
                self._prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        assert answer, f"what imports for the others has ended: {self.process.wait()}"
        return int(answer)


# From here on it is the parent, and what it forks.


def preload(module: str) -> None:
    """Import what a module may need."""
    packages, others = PRELOADED[module]
    for name in others:
        # What comes with an extra may be missing.
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for package in packages:
        found = importlib.import_module(package)
        for one in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not any(f"{one.name}.".find(f"{left}.") > 0 for left in NOT_IMPORTED):
                importlib.import_module(one.name)
    gc.collect()
    gc.freeze()


def assert_nothing_is_open() -> None:
    """A fork shares what its parent has open, and lacks its threads: there must be neither."""
    found = {
        int(name): os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
    }
    opened = {number: name for number, name in found.items() if number > 2 and "/proc/" not in name}
    assert not opened, f"importing opened {opened}"
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"importing started threads: {threading.enumerate()}"


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork for every request until nobody can ask any more; in a fork, its request."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, LARGEST_REQUEST, 3)
        if not message:
            return None
        told, tell = os.pipe()
        between = os.fork()
        if not between:
            child = os.fork()
            if child:
                os.write(tell, str(child).encode())
                # Its child is an orphan now, and goes to whoever asked.
                os._exit(0)
            os.close(told)
            os.close(tell)
            control.detach()
            request: dict[str, Any] = json.loads(message)
            become(request, descriptors)
            return request
        os.close(tell)
        child = int(os.read(told, 100))
        os.waitpid(between, 0)
        for descriptor in (told, *descriptors):
            os.close(descriptor)
        control.send(str(child).encode())


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """What a new interpreter would begin with."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["cwd"])
    sys.path.insert(0, os.getcwd())
    sys.argv = ["-m", *request["words"]]
    like_in, like_out, like_err = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = sys.__stdin__ = _opened(0, "r", like_in, newline=None)
    if request["unbuffered"]:
        raw = io.FileIO(1, "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            raw,  # type: ignore[type-var]
            encoding=like_out.encoding,
            errors=like_out.errors,
            newline="\n",
            write_through=True,
        )
    else:
        sys.stdout = _opened(1, "w", like_out, newline="\n")
    sys.__stdout__ = sys.stdout
    sys.stderr = sys.__stderr__ = _opened(2, "w", like_err, newline="\n", buffering=1)


def _opened(number: int, mode: str, like: Any, **options: Any) -> Any:
    encoding, errors = like.encoding, like.errors
    return open(number, mode, encoding=encoding, errors=errors, closefd=False, **options)


def main() -> None:
    """Import, then fork; in a fork, run the module."""
    module = sys.argv[1]
    control = socket.socket(fileno=0)
    # This folder's modules are no modules of the product's.
    sys.path.pop(0)
    preload(module)
    assert_nothing_is_open()
    if serve(control) is not None:
        end(done(module))


def done(module: str) -> Any:
    """Run a module as a program; what it ends with: `SystemExit` may say it, or what was raised."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as said:
        return said.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return error


def end(said: Any) -> None:
    """Do what an interpreter does last, but for tearing down all that was imported.

    A fork would have to copy most of what it shares for that.
    """
    if said is not None and not isinstance(said, int | BaseException):
        print(said, file=sys.stderr)
    code = said if isinstance(said, int) else int(said is not None)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # What was imported before is frozen, and not looked at.
    for one in gc.get_objects():
        if issubclass(type(one), sqlite3.Connection):
            # One that is left open leaves its log of writes, and the room that takes.
            with suppress(sqlite3.Error):
                one.close()
    for stream, if_broken in ((sys.stdout, 120), (sys.stderr, code)):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = if_broken
    if isinstance(said, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
