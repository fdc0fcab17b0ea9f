"""What a compatibility test reports, and what is changed to see a step run again."""

import json
from pathlib import Path
from typing import Any

from tests.support.consortium import Member

ALL_STEPS = ["prepare", "sanity_check", "statistics", "infer", "evaluate"]

CONFIG = "container_config.yaml"
MODEL = "medperf_tutorial/model_mobilenetv2/container_config.yaml"


def ran(report: dict[str, Any]) -> list[str]:
    """The steps of a report that ran, rather than came from cache."""
    return [step["step"] for step in report["steps"] if step["source"] == "ran"]


def report_of(member: Member, model: Path | int, *options: str) -> dict[str, Any]:
    """The report of a test of a model with benchmark 1."""
    named = str(model if isinstance(model, int) else model / CONFIG)
    report = member.json("test", "run", "--benchmark", "1", "--model", named, *options)
    assert isinstance(report, dict)
    return report


def change_a_weight(model: Path) -> None:
    """Make one number of a model's weights another."""
    file = model / "workspace" / "additional_files" / "weights.json"
    weights = json.loads(file.read_text())
    weights["output_bias"] += 0.001
    file.write_text(json.dumps(weights))
