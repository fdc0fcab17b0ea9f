"""`python -m medperf_server.cli` is `medperf-server`."""

from medperf_server.cli import main

main(prog_name="medperf-server")
