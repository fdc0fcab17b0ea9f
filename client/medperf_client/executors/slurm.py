"""Slurm (22.05 or newer), by the commands that it comes with.

See `sbatch`(1), `squeue`(1), `sacct`(1), `scancel`(1); the states are those of "JOB STATE CODES".
"""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from medperf_client.containers.supervise import last_lines
from medperf_client.errors import MedPerfError, Unsupported
from medperf_client.executors.elements import Run
from medperf_client.executors.executor import MARK, Away, Executor, Seen, State
from medperf_client.files import write_atomically

# A controller that is busy, or started anew, is waited for so long by each command.
SECONDS = 120
# Of a run's name, as much as a job's name has of it.
SHOWN = 16
AWAY = re.compile(
    r"unable to contact|timed out|connection refused|connection reset|try again|"
    r"zero bytes|communication|temporarily|backup controller|not responding",
    re.IGNORECASE,
)
STATES = {
    **dict.fromkeys(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED"), State.WAITS),
    **dict.fromkeys(("RESV_DEL_HOLD", "SUSPENDED"), State.WAITS),
    **dict.fromkeys(("REQUEUE_HOLD", "SPECIAL_EXIT"), State.HELD),
    **dict.fromkeys(("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING"), State.RUNS),
    "STOPPED": State.RUNS,
    "COMPLETED": State.DONE,
    "PREEMPTED": State.PREEMPTED,
    **dict.fromkeys(("NODE_FAIL", "BOOT_FAIL"), State.NODE_FAILED),
    **dict.fromkeys(("TIMEOUT", "DEADLINE"), State.TOO_LONG),
    "OUT_OF_MEMORY": State.NO_MEMORY,
    **dict.fromkeys(("CANCELLED", "REVOKED"), State.CANCELLED),
    "FAILED": State.FAILED,
}
# Options that are the client's own to set, or that would have a job be another one.
OWN = frozenset(
    {
        *("array", "comment", "job-name", "output", "error", "input", "open-mode", "export"),
        *("export-file", "get-user-env", "parsable", "requeue", "no-requeue", "wait", "wrap"),
        *("chdir", "uid", "gid", "test-only", "hold", "clusters", "het-group", "ignore-pbs"),
    }
)
# In a job's log, of one that was ended for what Slurm's watcher counted (OverMemoryKill): Slurm
# tells of it as of any other that failed.
OVER_MEMORY = re.compile(r"slurmstepd\S*: error: .*exceeded memory limit")
FIELDS = "%F|%K|%T|%u|%j|%N|%r|%k"
# Units of memory; without one it is in megabytes.
BITS = {"K": 10, "": 20, "M": 20, "G": 30, "T": 40}
OWN_LINE = re.compile(r"\d+_\d")
NUMBERS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
# What squeue calls jobs of an array that ended before they began, and where sacct says they ran.
NO_NUMBER = "N/A"
NOWHERE = "None assigned"
ACCOUNTED = ("JobID", "State", "User", "JobName", "NodeList")


class Slurm(Executor):
    """Sends each run as one array; its jobs have its name in theirs, and in their comment."""

    own_options = OWN
    # sbatch puts other things in place of these.
    placeholders = "%\\"

    def send(self, run: Run, folder: Path) -> str:
        """See `Executor`. Nothing of this process's environment goes along."""
        script = folder / "script"
        write_atomically(script, self.script(folder, "$SLURM_ARRAY_TASK_ID"))
        for number in range(len(run.elements)):
            # Slurm does not begin a job whose words it has no room to make a file for.
            (folder / f"{number}.log").touch(mode=0o600)
        last = len(run.elements) - 1
        most = f"%{self._at_once}" if self._at_once else ""
        options = {
            "array": f"0-{last}{most}",
            "job-name": _called(run.name),
            "comment": f"{MARK} {run.name}",
            "output": f"{folder}/%a.log",
            "open-mode": "append",
            "export": "NIL",
            "chdir": str(folder),
            "requeue": True,
            **self._asked(run),
        }
        words = [_option(name, value) for name, value in options.items()]
        said = self._say("sbatch", "--parsable", *words, str(script)).strip()
        # With the cluster's name after it where there are several.
        job = said.splitlines()[-1].partition(";")[0] if said else ""
        if not job.isdecimal():
            raise MedPerfError(f"sbatch answered {said!r}, and no number of a job")
        return job

    def jobs(self, runs: Sequence[str]) -> list[Seen]:
        """See `Executor`. One question to the controller, and one to the accounting, if it is."""
        if not runs:
            return []
        said = self._say(
            "squeue", "--me", "--array", "--states=all", "--noheader", f"--format={FIELDS}"
        )
        lines = said.splitlines()
        found = _by_number(job_of(line, set(runs)) for line in lines)
        # The controller forgets a job some minutes after it ended, while others of its run go on.
        missing = {
            run: [one for one in self.wanted(run) if (run, one) not in found] for run in runs
        }
        missing = {run: numbers for run, numbers in missing.items() if numbers}
        if missing:
            never = _by_number(one for line in lines for one in unbegun(line, missing))
            found = {**never, **_by_number(self._accounted(missing)), **found}
        return [self._explained(one) for one in found.values()]

    def strays(self) -> list[Seen]:
        """See `Executor`. A job's working folder is that of its run."""
        said = self._say("squeue", "--me", "--array", "--noheader", f"--format={FIELDS}|%Z")
        found = (stray(line, self.folder / "runs") for line in said.splitlines())
        return [one for one in found if one is not None]

    def end(self, jobs: Sequence[Seen]) -> None:
        """See `Executor`."""
        if jobs:
            self._say("scancel", "--quiet", *(one.job for one in jobs))

    def asked(self) -> tuple[int | None, int | None]:
        """See `Executor`."""
        given = self._limits()
        return seconds_of(str(given.get("time"))), bytes_of(str(given.get("mem")))

    def _explained(self, seen: Seen) -> Seen:
        """What became of a job that failed, if its log says more than its state."""
        if seen.state == State.FAILED:
            lines = last_lines(self.folder / "runs" / seen.run / f"{seen.number}.log")
            if any(map(OVER_MEMORY.match, lines)):
                return replace(seen, state=State.NO_MEMORY)
        return seen

    def _accounted(self, missing: Mapping[str, Sequence[int]]) -> list[Seen]:
        """How jobs ended that the controller has forgotten, by run, if there is an accounting."""
        names = {_called(run): run for run in missing}
        words = ("-X", "-n", "-P", "-S", "now-90days", f"-o{','.join(ACCOUNTED)}")
        if shutil.which("sacct") is None:
            return []
        try:
            said = self._say("sacct", *words, f"--name={','.join(names)}")
        except MedPerfError:
            # There is no accounting, or it does not answer: the job counts as gone, or as unsent.
            return []
        # What began has a line of its own, which counts, and may stand in that of its array still.
        lines = sorted(said.splitlines(), key=lambda line: bool(OWN_LINE.match(line)))
        found = [seen for line in lines for seen in accounted(line, names, missing)]
        # Of what a controller has lost it is told for ever that it waits, or runs.
        return [one for one in found if not one.state.is_queued]

    def _asked(self, run: Run) -> dict[str, str | int | bool]:
        """What a job asks of the cluster."""
        gres = {"gres": f"gpu:{run.gpus}"} if run.gpus else {}
        return {**gres, **self._limits()}

    def _limits(self) -> dict[str, str | int | bool]:
        """What each job asks of the cluster, whatever its container asks for."""
        settings = self._settings
        named = {
            "partition": settings.partition,
            "account": settings.account,
            "time": settings.time,
            "mem": settings.memory,
        }
        return {
            **{name: value for name, value in named.items() if value is not None},
            **settings.directives,
        }

    def _say(self, program: str, *words: str) -> str:
        """What a command of Slurm's answers. Raises `Away`, or `MedPerfError` with its words."""
        if shutil.which(program) is None:
            raise Unsupported(
                f"{program} is not on PATH", hint="Run this where jobs are sent to Slurm from."
            )
        try:
            done = subprocess.run(
                [program, *words],
                # Whole, however many jobs of an array stand in one line.
                env={**os.environ, "SLURM_BITSTR_LEN": "0"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                # A job has that of who sent it, also for the file of its own words.
                umask=0o077,
                # What sends goes on by itself if this process is killed, and keeps the lock.
                close_fds=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise Away(f"{program} gave no answer for {SECONDS} s") from error
        if done.returncode == 0:
            return done.stdout
        said = done.stderr.strip() or f"exit code {done.returncode}"
        if AWAY.search(said):
            raise Away(f"{program}: {said}")
        raise MedPerfError(
            f"{program} refused: {said}",
            hint="What it was asked for is in the profile: medperf profile view",
        )


def seconds_of(text: str) -> int | None:
    """A time limit as sbatch has it, such as `90`, `12:00:00` or `2-12`; None if it is no limit."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(one.isdecimal() for one in [*parts, days or "0"]) or len(parts) > 3:
        return None
    # Hours first after days, and before minutes and seconds; else minutes.
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    found = sum(int(one) * unit for one, unit in zip(parts, units, strict=False))
    return int(days or 0) * 86400 + found or None


def bytes_of(text: str) -> int | None:
    """An amount of memory as sbatch has it, such as `32G`; None if it is none, or all."""
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)B?", text.upper())
    return int(match[1]) << BITS[match[2]] or None if match else None


def _called(run: str) -> str:
    return f"{MARK}-{run[:SHOWN]}"


def _option(name: str, value: str | int | bool) -> str:
    return f"--{name}" if value is True else f"--{name}={value}"


@cache
def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _state(text: str) -> State:
    """A state by its name, which words such as "by 1000" may follow."""
    return STATES.get(text.partition(" ")[0].rstrip("+"), State.RUNS)


def accounted(
    line: str, names: Mapping[str, str], missing: Mapping[str, Sequence[int]]
) -> Iterator[Seen]:
    """The jobs in a line of sacct's (`ACCOUNTED`) that are this user's, of runs by jobs' names.

    What of an array was cancelled before it began is one line, with or without its numbers: those
    are among the `missing` of its run.
    """
    job, state, user, name, node = [*line.split("|"), *[""] * 5][:5]
    array, _, text = job.partition("_")
    if user != _user() or name not in names:
        return
    # By nobody: the controller has lost it.
    found = State.GONE if state == "CANCELLED" else _state(state)
    rest = missing[names[name]] if found == State.CANCELLED else ()
    for number in _numbers(text) if text else rest:
        on = "" if node == NOWHERE else node
        yield Seen(f"{array}_{number}", names[name], number, found, on, state)


def _numbers(text: str) -> Iterator[int]:
    """The numbers that `3`, `[3-5,7]`, or `[0-9:3%2]` stands for."""
    for first, last, step in NUMBERS.findall(text.partition("%")[0]):
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def job_of(line: str, runs: Container[str]) -> Seen | None:
    """The job in a line of squeue's (`FIELDS`), if it is this user's, and of one of the runs.

    It has the run's name in its own, and the mark in its comment.
    """
    array, number, state, user, name, node, reason, comment = [*line.split("|", 7), *[""] * 8][:8]
    mark, _, run = comment.strip().partition(" ")
    is_ours = user == _user() and mark == MARK and run in runs and name == _called(run)
    if not is_ours or not number.isdecimal():
        return None
    why = "" if reason == "None" else reason
    # As it is after a node could not start it: Slurm waits for somebody to look.
    is_held = state == "PENDING" and "requeued held" in why
    found = State.HELD if is_held else _state(state)
    return Seen(f"{array}_{number}", run, int(number), found, node, why)


def stray(line: str, runs: Path) -> Seen | None:
    """The job in a line of squeue's (`FIELDS`, and where it works) whose run is gone from `runs`.

    None for those of others, of other folders, and of runs that are there.
    """
    *fields, place = [*line.split("|", 8), *[""] * 9][:9]
    run = fields[-1].strip().partition(" ")[2]
    is_gone = place == str(runs / run) and not os.path.lexists(place)
    return job_of("|".join(fields), {run}) if is_gone else None


def unbegun(line: str, missing: Mapping[str, Sequence[int]]) -> list[Seen]:
    """Which of the jobs that squeue does not tell of, by run, a line of its stands for.

    What of an array was cancelled before it began is one line, without numbers.
    """
    array, number, rest = [*line.split("|", 2), "", ""][:3]
    if number != NO_NUMBER:
        return []
    lines = [(f"{array}|{one}|{rest}", run) for run, ones in missing.items() for one in ones]
    found = [job_of(numbered, {run}) for numbered, run in lines]
    return [one for one in found if one is not None and not one.state.is_queued]


def _by_number(jobs: Iterable[Seen | None]) -> dict[tuple[str, int], Seen]:
    return {(one.run, one.number): one for one in jobs if one is not None}
