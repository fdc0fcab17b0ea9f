"""Benchmarks; those that are private are shown to whom their owner invites."""

from medperf_server.kinds.benchmark.schemas import BenchmarkSchema
from medperf_server.kinds.benchmark.table import Benchmark, BenchmarkMember
from medperf_server.kinds.kind import Circle, Kind

BENCHMARK = Kind(
    "benchmark",
    "benchmark",
    Benchmark,
    BenchmarkSchema(),
    sight=Circle(
        private=Benchmark.is_private,
        owner=Benchmark.owner,
        thing=BenchmarkMember.benchmark,
        member=BenchmarkMember.user_id,
    ),
    files=(Benchmark.demo_dataset_tarball_hash,),
)
