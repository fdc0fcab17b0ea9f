"""Containers; on the wire they keep MedPerf's older word, mlcubes."""

from medperf_server.kinds.container.schemas import ContainerSchema
from medperf_server.kinds.container.table import CONTENT, Container
from medperf_server.kinds.kind import Kind

CONTAINER = Kind(
    "mlcube",
    "container",
    Container,
    ContainerSchema(),
    files=tuple(getattr(Container, field) for field in CONTENT),
)
