"""Which datasets may join a benchmark."""

from medperf_server.base import db
from medperf_server.callers import Caller
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.kinds.pairs import check_request
from medperf_server.policy import Values, refuse


def check_dataset_request(caller: Caller, values: Values) -> None:
    """Rules for a new one: those of every pair, and both name one data preparator."""
    check_request(caller, DATASET_ASSOCIATION, values)
    dataset = db.session.get_one(Dataset, values["dataset"])
    benchmark = db.session.get_one(Benchmark, values["benchmark"])
    used, wanted = dataset.data_preparation_mlcube, benchmark.data_preparation_mlcube
    if used != wanted:
        told = f"benchmark {benchmark.id} takes what container {wanted} prepares"
        refuse(f"Dataset {dataset.id} was prepared by container {used}: {told}", "dataset")
