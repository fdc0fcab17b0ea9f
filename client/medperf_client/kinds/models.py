"""The models of a benchmark, as its committee and who evaluates them are told."""

from medperf_client.kinds.kind import Kind

# The catalog keeps one list a benchmark, under the benchmark's UID.
MODELS = Kind(
    name="models",
    word="models of benchmark",
    form={"id": int, "models": list},
    lists={"models": {"model_mlcube": int, "approval_status": str}},
    is_logged=False,
)
