"""A bucket on an S3 server of its own: moto's, which keeps everything in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

NAME = "consortium"
KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def bucket(prefix: str = "registry") -> Iterator[dict[str, str]]:
    """The settings of a registry that keeps its files there."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.session.Session(
        KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], None, KEYS["AWS_DEFAULT_REGION"]
    ).client("s3", endpoint_url=endpoint).create_bucket(Bucket=NAME)
    yield {**KEYS, "MEDPERF_ASSETS": f"s3://{NAME}/{prefix}", "MEDPERF_S3_ENDPOINT": endpoint}
    server.stop()
