"""Datasets: what members say of their data; others than the owner learn less of each."""

from medperf_server.kinds.dataset.schemas import DatasetSchema, PublicDatasetSchema
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.kinds.kind import Kind

DATASET = Kind(
    "dataset",
    "dataset",
    Dataset,
    DatasetSchema(),
    public=PublicDatasetSchema(),
    quiet=(Dataset.report,),
)
