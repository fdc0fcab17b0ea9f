"""Which platform runs which kind of container, as a profile says or as this machine allows.

A platform is imported when it is chosen: that of the others takes longer than a remembered test.
"""

from functools import cached_property

from medperf_cache import Storage
from medperf_client.containers import engine
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import PROCESS, SINGULARITY_FILE, ContainerSpec
from medperf_client.settings import config
from medperf_client.transfer.fetcher import Progress, silent


class Platforms:
    """The runners of one site, made when first needed.

    `chosen` is the profile's platform. With `offline` nothing is pulled; `progress` is told of
    pulls; `storage` has the copies of images.
    """

    def __init__(
        self,
        allow_process: bool,
        offline: bool = False,
        progress: Progress = silent,
        storage: Storage | None = None,
        chosen: str = config.AUTO,
    ) -> None:
        self._allow_process, self._offline = allow_process, offline
        self._progress, self._storage, self._chosen = progress, storage, chosen

    @cached_property
    def name(self) -> str:
        """What runs images here: the profile's platform, or what answers.

        Where nothing does it is Docker, which says what to start.
        """
        if self._chosen != config.AUTO:
            return self._chosen
        if engine.answers(engine.socket_path()):
            return config.DOCKER
        if engine.answers(engine.podman_socket()):
            return config.PODMAN
        from medperf_client.containers import sif

        return config.APPTAINER if sif.program() else config.DOCKER

    @cached_property
    def _docker(self) -> Runner:
        from medperf_client.containers.docker import DockerRunner, PodmanRunner

        kind = PodmanRunner if self.name == config.PODMAN else DockerRunner
        copies = self._storage.images if self._storage else None
        return kind(self._progress, self._offline, copies)

    @cached_property
    def _apptainer(self) -> Runner:
        from medperf_client.containers.apptainer import ApptainerRunner

        return ApptainerRunner(self._progress, self._offline, self._storage)

    @cached_property
    def _process(self) -> Runner:
        from medperf_client.containers.process import ProcessRunner

        return ProcessRunner(allowed=self._allow_process)

    @property
    def runner(self) -> Runner:
        """What runs images here."""
        if self.name == config.PROCESS:
            return self._process
        return self._apptainer if self.name == config.APPTAINER else self._docker

    def runner_for(self, spec: ContainerSpec) -> Runner:
        """The runner for a container; it refuses by name what no platform here can run."""
        if spec.kind == PROCESS:
            return self._process
        if spec.kind == SINGULARITY_FILE and self._chosen == config.AUTO:
            return self._apptainer
        return self.runner
