"""The site's side of MedPerf: the `medperf` command and the Python API behind it."""
