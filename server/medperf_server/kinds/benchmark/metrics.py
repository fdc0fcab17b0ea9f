"""What a benchmark's metrics mean, as its `metadata` say it under `metrics`.

There, and in no column, so that a plain MedPerf server keeps it and its approval covers it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from medperf_server.analysis.pooling import IDENTITY, LEVEL, MOST, Scale, is_usable
from medperf_server.schemas import SHOWN, Truth

KEY = "metrics"
MOST_METRICS, LONGEST = 50, 200
HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Interval:
    """Where a metric's interval is in results, and what it is: its `level`, the scale on which it
    is symmetric."""

    low: str
    high: str
    level: float = LEVEL
    scale: Scale = IDENTITY


@dataclass(frozen=True)
class Metric:
    """A figure of results: its name, whether higher is better, what it can be, its interval."""

    name: str
    higher_is_better: bool = True
    low: float | None = None
    high: float | None = None
    interval: Interval | None = None
    # Whether its benchmark says what it means, or nobody does.
    is_described: bool = False

    def allows(self, value: float) -> bool:
        """Whether the metric can be this."""
        is_above = self.low is None or value >= self.low
        return is_usable(value) and is_above and (self.high is None or value <= self.high)


class Number(fields.Float):
    """JSON's numbers that can be computed with, and no text that looks like one."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > MOST:
            raise self.make_error("invalid", input=value)
        return float(value)


def _figure_field() -> fields.String:
    stripped = validate.Predicate("isprintable", error="Not printable.")
    return fields.String(
        required=True, validate=[validate.Length(1, LONGEST), SHOWN, stripped, _bare]
    )


def _bare(name: str) -> None:
    if name != name.strip():
        raise ValidationError("White space around it.")


class IntervalSchema(Schema):
    """Where a metric's interval is in results, and what it is."""

    class Meta:
        unknown = "raise"

    low = _figure_field()
    high = _figure_field()
    level = Number(validate=validate.Range(0.5, 0.999))
    scale = fields.String(validate=validate.OneOf(["identity", "log", "logit"]))


class MetricSchema(Schema):
    """What a metric means."""

    class Meta:
        unknown = "raise"

    name = _figure_field()
    better = fields.String(required=True, validate=validate.OneOf([HIGHER, LOWER]))
    range = fields.List(Number(allow_none=True), validate=validate.Length(equal=2))
    interval = fields.Nested(IntervalSchema)
    primary = Truth()

    @validates_schema
    def _fits(self, values: dict[str, Any], **_: Any) -> None:
        bounds = values.get("range", [None, None])
        known = [end for end in bounds if end is not None]
        if "range" in values and (not known or (len(known) == 2 and known[0] >= known[1])):
            raise ValidationError("The lowest and the highest, of which one may be null.", "range")
        if values.get("interval", {}).get("scale") == "logit" and len(known) < 2:
            raise ValidationError("logit is of a metric with a range of two numbers.", "interval")


def check_metrics(metadata: Mapping[str, Any]) -> None:
    """Raise `ValidationError` if metadata describe metrics, and not as it is read."""
    if KEY in metadata:
        try:
            _loaded(metadata[KEY])
        except ValidationError as error:
            told = "; ".join(_flat(error.messages, KEY))
            raise ValidationError({"metadata": [told]}) from error


def metrics_of(metadata: Mapping[str, Any]) -> list[Metric]:
    """The metrics that metadata describe, the primary one first.

    None where they describe none, or not as it is read: what was there before is refused nowhere.
    """
    try:
        loaded = _loaded(metadata[KEY]) if KEY in metadata else []
    except ValidationError:
        return []
    loaded.sort(key=lambda one: not one.get("primary", False))
    return [_metric(one) for one in loaded]


def _loaded(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_METRICS:
        raise ValidationError(f"A list of 1 to {MOST_METRICS} metrics.")
    loaded: list[dict[str, Any]] = MetricSchema(many=True).load(value)
    names = [one["name"] for one in loaded]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValidationError(f"The name {twice!r} is there twice.")
    if sum(one.get("primary", False) for one in loaded) > 1:
        raise ValidationError("Only one of them can be primary.")
    return loaded


def _metric(loaded: Mapping[str, Any]) -> Metric:
    low, high = loaded.get("range", (None, None))
    interval = loaded.get("interval")
    return Metric(
        name=loaded["name"],
        higher_is_better=loaded["better"] == HIGHER,
        low=low,
        high=high,
        interval=interval and _interval(interval, low, high),
        is_described=True,
    )


def _interval(loaded: Mapping[str, Any], low: float | None, high: float | None) -> Interval:
    name = loaded.get("scale", "identity")
    bounds = (low, high) if name == "logit" and low is not None and high is not None else (0.0, 1.0)
    scale = Scale(name, *bounds)
    return Interval(loaded["low"], loaded["high"], loaded.get("level", LEVEL), scale)


def _flat(messages: Any, where: str) -> list[str]:
    """Marshmallow's messages, each with where it belongs, such as `metrics[0].range`."""
    if isinstance(messages, dict):
        nested = (
            _flat(inner, f"{where}[{key}]" if isinstance(key, int) else _below(where, key))
            for key, inner in messages.items()
        )
        return [line for lines in nested for line in lines]
    return [f"{where}: {message}" for message in messages]


def _below(where: str, key: str) -> str:
    return where if key == "_schema" else f"{where}.{key}"
