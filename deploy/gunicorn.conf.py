"""How gunicorn serves the registry: `gunicorn -c deploy/gunicorn.conf.py medperf_server.wsgi:app`.

Every setting may be given by its variable, or on the command line.
"""

import os
import shutil
import tempfile

bind = os.environ.get("MEDPERF_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("MEDPERF_WORKERS", "2"))
# Threads, so that somebody who sends a file slowly keeps nobody else waiting; gunicorn's own class
# for them lets those who send nothing hold them. Each may need a connection to the database, of
# which a worker has 15 at most.
worker_class = "medperf_server.worker.Worker"
threads = int(os.environ.get("MEDPERF_THREADS", "12"))
# Seconds without a sign of life from a worker; a file comes in pieces, each far quicker than this.
timeout = 120
graceful_timeout = 30
keepalive = 5
# A worker is replaced now and then, and not all of them at once.
max_requests, max_requests_jitter = 50_000, 5_000
# What forwards requests is believed by MEDPERF_TRUSTED_PROXIES alone.
forwarded_allow_ips = ""
# The registry writes a line a request itself.
accesslog = None
# Nobody steers it but by signals.
control_socket_disable = True


def on_starting(server):  # noqa: ANN001, ANN201
    """Give the workers a folder in which their figures add up."""
    # Not by the environment of the service: its other commands would count there too.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="medperf-metrics-")


def child_exit(server, worker):  # noqa: ANN001, ANN201
    """Drop what only a living worker has."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


def on_exit(server):  # noqa: ANN001, ANN201
    """Leave nothing behind."""
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
