"""Readings, which are told to the owners of the gadget and the benchmark."""

from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.kind import Kind, Parties, Side
from tests.server.made_up.gadget import GADGET
from tests.server.made_up.reading.schemas import ReadingSchema
from tests.server.made_up.reading.table import Reading

READING = Kind(
    "reading",
    "reading",
    Reading,
    ReadingSchema(),
    sight=Parties(
        (
            Side(Reading.gadget, GADGET, "gadget"),
            Side(Reading.benchmark, BENCHMARK, "benchmark"),
        )
    ),
)
