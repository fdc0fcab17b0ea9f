"""Run a job: `python -m medperf_client.execution.jobs FILE`, or by a call in this process.

It takes nothing but the job and the files that it names: no profile, no cache, no registry.
"""

import sys
from pathlib import Path

from medperf_client.containers.job import Job
from medperf_client.errors import OK, MedPerfError, Unsupported, UsageError


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


def main(file: str) -> int:
    """Run the job that a file holds as JSON (`Job.text`); the exit code."""
    try:
        try:
            text = Path(file).read_bytes()
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}") from error
        execute(Job.read(text))
    except MedPerfError as error:
        print(error, error.hint, sep="\n", file=sys.stderr)
        return error.exit_code
    return OK


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
