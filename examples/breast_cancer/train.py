"""Train both models on the training part of `data/wdbc.csv`, and write their weights.

    python train.py

Needs numpy. Neither model ever sees the patients of the two sites. Nothing is left to chance: the
logistic regression has one optimum, and the network starts from a fixed seed and always descends
on all patients, so the weights differ between machines by rounding alone.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
Weights = dict[str, Any]

HIDDEN_UNITS = 8
SEED = 7
STEPS = 1500
LEARNING_RATE = 0.2
MOMENTUM = 0.9
WEIGHT_DECAY = 0.01
RIDGE = 1.0
DIGITS = 8


def read_training() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the features' names, the training patients' features, and 1 for the malignant."""
    with (HERE / "data" / "wdbc.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["held_by"] == "training"]
    names = [name for name in rows[0] if name not in ("patient_id", "held_by", "diagnosis")]
    features = np.array([[float(row[name]) for name in names] for row in rows])
    return names, features, np.array([float(row["diagnosis"] == "M") for row in rows])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits."""
    return 1 / (1 + np.exp(-logits))


def fit_logistic(features: np.ndarray, labels: np.ndarray) -> Weights:
    """Return the ridge logistic regression, by Newton's method; the bias is not penalised."""
    inputs = np.column_stack([features, np.ones(len(features))])
    penalty = RIDGE * np.diag([*np.ones(features.shape[1]), 0.0])
    weights = np.zeros(inputs.shape[1])
    for _ in range(25):
        probabilities = sigmoid(inputs @ weights)
        gradient = inputs.T @ (probabilities - labels) + penalty @ weights
        curvature = (inputs.T * (probabilities * (1 - probabilities))) @ inputs + penalty
        weights -= np.linalg.solve(curvature, gradient)
    return {"weights": weights[:-1], "bias": weights[-1]}


def fit_network(features: np.ndarray, labels: np.ndarray) -> Weights:
    """Return a network with one hidden layer of tanh, by gradient descent with momentum."""
    start = np.random.RandomState(SEED)
    inputs = features.shape[1]
    network: Weights = {
        "hidden_weights": start.normal(0, inputs**-0.5, (HIDDEN_UNITS, inputs)),
        "hidden_bias": np.zeros(HIDDEN_UNITS),
        "output_weights": start.normal(0, HIDDEN_UNITS**-0.5, HIDDEN_UNITS),
        "output_bias": np.zeros(()),
    }
    velocity = {name: np.zeros_like(values) for name, values in network.items()}
    for _ in range(STEPS):
        slopes = gradient(network, features, labels)
        for name in network:
            velocity[name] = MOMENTUM * velocity[name] - LEARNING_RATE * slopes[name]
            network[name] = network[name] + velocity[name]
    return network


def gradient(network: Weights, features: np.ndarray, labels: np.ndarray) -> Weights:
    """Return the slopes of the mean cross-entropy with weight decay."""
    hidden = np.tanh(features @ network["hidden_weights"].T + network["hidden_bias"])
    logits = hidden @ network["output_weights"] + network["output_bias"]
    error = (sigmoid(logits) - labels) / len(labels)
    back = np.outer(error, network["output_weights"]) * (1 - hidden**2)
    return {
        "hidden_weights": back.T @ features + WEIGHT_DECAY * network["hidden_weights"],
        "hidden_bias": back.sum(axis=0),
        "output_weights": hidden.T @ error + WEIGHT_DECAY * network["output_weights"],
        "output_bias": error.sum(),
    }


def train() -> dict[str, Weights]:
    """Return the content of each model's weights file."""
    names, features, labels = read_training()
    mean, scale = features.mean(axis=0), features.std(axis=0)
    standardised = (features - mean) / scale
    common = {"features": names, "mean": mean, "scale": scale}
    return {
        "model_logistic": {**common, **fit_logistic(standardised, labels)},
        "model_mlp": {**common, **fit_network(standardised, labels)},
    }


def rounded(values: Any) -> Any:
    """Return names as they are and numbers, in arrays of any depth, to a few digits."""
    return values if isinstance(values, list) else np.round(values, DIGITS).tolist()


if __name__ == "__main__":
    for model, weights in train().items():
        path = HERE / model / "workspace" / "additional_files" / "weights.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({name: rounded(v) for name, v in weights.items()}, indent=1) + "\n"
        )
        print(path)
