"""The candidate model, a neural network with one hidden layer: `python3 main.py infer`."""

from __future__ import annotations

import math
from operator import mul
from typing import Any

# Both from shared/; package.py lays them beside this file.
from container import between, read_parameters, run
from patients import predict


def logit(weights: dict[str, Any], features: list[float]) -> float:
    """Return the log odds that the tumour is malignant."""
    hidden = [
        math.tanh(bias + sum(map(mul, row, features)))
        for row, bias in zip(weights["hidden_weights"], weights["hidden_bias"])
    ]
    return weights["output_bias"] + sum(map(mul, weights["output_weights"], hidden))


def infer() -> None:
    """Write the predictions."""
    parameters = read_parameters(
        {"clip_at_sd": between(float, 0, 1000), "temperature": between(float, 0.01, 100)}
    )
    temperature = parameters["temperature"]
    predict(
        parameters["clip_at_sd"],
        lambda weights, features: logit(weights, features) / temperature,
    )


if __name__ == "__main__":
    run({"infer": infer})
