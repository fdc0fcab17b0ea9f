"""The reference model, a logistic regression: `python3 main.py infer`."""

from __future__ import annotations

from operator import mul
from typing import Any

# Both from shared/; package.py lays them beside this file.
from container import between, read_parameters, run
from patients import predict


def logit(weights: dict[str, Any], features: list[float]) -> float:
    """Return the log odds that the tumour is malignant."""
    return weights["bias"] + sum(map(mul, weights["weights"], features))


def infer() -> None:
    """Write the predictions."""
    parameters = read_parameters({"clip_at_sd": between(float, 0, 1000)})
    predict(parameters["clip_at_sd"], logit)


if __name__ == "__main__":
    run({"infer": infer})
