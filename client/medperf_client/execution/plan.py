"""The steps of a run as work to be done elsewhere: nothing runs, and all that it takes is named."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medperf_cache.digests import is_digest
from medperf_cache.memo import memo_key
from medperf_client.containers.job import Job
from medperf_client.containers.library import Container, Input
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import ALL_GPUS
from medperf_client.errors import Unsupported
from medperf_client.execution.steps import AskedStep, Step, Steps, asked_step, step_key
from medperf_client.execution.work import LOG, OUTPUTS, Work
from medperf_client.settings.config import APPTAINER, PROCESS

# What runs images that are files, which any machine can be given.
ANYWHERE = (APPTAINER, PROCESS)
PLAN_FORMAT = 1
# Where an input lies for whoever does the work. What is the member's `own` is removed by nobody
# else, while the cache may be cleaned at any time.
AtHand = Callable[[Input, bool], Path]


@dataclass(frozen=True)
class Promised(Input):
    """What a step gives, before anybody needs to have done it.

    `token` names it whatever it will be: the step's key, and the volume. Its path is relative to
    the folder of the plan, and its digest the token, unless the step is remembered.
    """

    token: str = ""
    kind: str = "file"

    @property
    def is_folder(self) -> bool:
        """See `Input`."""
        return self.kind == "directory"

    @property
    def is_there(self) -> bool:
        """Whether the step is remembered."""
        return is_digest(self.digest)


@dataclass(frozen=True)
class Planned:
    """A step that somebody is to do. `key` tells it apart: `step_key` of what is promised."""

    asked: AskedStep
    runner: Runner
    image_id: str
    key: str

    def key_given(self, made: Mapping[str, str]) -> str:
        """What it is remembered by once the digests of what was promised are known, by token."""
        inputs = {name: made.get(digest, digest) for name, digest in self.asked.digests.items()}
        return step_key(self.image_id, self.asked.task.fingerprint(), inputs)


class Plan(Steps):
    """Takes steps as `Steps` does, but does none: what is not remembered is `planned`.

    A workflow is asked for its steps twice: once with this, which says what is to be done
    elsewhere, and once with `Steps` and a `perform` that has what was done. `made_of` is what the
    result will be known by, if that is not the plan's name.
    """

    def __init__(self, *args: Any, made_of: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made_of = made_of
        self.planned: list[Planned] = []
        self._chain: list[list[Any]] = []

    @property
    def name(self) -> str:
        """The SHA-256 of all that decides what the whole gives, remembered steps and planned ones.

        So who was cut off in the midst of it finds it under the same name.
        """
        return memo_key({"format": PLAN_FORMAT, "steps": self._chain})

    @property
    def label(self) -> str:
        """What people are shown of it: whose model it is about."""
        return next((one.asked.model or one.asked.called for one in self.planned), "")

    @property
    def gpus(self) -> int:
        """How many GPUs it asks for; `ALL_GPUS` for all that it can get."""
        asked = [one.asked.task.gpus or 0 for one in self.planned]
        numbers = [len(one) if isinstance(one, tuple) else one for one in asked]
        return ALL_GPUS if ALL_GPUS in numbers else max(numbers, default=0)

    def take(
        self,
        name: str,
        container: Container,
        offered: Mapping[str, Input],
        model: str = "",
        may_fail: bool = False,
    ) -> Step:
        """See `Steps.take`. Outputs are promised.

        Raises `Unsupported` for an image that only an engine of this machine has.
        """
        asked = asked_step(name, container, offered, model, may_fail)
        runner = self._runner_for(container.spec)
        if runner.name not in ANYWHERE:
            raise Unsupported(
                f"{container.name} runs on {runner.name}, whose images are on this machine alone",
                hint=f"In the profile, platform has to be one of {', '.join(ANYWHERE)} for an "
                "executor; --executor local runs it here.",
            )
        image_id = self._image_id(container, runner)
        step = self._recall(asked, image_id) if image_id and self._use_memo else None
        if step is None:
            image_id = runner.provide(container.spec, container.archive, container.expected_image)
            step = self._recall(asked, image_id) if self._use_memo else None
        assert image_id is not None
        key = step_key(image_id, asked.task.fingerprint(), _tokens(asked))
        self._chain.append([key, may_fail])
        if step is None:
            self._announce(runner)
            self.planned.append(Planned(asked, runner, image_id, key))
        promised = {
            volume.name: _promised(step, key, volume.name, volume.kind)
            for volume in asked.task.outputs
        }
        return asked.step(image_id, step is None, {"seconds": 0.0}, promised)

    def works(self, root: Path, at_hand: AtHand) -> list[Work]:
        """What is planned, each in a folder of its own below `root`, in order."""
        return [self._planned_work(one, root, at_hand) for one in self.planned]

    def _planned_work(self, one: Planned, root: Path, at_hand: AtHand) -> Work:
        asked, folder = one.asked, root / one.key
        archive = one.runner.local_file(asked.container.spec, one.image_id, asked.container.archive)
        assert archive is not None, "an image that is no file is not planned with"
        is_kept = self._storage.keeps(archive) and is_digest(archive.name)
        digest = archive.name if is_kept else self._storage.fingerprints.digest(archive)

        def place(given: Input) -> Path:
            if isinstance(given, Promised) and not given.is_there:
                return root / given.path
            return at_hand(given, not self._storage.keeps(given.path))

        job = Job.of(
            one.runner.name,
            asked.task,
            one.runner.local_id(asked.container.spec, one.image_id),
            {name: place(given) for name, given in asked.inputs.items()},
            {volume.name: folder / OUTPUTS / volume.name for volume in asked.task.outputs},
            folder / LOG,
            model=asked.model,
            archive=at_hand(Input(archive, digest), False),
            limits=self._limits,
        )
        return Work(job, asked.task.outputs, asked.may_fail, one.key)


def _tokens(asked: AskedStep) -> dict[str, str]:
    """What stands for each input in a key that is the same before and after it is there."""
    return {
        name: given.token if isinstance(given, Promised) else given.digest
        for name, given in asked.inputs.items()
    }


def _promised(step: Step | None, key: str, name: str, kind: str) -> Promised:
    token = f"{key}/{name}"
    if step is None:
        return Promised(Path(key, OUTPUTS, name), token, token, kind)
    made = step.outputs[name]
    return Promised(made.path, made.digest, token, kind)
