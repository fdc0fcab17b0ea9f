"""What steps make up: data prepared, a model evaluated on them, and both for a test."""

from collections.abc import Mapping
from dataclasses import dataclass

from medperf_client.containers.library import Container, Input
from medperf_client.errors import InvalidContainer
from medperf_client.execution.steps import Step, Steps


@dataclass(frozen=True)
class Prepared:
    """Data and labels as models and metrics read them, and their statistics (YAML).

    `metadata` is what their preparator keeps for itself, if it does.
    """

    data: Input
    labels: Input
    statistics: Input
    metadata: Input | None = None


def preparation(steps: Steps, preparator: Container, raw: Mapping[str, Input]) -> Prepared:
    """prepare, sanity_check and statistics on raw data.

    Those are `data_path`, `labels_path`, perhaps `metadata_path`. Raises what `Steps.take` does.
    """
    require_file(preparator, "statistics")
    return inspection(steps, preparator, made_by(steps.take("prepare", preparator, raw)))


def made_by(prepare: Step) -> dict[str, Input]:
    """What a finished `prepare` gave, by the volumes of who reads it."""
    given = {
        "data_path": prepare.output("output_path"),
        "labels_path": prepare.output("output_labels_path"),
    }
    if "metadata_path" in prepare.outputs:
        given["metadata_path"] = prepare.outputs["metadata_path"]
    return given


def inspection(steps: Steps, preparator: Container, given: Mapping[str, Input]) -> Prepared:
    """sanity_check and statistics on prepared data.

    Those are `data_path`, `labels_path`, perhaps `metadata_path`. Raises what `Steps.take` does.
    """
    require_file(preparator, "statistics")
    steps.take("sanity_check", preparator, given)
    statistics = steps.take("statistics", preparator, given)
    return Prepared(
        given["data_path"],
        given["labels_path"],
        statistics.output("output_path"),
        given.get("metadata_path"),
    )


@dataclass(frozen=True)
class Evaluated:
    """What a model gave on prepared data: the results (YAML), and what they were made from.

    `local_outputs` is what the metrics container wrote for the site alone, if it does that.
    `failed` says how the model failed, if its predictions are only what it had written until then.
    """

    results: Input
    predictions: Input
    local_outputs: Input | None
    failed: str


def evaluation(
    steps: Steps,
    model: Container,
    evaluator: Container,
    data: Input,
    labels: Input,
    may_fail: bool = False,
) -> Evaluated:
    """infer and evaluate: one model on prepared data and labels.

    With `may_fail` the predictions of a model that fails are evaluated as far as it got. Raises
    what `Steps.take` does.
    """
    require_file(evaluator, "evaluate")
    inferred = steps.take("infer", model, {"data_path": data}, model.name, may_fail)
    predictions = inferred.output("output_path")
    given = {"predictions": predictions, "labels": labels}
    evaluated = steps.take("evaluate", evaluator, given, model.name)
    return Evaluated(
        evaluated.output("output_path"),
        predictions,
        evaluated.outputs.get("local_outputs_path"),
        inferred.failed,
    )


@dataclass(frozen=True)
class Outcome:
    """What all five steps gave: the prepared data, and the results (YAML)."""

    prepared: Prepared
    results: Input


def five_steps(
    steps: Steps,
    preparator: Container,
    model: Container,
    evaluator: Container,
    given: Mapping[str, Input],
    is_prepared: bool = False,
) -> Outcome:
    """Prepare data, and evaluate one model on them; four steps, if the data are prepared already.

    Raises what `Steps.take` does.
    """
    # What the last step gives is not found to be a folder only after the others ran.
    require_file(evaluator, "evaluate")
    prepared = (inspection if is_prepared else preparation)(steps, preparator, given)
    evaluated = evaluation(steps, model, evaluator, prepared.data, prepared.labels)
    return Outcome(prepared, evaluated.results)


def require_file(container: Container, step: str) -> None:
    """Raise `InvalidContainer` if what a step gives, and is read as YAML, would be a folder."""
    for volume in container.spec.task(step).outputs:
        if (volume.name, volume.kind) == ("output_path", "directory"):
            key = f"tasks.{step}.output_volumes.output_path.type"
            raise InvalidContainer(f"{container.name}: {key}: expected file, found directory")
