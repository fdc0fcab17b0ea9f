"""What Schemathesis has to know of this API: see its documentation, "Extending Schemathesis".

What is valid for the document is mostly refused by rules that no schema tells: a UID leads to
nothing, a key was used before. So a good part of it is made to keep to them; what is not valid
stays as it is.
"""

import os
from base64 import b64encode
from hashlib import sha256
from itertools import count
from typing import Any

import schemathesis
from marshmallow import ValidationError
from schemathesis.generation.meta import CoverageScenario

from medperf_server.idempotency import KEY
from medperf_server.kinds.association.schemas import AssociationSchema
from medperf_server.kinds.benchmark.schemas import BenchmarkSchema
from medperf_server.kinds.benchmark.table import ROLES
from medperf_server.kinds.container.rules import HASHED_URLS
from medperf_server.kinds.container.schemas import ContainerSchema
from medperf_server.kinds.dataset.schemas import DatasetSchema
from medperf_server.kinds.dataset_association.schemas import DatasetAssociationSchema
from medperf_server.kinds.result.schemas import ResultSchema
from medperf_server.names import check_name
from medperf_server.schemas import MAX_UID, NAME

Values = dict[str, Any]

# There are so many entities of a kind at least when the test begins.
ENTITIES = 8
FILE = b"one that the registry has"
# The variable with the ID of an upload that is under way.
UPLOAD = "MEDPERF_TEST_UPLOAD"
NUMBERS = count()


@schemathesis.serializer("application/offset+octet-stream")
def octets(_: Any, value: Any) -> bytes:
    """The bytes of a file, as they are."""
    return value if isinstance(value, bytes) else str(value).encode()


def often() -> bool:
    """Three times of four."""
    return next(NUMBERS) % 4 > 0


def there(uid: int) -> int:
    """Every second UID becomes that of an entity that is there."""
    return uid % ENTITIES + 1 if uid % 2 else uid


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Values | None) -> Values | None:
    """What the path names is there, often."""
    if not path_parameters:
        return path_parameters
    found = {
        name: there(value) if type(value) is int and 0 < value <= MAX_UID else value
        for name, value in path_parameters.items()
    }
    for name, length, known in (
        ("sha256", 64, sha256(FILE).hexdigest()),
        ("uid", 32, os.environ[UPLOAD]),
    ):
        value = found.get(name)
        if isinstance(value, str) and len(value) == length and often():
            found[name] = known
    return found


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Keys are new, often; files are announced in tus' words."""
    sent = case.headers
    scenario = getattr(case.meta.phase.data, "scenario", None) if case.meta else None
    # A case that lacks a header would be taken for one that has them all.
    if sent is None or scenario == CoverageScenario.MISSING_PARAMETER:
        return
    if KEY.fullmatch(str(sent.get("Idempotency-Key", ""))) and often():
        sent["Idempotency-Key"] = f"{os.getpid()}-{next(NUMBERS)}"
    if "Tus-Resumable" in sent and often():
        sent["Tus-Resumable"] = "1.0.0"
    if "Upload-Metadata" in sent and often():
        digest = sha256(str(next(NUMBERS) // 8).encode()).hexdigest()
        sent["Upload-Metadata"] = f"sha256 {b64encode(digest.encode()).decode()}"


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """What is valid by itself keeps to the rules between fields, too."""
    repair = REPAIRS.get(context.operation.label)
    return repair(body) if repair and isinstance(body, dict) else body


def named(body: Values) -> Values:
    """What its schema takes for a name is one."""
    name = body.get("name")
    try:
        for check in NAME if isinstance(name, str) else ():
            check(name)
    except ValidationError:
        return body
    try:
        check_name(name if isinstance(name, str) else "")
    except ValidationError:
        body |= {"name": f"name {os.getpid()} {next(NUMBERS)}"}
    return body


def container(body: Values) -> Values:
    """Each URL with its hash; one image."""
    body = named(body)
    if ContainerSchema().validate(body):
        return body
    for url, digest in HASHED_URLS:
        if bool(body.get(url)) != bool(body.get(digest)):
            body |= {url: "", digest: ""}
    tarball = body.get("image_tarball_hash")
    return body | {"image_hash": "" if tarball else body.get("image_hash") or body["mlcube_hash"]}


def benchmark(body: Values) -> Values:
    """Of containers that are there."""
    body = named(body)
    if BenchmarkSchema().validate(body):
        return body
    return body | {field: there(body[field]) for field in ROLES}


def association(body: Values) -> Values:
    """Of a container and a benchmark that are there."""
    if AssociationSchema().validate(body):
        return body
    return body | {field: there(body[field]) for field in ("model_mlcube", "benchmark")}


def dataset(body: Values) -> Values:
    """That a container prepares which is there."""
    body = named(body)
    if DatasetSchema().validate(body):
        return body
    return body | {"data_preparation_mlcube": there(body["data_preparation_mlcube"])}


def dataset_association(body: Values) -> Values:
    """Of a benchmark that is there, and a dataset that may join it; see `test_schema`."""
    if DatasetAssociationSchema().validate(body) or not often():
        return body
    benchmark = there(body["benchmark"])
    return body | {"benchmark": benchmark, "dataset": ENTITIES + benchmark}


def result(body: Values) -> Values:
    """Of a benchmark that is there, with its reference model and a dataset that is in it."""
    body = named(body)
    if ResultSchema().validate(body) or not often():
        return body
    benchmark = there(body["benchmark"])
    return body | {
        "benchmark": benchmark,
        "dataset": benchmark,
        "model": ENTITIES + benchmark,
    }


REPAIRS = {
    "POST /api/v0/mlcubes/": container,
    "POST /api/v0/benchmarks/": benchmark,
    "POST /api/v0/mlcubes/benchmarks/": association,
    "POST /api/v0/datasets/": dataset,
    "POST /api/v0/datasets/benchmarks/": dataset_association,
    "POST /api/v0/results/": result,
}
