"""The steps of a run as work to be done elsewhere: nothing runs, and all that it takes is named."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medperf_cache.digests import is_digest
from medperf_cache.memo import memo_key
from medperf_cache.trees import TreeStore
from medperf_client.containers.job import Job
from medperf_client.containers.library import Container, Input
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import ALL_GPUS
from medperf_client.errors import Unsupported
from medperf_client.execution.outputs import check_outputs
from medperf_client.execution.parts import Cases, join
from medperf_client.execution.steps import AskedStep, Perform, Step, Steps, asked_step, step_key
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


class PartsFirst(Exception):
    """That a step is to be done in parts, each with some cases; `plans` has those to be done."""

    def __init__(self, plans: Sequence["Plan"]) -> None:
        super().__init__(f"{len(plans)} parts first")
        self.plans = plans


class Plan(Steps):
    """Takes steps as `Steps` does, but does none: what is not remembered is `planned`.

    A workflow is asked for its steps twice: once with this, which says what is to be done
    elsewhere, and once with `Steps` and a `perform` that has what was done. `made_of` is what the
    result will be known by, if that is not the plan's name.

    With `cases` a step whose cases can be shared out is planned in parts. `take` raises
    `PartsFirst` until each part is remembered; then so is the whole.
    """

    def __init__(
        self, *args: Any, made_of: str = "", cases: Cases | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.made_of, self._cases, self.is_part = made_of, cases, False
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

        Raises `Unsupported` for an image that only an engine of this machine has, `PartsFirst`, and
        `InvalidContainer` where two parts gave the same file.
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
        if step is None and (parts := self._parts(asked)):
            step = self._joined(asked, runner, image_id, parts)
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

    def take_in(self, perform: Perform) -> None:
        """Remember what is planned, as `perform` did it. Raises what `Steps.take` does."""
        steps = Steps(
            self._storage,
            self._runner_for,
            self._logs,
            self._limits,
            watch=self._watch,
            private=self._private,
            perform=perform,
        )
        for planned in self.planned:
            asked = planned.asked
            steps.take(asked.task.name, asked.container, asked.inputs, asked.model)

    def _parts(self, asked: AskedStep) -> list[AskedStep]:
        """A step as several on some of its cases each; none if it is to be done as a whole.

        That is a step, too, which is to be done anew, or counts as far as it got: neither can be
        told from parts that are remembered.
        """
        whole = asked.inputs.get(asked.task.cases)
        if self._cases is None or whole is None or not self._use_memo or asked.may_fail:
            return []
        if isinstance(whole, Promised) and not whole.is_there:
            return []
        found = self._cases.parts(whole)
        return [
            replace(
                asked,
                inputs={**asked.inputs, asked.task.cases: part},
                model=f"{asked.model}, part {number} of {len(found)}",
            )
            for number, part in enumerate(found, 1)
        ]

    def _joined(
        self, asked: AskedStep, runner: Runner, image_id: str, parts: Sequence[AskedStep]
    ) -> Step:
        """A step that was done in parts, remembered as a whole. Raises `PartsFirst`."""
        done = [self._recall(part, image_id) for part in parts]
        if missing := [number for number, one in enumerate(done) if one is None]:
            self._announce(runner)
            raise PartsFirst([self._part(parts[i], i + 1, runner, image_id) for i in missing])
        found = [one for one in done if one is not None]
        with self._results.scratch() as scratch:
            made = {volume.name: scratch / volume.name for volume in asked.task.outputs}
            for name, place in made.items():
                what = f"{asked.container.name}, task {asked.task.name},"
                join([one.outputs[name].path for one in found], place, what)
            check_outputs(made.values(), self._limits, f"task {asked.called}")
            record = {
                "outputs": {
                    name: ("directory", TreeStore.settle(place)) for name, place in made.items()
                },
                "seconds": sum(one.seconds for one in found),
                "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "engine": found[0].engine if len({one.engine for one in found}) == 1 else "",
                "parts": len(found),
            }
            self._check_unchanged(asked.inputs)
            return replace(self._keep(asked, image_id, record, made), ran=False)

    def _part(self, asked: AskedStep, number: int, runner: Runner, image_id: str) -> "Plan":
        plan = copy(self)
        key = step_key(image_id, asked.task.fingerprint(), _tokens(asked))
        plan.planned, plan.is_part = [Planned(asked, runner, image_id, key)], True
        # Another dataset may have a part that is the same; each is waited for by itself.
        plan._chain = [[key, False], ["part of", self.made_of]]
        plan._logs = self._logs / f"part-{number}"
        return plan

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
