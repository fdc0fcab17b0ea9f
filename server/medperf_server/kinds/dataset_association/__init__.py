"""Requests to take a dataset into a benchmark, and the decisions on them."""

from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.dataset import DATASET
from medperf_server.kinds.dataset_association.schemas import DatasetAssociationSchema
from medperf_server.kinds.dataset_association.table import DatasetAssociation
from medperf_server.kinds.kind import Pair, Side

DATASET_ASSOCIATION = Pair(
    "dataset_association",
    "dataset association",
    DatasetAssociation,
    DatasetAssociationSchema(),
    sides=(
        Side(DatasetAssociation.dataset, DATASET, "dataset"),
        Side(DatasetAssociation.benchmark, BENCHMARK, "benchmark"),
    ),
)
