"""What a profile says of the queue that its models run in."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from medperf_client.errors import UsageError

# This machine, which no profile has to name.
LOCAL = "local"
# The queues that one may name, each with the class that serves it: see CONTRIBUTING.md.
KINDS = {"slurm": "medperf_client.executors.slurm:Slurm"}
_OPTION = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class ExecutorSettings:
    """A queue, and what each job asks of it; None leaves it to the queue.

    `time` and `memory` are written as the queue has them (`12:00:00`, `32G`), `gpus` is for a
    container that asks for all of them. `directives` are handed on as they are, an option with
    `true` without a value. `setup` are lines of shell before a step, `python` the interpreter
    on the nodes, `node_folder` where on a node's own disk what is read is copied to; variables of
    the job's environment may stand in it. `cases_per_job` is how many cases of a model one job does
    at most, where its container says that they can be shared out (`containers.spec.CASES`).
    """

    kind: str
    shared_folder: Path
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    memory: str | None = None
    gpus: int | None = None
    directives: Mapping[str, str | int | bool] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    python: str | None = None
    node_folder: str | None = None
    cases_per_job: int | None = None


def executor_settings(values: Mapping[str, Any], where: str) -> ExecutorSettings:
    """The settings that a profile wrote. Raises `UsageError` naming the one that is wrong."""
    known = [one.name for one in fields(ExecutorSettings)]
    for key in values:
        if key not in known:
            raise UsageError(
                f"{where}: there is no setting executor.{key}",
                hint=f"The settings are {', '.join(known)}.",
            )
    kind = values.get("kind")
    _expect(where, "kind", kind, _is_text(kind) and kind in KINDS, " or ".join(KINDS))
    folder = values.get("shared_folder")
    is_path = _is_text(folder) and Path(str(folder)).is_absolute()
    _expect(where, "shared_folder", folder, is_path, "an absolute path that every node has")
    for key in ("partition", "account", "time", "memory", "python"):
        given = values.get(key)
        _expect(where, key, given, given is None or _is_text(given), "text in quotes")
    near = values.get("node_folder")
    is_near = near is None or (_is_text(near) and str(near).startswith(("/", "$")))
    expected = "an absolute path on the nodes, which may begin with a variable, such as $TMPDIR"
    _expect(where, "node_folder", near, is_near, expected)
    for key, what, bound in (
        ("gpus", "a number of GPUs", 10_000),
        ("cases_per_job", "a number of cases", 10**9),
    ):
        count = values.get(key)
        is_number = isinstance(count, int) and not isinstance(count, bool) and 0 < count < bound
        _expect(where, key, count, count is None or is_number, what)
    setup = values.get("setup", ())
    is_lines = isinstance(setup, (list, tuple)) and all(map(_is_text, setup))
    _expect(where, "setup", setup, is_lines, "a list of lines, such as [module load apptainer]")
    return ExecutorSettings(
        **{
            **values,
            "shared_folder": Path(str(folder)),
            "directives": _directives(values.get("directives", {}), where),
            "setup": tuple(setup),
        }
    )


def require_fit(settings: ExecutorSettings, own_options: Container[str], placeholders: str) -> None:
    """Raise `UsageError` naming a setting that a kind of queue cannot have.

    Those are directives that it gives itself, and a path with what it puts other things in place
    of.
    """
    where, folder = "this profile", str(settings.shared_folder)
    is_plain = not set(folder) & set(placeholders)
    none_of = " and ".join(f"no {one}" for one in placeholders)
    _expect(where, "shared_folder", folder, is_plain, none_of)
    for name in settings.directives:
        is_free, key = name not in own_options, f"directives.{name}"
        _expect(where, key, name, is_free, "an option that is not the client's own")


def _directives(values: object, where: str) -> dict[str, str | int | bool]:
    is_mapping = isinstance(values, Mapping)
    _expect(where, "directives", values, is_mapping, "options by name, such as {qos: long}")
    assert isinstance(values, Mapping)
    for name, value in values.items():
        key = f"directives.{name}"
        is_option = isinstance(name, str) and _OPTION.fullmatch(name) is not None
        _expect(where, key, name, is_option, "the long name of an option, without dashes")
        is_value = _is_text(value) or (isinstance(value, int) and value is not False)
        _expect(
            where, key, value, is_value, "text, a number, or true for an option without a value"
        )
    return dict(values)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _expect(where: str, key: str, found: object, is_right: bool, expected: str) -> None:
    if not is_right:
        raise UsageError(f"{where}: executor.{key} expects {expected}, found {found!r}")
