"""Which platform runs which kind of container, as a profile allows."""

from functools import cached_property

from medperf_cache.images import ImageStore
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.process import ProcessRunner, Scratch
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import PROCESS, ContainerSpec
from medperf_client.transfer.fetcher import Progress, silent


class Platforms:
    """The runners of one site, made when first needed.

    `scratch` makes private folders; with `offline` nothing is pulled; `progress` is told of pulls;
    `copies` are those of images.
    """

    def __init__(
        self,
        allow_process: bool,
        scratch: Scratch,
        offline: bool = False,
        progress: Progress = silent,
        copies: ImageStore | None = None,
    ) -> None:
        self._allow_process, self._scratch = allow_process, scratch
        self._offline, self._progress, self._copies = offline, progress, copies

    @cached_property
    def _docker(self) -> Runner:
        return DockerRunner(self._progress, self._offline, self._copies)

    @cached_property
    def _process(self) -> Runner:
        return ProcessRunner(allowed=self._allow_process, scratch=self._scratch)

    def runner_for(self, spec: ContainerSpec) -> Runner:
        """The runner for a container; Docker's refuses by name what no platform here can run."""
        return self._process if spec.kind == PROCESS else self._docker
