"""Requests to take a model into a benchmark, and the decisions on them."""

from medperf_server.kinds.association.schemas import AssociationSchema
from medperf_server.kinds.association.table import Association
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.container import CONTAINER
from medperf_server.kinds.kind import Pair, Side

ASSOCIATION = Pair(
    "association",
    "association",
    Association,
    AssociationSchema(),
    sides=(
        Side(Association.model_mlcube, CONTAINER, "model"),
        Side(Association.benchmark, BENCHMARK, "benchmark"),
    ),
)
