"""How gadgets fit benchmarks: by request and decision."""

from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.kind import Pair, Side
from tests.server.made_up.fitting.schemas import FittingSchema
from tests.server.made_up.fitting.table import Fitting
from tests.server.made_up.gadget import GADGET

FITTING = Pair(
    "fitting",
    "fitting",
    Fitting,
    FittingSchema(),
    sides=(
        Side(Fitting.gadget, GADGET, "gadget"),
        Side(Fitting.benchmark, BENCHMARK, "benchmark"),
    ),
)
