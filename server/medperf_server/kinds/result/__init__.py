"""Results: for the owner of the dataset and the benchmark's committee."""

from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.container import CONTAINER
from medperf_server.kinds.dataset import DATASET
from medperf_server.kinds.kind import Kind, Parties, Side
from medperf_server.kinds.result.schemas import ResultSchema
from medperf_server.kinds.result.table import Result

# What a result is of. Who owns the model is not told of it.
MODEL = Side(Result.model, CONTAINER, "model")
PARTIES = (
    Side(Result.dataset, DATASET, "dataset"),
    Side(Result.benchmark, BENCHMARK, "benchmark"),
)

RESULT = Kind("result", "result", Result, ResultSchema(), sight=Parties(PARTIES))
