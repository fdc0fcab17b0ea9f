"""One estimate out of those of several sites, and how far these differ.

Random effects: each site has a true value of its own, and these scatter with variance tau2. tau2 is
the estimate of DerSimonian & Laird (Controlled Clinical Trials 7, 1986), the interval that of
Hartung & Knapp (Statistics in Medicine 20, 2001), heterogeneity Q of Cochran (1954) and I2 of
Higgins & Thompson (Statistics in Medicine 21, 2002). docs/ranking.md has the formulas.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from medperf_server.analysis.student import central_quantile

LEVEL = 0.95
# What is farther from 0, or has a standard error outside, is not computed with: squares of squares
# of it have no place in a float.
MOST, LEAST = 1e50, 1e-50
RANDOM_EFFECTS, UNWEIGHTED, ONE_SITE = "random effects", "unweighted mean", "one site"
# By how much of an interval's width its two arms may differ for it to count as symmetric.
TOLERANCE = 0.2


@dataclass(frozen=True)
class Estimate:
    """What one site found: a value, and the interval around it if the site gives one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Pooled:
    """What sites found together. `value`, `low` and `high` are in the metric's own units.

    `tau2`, `q` and `i2` (from 0 to 1) are of random effects only, tau2 on the scale on which was
    pooled. There is no interval of one site's value alone, but for its own.
    """

    value: float
    low: float | None
    high: float | None
    sites: int
    method: str
    tau2: float | None = None
    q: float | None = None
    i2: float | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether sites agree better than their own intervals let one expect: then the interval of
        Hartung and Knapp may be too short."""
        return self.q is not None and self.q < self.sites - 1


@dataclass(frozen=True)
class Scale:
    """The scale on which intervals are symmetric: `identity`, `log` of positive values, or `logit`
    of values between `low` and `high`."""

    name: str = "identity"
    low: float = 0.0
    high: float = 1.0

    def there(self, value: float) -> float:
        """A value on the scale. Raises `ValueError` where it has none there."""
        if self.name == "identity":
            return value
        if self.name == "log":
            return math.log(value)
        return math.log(_positive(value - self.low)) - math.log(_positive(self.high - value))

    def back(self, value: float) -> float:
        """The value that is there on the scale; the closest float for what none can hold."""
        if self.name == "identity":
            return value
        if self.name == "log":
            return math.exp(min(value, 700.0))
        # Neither exponential is of a positive number, so none is too large.
        share = (
            1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
        )
        return self.low + (self.high - self.low) * share


IDENTITY = Scale()


def heterogeneity(i2: float) -> str:
    """I2, from 0 to 1, in a word: the bounds of Higgins et al. (BMJ 327, 2003), 25, 50 and 75 %."""
    return next(
        word
        for bound, word in ((0.25, "little"), (0.5, "low"), (0.75, "moderate"), (math.inf, "high"))
        if i2 < bound
    )


def is_usable(value: float) -> bool:
    """Whether a figure can be computed with."""
    return math.isfinite(value) and abs(value) <= MOST


def standard_error(estimate: Estimate, level: float = LEVEL, scale: Scale = IDENTITY) -> float:
    """The standard error on a scale of an estimate whose interval has this level.

    That is the interval's width over twice the normal quantile, as of an interval that is symmetric
    there (see `is_symmetric`). Raises `ValueError` if there is no interval, if the value is outside
    of it, or if it has no width that could be computed with.
    """
    if estimate.low is None or estimate.high is None:
        raise ValueError("it has no interval")
    if not estimate.low <= estimate.value <= estimate.high:
        raise ValueError("the value is outside of its interval")
    low, value, high = (scale.there(x) for x in (estimate.low, estimate.value, estimate.high))
    error = (high - low) / (2 * _normal_quantile(level))
    if not LEAST <= error <= MOST or abs(value) > MOST:
        raise ValueError("its interval has no width that could be computed with")
    return error


def is_symmetric(estimate: Estimate, scale: Scale = IDENTITY) -> bool:
    """Whether the arms of an interval are about equally long on a scale."""
    assert estimate.low is not None and estimate.high is not None
    low, value, high = (scale.there(x) for x in (estimate.low, estimate.value, estimate.high))
    return abs((high - value) - (value - low)) <= TOLERANCE * (high - low)


def pooled(estimates: Sequence[Estimate], level: float = LEVEL, scale: Scale = IDENTITY) -> Pooled:
    """What sites found together, one estimate a site, with an interval of LEVEL.

    `level` is that of the sites' intervals. With random effects if every site gives an interval
    that can be used (`standard_error`); else the plain mean, with the interval of Student's t by
    how the sites scatter, in the metric's own units. Raises `ValueError` without an estimate, and
    for values that are not `is_usable`.
    """
    if not estimates or not all(is_usable(one.value) for one in estimates):
        raise ValueError("no estimates that could be pooled")
    if len(estimates) == 1:
        (one,) = estimates
        return Pooled(one.value, one.low, one.high, 1, ONE_SITE)
    try:
        errors = [standard_error(one, level, scale) for one in estimates]
    except ValueError:
        return _mean([one.value for one in estimates])
    return _random_effects([scale.there(one.value) for one in estimates], errors, scale)


def _mean(values: Sequence[float]) -> Pooled:
    sites = len(values)
    mean = math.fsum(values) / sites
    scatter = math.fsum((value - mean) ** 2 for value in values) / (sites - 1)
    arm = central_quantile(LEVEL, sites - 1) * math.sqrt(scatter / sites)
    return Pooled(mean, mean - arm, mean + arm, sites, UNWEIGHTED)


def _random_effects(values: Sequence[float], errors: Sequence[float], scale: Scale) -> Pooled:
    sites = len(values)
    fixed = [error**-2 for error in errors]
    q = _scatter(values, fixed)
    total = math.fsum(fixed)
    excess = q - (sites - 1)
    tau2 = max(0.0, excess / (total - math.fsum(w * w for w in fixed) / total))
    weights = [1 / (error**2 + tau2) for error in errors]
    mean = _weighted_mean(values, weights)
    # Hartung and Knapp: how the values scatter around the mean, over what was to be expected.
    ratio = _scatter(values, weights) / (sites - 1)
    arm = central_quantile(LEVEL, sites - 1) * math.sqrt(ratio / math.fsum(weights))
    return Pooled(
        value=scale.back(mean),
        low=scale.back(mean - arm),
        high=scale.back(mean + arm),
        sites=sites,
        method=RANDOM_EFFECTS,
        tau2=tau2,
        q=q,
        i2=max(0.0, excess / q) if q > 0 else 0.0,
    )


def _weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights)


def _scatter(values: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted sum of squares around the weighted mean."""
    mean = _weighted_mean(values, weights)
    return math.fsum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True))


@lru_cache(maxsize=64)
def _normal_quantile(level: float) -> float:
    """The z with P(-z < Z < z) = `level`."""
    return NormalDist().inv_cdf((1 + level) / 2)


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("it is at the end of its range, or beyond")
    return value
