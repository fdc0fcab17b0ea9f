"""Run a job, with nothing but the files that it names: no profile, no cache, no registry."""

from medperf_client.containers.job import Job
from medperf_client.errors import Unsupported


def execute(job: Job) -> None:
    """Run a job to its end, its output in `job.log`; what it gives lies in its outputs then.

    Any process may, on any machine that has the files; whether its code may run at all was for who
    made it to say. Raises `ContainerFailed`, and `Unsupported` where its platform is not to be had.
    """
    # A node that runs processes only needs none of Docker's modules.
    if job.platform == "process":
        from medperf_client.containers.process import ProcessRunner

        ProcessRunner(allowed=True).run(job)
    elif job.platform == "docker":
        from medperf_client.containers.docker import DockerRunner

        DockerRunner().run(job)
    elif job.platform == "podman":
        from medperf_client.containers.docker import PodmanRunner

        PodmanRunner().run(job)
    elif job.platform == "apptainer":
        from medperf_client.containers.apptainer import ApptainerRunner

        ApptainerRunner().run(job)
    else:
        raise Unsupported(f"there is no platform {job.platform!r} here to run task {job.called}")
