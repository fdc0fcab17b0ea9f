"""Which platform runs which kind of container, as a profile allows."""

from functools import cached_property

from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.process import ProcessRunner

from medperf_client.assets import Progress, silent
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import PROCESS, ContainerSpec


class Platforms:
    """The runners of one site, made when first needed."""

    def __init__(
        self, allow_process: bool, offline: bool = False, progress: Progress = silent
    ) -> None:
        self._allow_process, self._offline, self._progress = allow_process, offline, progress

    @cached_property
    def _docker(self) -> Runner:
        return DockerRunner(progress=self._progress)

    @cached_property
    def _process(self) -> Runner:
        return ProcessRunner(allowed=self._allow_process)

    def runner_for(self, spec: ContainerSpec) -> Runner:
        """The runner for a container; Docker's refuses by name what no platform here can run."""
        return self._process if spec.kind == PROCESS else self._docker
