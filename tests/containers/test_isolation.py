"""Code in a container that tries to get out of its task fails, on every platform that isolates."""

import os
import socket
import threading
from collections.abc import Callable

import pytest

from medperf_client.containers.job import Limits
from medperf_client.errors import ContainerFailed
from tests.support.images import ulimits
from tests.support.sandbox import ATTEMPT, NOBODY, Sandbox, as_nobody

# Apptainer itself has about twenty.
PIDS = 60


def own_address() -> str:
    """An address of this machine that containers with a network can reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Connecting a datagram socket sends nothing.
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def test_it_has_no_network(sandbox: Sandbox) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        address = (own_address(), server.getsockname()[1])
        socket.create_connection(address, timeout=5).close()
        printed = sandbox.run(
            ATTEMPT
            + f"import socket\nattempt(socket.create_connection, {address!r}, 5)\n"
            + "print([name for _, name in socket.if_nameindex()])"
        )
    assert "worked" not in printed
    assert "eth" not in printed


def test_it_cannot_change_its_inputs(sandbox: Sandbox) -> None:
    printed = sandbox.run(
        ATTEMPT
        + """
print(open('/input/scan.txt').read())
attempt(open, '/input/scan.txt', 'w')
attempt(open, '/input/new.txt', 'w')
attempt(os.unlink, '/input/scan.txt')
attempt(os.chmod, '/input/scan.txt', 0o777)
attempt(os.utime, '/input/scan.txt')
"""
    )
    assert printed.splitlines()[0] == "42"
    assert "worked" not in printed
    assert (sandbox.folder / "input" / "scan.txt").read_text() == "42"
    assert [path.name for path in (sandbox.folder / "input").iterdir()] == ["scan.txt"]


PLACES = """
for place in ('/', '/usr/local/bin/', '/etc/', '/home-of-my-own/'):
    attempt(open, place + 'new', 'w')
    attempt(os.mkdir, place + 'folder')
attempt(open, '/usr/local/bin/python3', 'r+b')
"""


def test_with_a_read_only_root_it_writes_nowhere_but_to_its_outputs_and_tmp(
    sandbox: Sandbox,
) -> None:
    limits = Limits(seconds=60, read_only_root=True)
    assert "worked" not in sandbox.run(ATTEMPT + PLACES, limits)
    code = "for place in '/output', '/tmp', '/dev/shm': open(place + '/result', 'w').close()"
    sandbox.run(code, limits)
    assert (sandbox.folder / "output" / "result").is_file()


def test_its_user_has_a_name_though_the_image_knows_none(sandbox: Sandbox) -> None:
    def ask() -> None:
        printed = sandbox.again().run("import getpass, os; print(os.getuid(), getpass.getuser())")
        assert printed == f"{os.getuid()} medperf"

    (sandbox.folder / "again").mkdir()
    (sandbox.folder / "again").chmod(0o777)
    as_nobody(ask)


def test_it_writes_to_its_image_what_its_user_may_write_there(engine_sandbox: Sandbox) -> None:
    engine_sandbox.folder.chmod(0o777)

    def attack() -> None:
        assert "worked" not in engine_sandbox.run(ATTEMPT + PLACES)

    as_nobody(attack)


def test_it_has_no_capabilities(sandbox: Sandbox) -> None:
    printed = sandbox.run(
        ATTEMPT
        + """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
def mount(*arguments):
    if libc.mount(*arguments):
        raise OSError(ctypes.get_errno(), 'mount')
attempt(mount, b'none', b'/tmp', b'tmpfs', 0, None)
attempt(mount, b'none', b'/input', None, 32 | 4096, None)
open('/tmp/mine', 'w').close()
attempt(os.chown, '/tmp/mine', 1234, 1234)
attempt(os.chroot, '/tmp')
attempt(os.mknod, '/tmp/disk', 0o60600, os.makedev(8, 0))
attempt(os.nice, -5)
attempt(socket.sethostname, 'other')
attempt(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)
"""
    )
    assert "worked" not in printed
    status = sandbox.run("print(open('/proc/self/status').read())")
    sets = [line.split() for line in status.splitlines() if line.startswith("Cap")]
    assert {name: int(bits, 16) for name, bits in sets} == dict.fromkeys(
        ("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"), 0
    )


# A copy of Python that belongs to root and is setuid.
SETUID = """
import os, shutil
shutil.copy('/usr/local/bin/python3', '/usr/local/bin/root-python')
os.chmod('/usr/local/bin/root-python', 0o4755)
"""


def test_it_cannot_become_root(sandbox: Sandbox, changed_image: Callable[[str], None]) -> None:
    changed_image(SETUID)
    who = "import os; print(os.getresuid())"
    assert sandbox.client is not None
    unprotected = sandbox.client.containers.run(
        f"sha256:{sandbox.image_id}",
        ["root-python", "-c", who],
        user=f"{NOBODY}:{NOBODY}",
        network_mode="none",
        ulimits=ulimits(),
        remove=True,
    )
    assert unprotected.decode().strip() == f"({NOBODY}, 0, 0)"

    sandbox.folder.chmod(0o777)
    (sandbox.folder / "output").chmod(0o777)

    def attack() -> None:
        caller = os.getuid()
        assert sandbox.run(who, python="root-python") == f"({caller}, {caller}, {caller})"
        printed = sandbox.run(ATTEMPT + "attempt(os.setuid, 0); attempt(os.setgid, 0)")
        assert "worked" not in printed

    as_nobody(attack)


def test_what_it_writes_belongs_to_the_caller(sandbox: Sandbox) -> None:
    sandbox.folder.chmod(0o777)
    (sandbox.folder / "output").chmod(0o777)

    def check() -> None:
        sandbox.run("open('/output/result', 'w').close()")
        found = (sandbox.folder / "output" / "result").stat()
        assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())

    as_nobody(check)


def test_a_fork_bomb_is_bounded(sandbox: Sandbox) -> None:
    printed = sandbox.run(
        """
import os, signal
children = []
try:
    while len(children) < 500:
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
except BlockingIOError:
    print('refused after', len(children))
""",
        Limits(seconds=60, pids=PIDS),
    )
    assert printed.startswith("refused after ")
    assert int(printed.split()[-1]) < PIDS


def test_it_cannot_run_past_its_time_limit(sandbox: Sandbox) -> None:
    with pytest.raises(ContainerFailed, match=r"its limit of 5 s(.|\n)*still here"):
        sandbox.run(
            "import signal, time\n"
            "for each in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
            "    signal.signal(each, signal.SIG_IGN)\n"
            "print('still here', flush=True)\n"
            "for _ in range(30): time.sleep(1)",
            Limits(seconds=5),
        )
    assert sandbox.left() == []


def test_it_cannot_take_more_memory_than_its_limit(sandbox: Sandbox) -> None:
    with pytest.raises(ContainerFailed, match="memory|137"):
        sandbox.run(
            "kept = [bytearray(b'x') * (16 << 20) for _ in range(30)]; print('all of it')",
            Limits(seconds=60, memory_bytes=64 << 20),
        )
    assert "all of it" not in sandbox.log.read_text()


def test_it_sees_nothing_of_the_host(sandbox: Sandbox) -> None:
    secret = sandbox.folder / "secret"
    secret.write_text("of the host")
    printed = sandbox.run(
        "import os, glob\n"
        f"print([p for p in ({str(secret)!r}, '/var/run/docker.sock', '/run/docker.sock', "
        "'/run/podman/podman.sock') if os.path.exists(p)])\n"
        "print(len([p for p in os.listdir('/proc') if p.isdigit()]) < 5)\n"
        "print(os.environ.get('MEDPERF_TEST_SECRET'))"
    )
    assert printed.splitlines() == ["[]", "True", "None"]


def test_it_cannot_write_to_the_terminal_of_who_reads_its_failure(sandbox: Sandbox) -> None:
    with pytest.raises(ContainerFailed) as caught:
        sandbox.run(
            r"print('\x1b]0;owned\x07\x1b[2Jred \x1b[31mherring\x9b1m\u202e'); raise SystemExit(3)"
        )
    message = str(caught.value)
    assert "exit code 3" in message and str(sandbox.log) in message
    assert "red herring" in message
    assert all(c.isprintable() or c == "\n" for c in message)


def test_many_at_once_do_not_meet(sandbox: Sandbox) -> None:
    failed: list[BaseException] = []

    def one(number: int) -> None:
        folder = sandbox.folder / str(number)
        folder.mkdir()
        own = Sandbox(sandbox.image_id, folder, sandbox.runner, sandbox.archive)
        try:
            assert own.run(f"print({number})") == str(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
