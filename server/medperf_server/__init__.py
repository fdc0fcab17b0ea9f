"""The registry: what a consortium shares, behind MedPerf's REST API."""
