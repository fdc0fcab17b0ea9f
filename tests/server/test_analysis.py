"""The figures of a ranking are those that independent programs compute: statsmodels and scipy."""

import math
import warnings
from collections import Counter
from itertools import product
from statistics import mean

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from medperf_server.analysis import pooling, ranks, resampling
from medperf_server.analysis.pooling import IDENTITY, Estimate, Scale, pooled
from medperf_server.analysis.student import central_quantile

Z = stats.norm.ppf(0.975)


def with_errors(
    values: list[float], errors: list[float], scale: Scale = IDENTITY
) -> list[Estimate]:
    """Estimates whose intervals have these standard errors on a scale."""
    arms = [(scale.there(v), Z * e) for v, e in zip(values, errors, strict=True)]
    return [
        Estimate(v, scale.back(there - arm), scale.back(there + arm))
        for v, (there, arm) in zip(values, arms, strict=True)
    ]


def close(found: float | None, expected: float) -> bool:
    """Whether two figures are the same to nine digits."""
    return found is not None and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("level", [0.01, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_quantiles_of_student_are_scipys(level: float) -> None:
    for degrees in [*range(1, 100), 199, 499, 999]:
        expected = stats.t.isf((1 - level) / 2, degrees)
        assert math.isclose(central_quantile(level, degrees), expected, rel_tol=1e-12), degrees


@pytest.mark.parametrize(("level", "degrees"), [(0, 1), (1, 1), (0.9999, 1), (0.95, 0)])
def test_there_is_no_quantile_of_what_is_none(level: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        central_quantile(level, degrees)


# DerSimonian & Laird's and Hartung & Knapp's own kind of data: few sites, of which some differ.
POOLS = [
    ([0.91, 0.87, 0.95], [0.01, 0.02, 0.015]),
    ([0.1, 0.9], [0.05, 0.02]),
    ([-1.5, 2.5, 0.25, 8.0, 3.0], [0.5, 1.0, 0.25, 2.0, 0.75]),
    # Sites that agree better than was to be expected: tau2 is 0.
    ([0.80, 0.81, 0.805, 0.795], [0.1, 0.15, 0.07, 0.2]),
    ([1e6, 1.1e6, 0.7e6], [1e4, 2e4, 1.5e4]),
]


@pytest.mark.parametrize(("values", "errors"), POOLS)
def test_random_effects_are_those_of_statsmodels(values: list[float], errors: list[float]) -> None:
    found = pooled(with_errors(values, errors))
    assert_as_statsmodels(found, values, errors)


def assert_as_statsmodels(found: pooling.Pooled, values: list[float], errors: list[float]) -> None:
    """Assert that a pooled estimate is the one of statsmodels, all of it."""
    variances = numpy.square(errors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = combine_effects(
            numpy.array(values), variances, method_re="dl", use_t=True, alpha=0.05
        )
        _, _, fixed_wls, random_wls = theirs.conf_int()
    assert found.method == pooling.RANDOM_EFFECTS and found.sites == len(values)
    assert close(found.q, theirs.q)
    # statsmodels leaves tau2 negative, where the estimator says 0: then all effects are one.
    if theirs.tau2 > 0:
        value, (low, high) = theirs.mean_effect_re, random_wls
    else:
        value, (low, high) = theirs.mean_effect_fe, fixed_wls
    assert close(found.tau2, max(theirs.tau2, 0)) and close(found.i2, max(theirs.i2, 0))
    assert close(found.value, value) and close(found.low, low) and close(found.high, high)
    assert found.is_narrow == (theirs.tau2 < 0) or close(theirs.q, len(values) - 1)


some_sites = st.lists(
    st.tuples(st.floats(-10, 10), st.floats(0.01, 2)), min_size=2, max_size=20
).filter(lambda sites: max(v for v, _ in sites) - min(v for v, _ in sites) > 1e-3)


@settings(max_examples=200)
@given(some_sites)
def test_random_effects_of_anything_are_those_of_statsmodels(
    sites: list[tuple[float, float]],
) -> None:
    values, errors = [v for v, _ in sites], [e for _, e in sites]
    assert_as_statsmodels(pooled(with_errors(values, errors)), values, errors)


def test_on_a_scale_it_is_pooled_there_and_told_back_here() -> None:
    scale = Scale("logit", 0, 1)
    values, errors = [0.91, 0.87, 0.99, 0.95], [0.2, 0.3, 0.25, 0.4]
    found = pooled(with_errors(values, errors, scale), scale=scale)
    there = pooled(with_errors([math.log(v / (1 - v)) for v in values], errors))
    for ours, theirs in zip(
        (found.value, found.low, found.high), (there.value, there.low, there.high), strict=True
    ):
        assert theirs is not None and close(ours, 1 / (1 + math.exp(-theirs)))
    assert close(found.tau2, there.tau2 or 0) and found.high is not None and found.high < 1


@pytest.mark.parametrize(
    "scale", [Scale(), Scale("log"), Scale("logit"), Scale("logit", -2, 7), Scale("logit", 0, 100)]
)
def test_a_scale_leads_there_and_back(scale: Scale) -> None:
    for share in (1e-9, 0.1, 0.5, 0.999):
        value = scale.low + share * (scale.high - scale.low)
        assert close(scale.back(scale.there(value)), value)
    for far in (-1e4, 1e4):
        assert math.isfinite(scale.back(far))


def test_the_mean_without_intervals_is_scipys() -> None:
    values = [0.91, 0.87, 0.95, 0.7]
    found = pooled([Estimate(value) for value in values])
    low, high = stats.t.interval(0.95, 3, loc=mean(values), scale=stats.sem(values))
    assert found.method == pooling.UNWEIGHTED and close(found.value, mean(values))
    assert close(found.low, low) and close(found.high, high)
    assert found.tau2 is found.q is found.i2 is None


@pytest.mark.parametrize(
    "odd",
    [
        Estimate(0.9),
        Estimate(0.9, 0.85),
        Estimate(0.9, 0.9, 0.9),
        Estimate(0.9, 0.91, 0.95),
        Estimate(0.9, 0.95, 0.85),
        Estimate(0.9, float("-inf"), float("inf")),
        Estimate(0.9, -1e300, 1e300),
    ],
)
def test_one_interval_that_cannot_be_used_makes_it_a_plain_mean(odd: Estimate) -> None:
    good = Estimate(0.8, 0.75, 0.85)
    with pytest.raises(ValueError):
        pooling.standard_error(odd)
    found = pooled([good, odd])
    assert found.method == pooling.UNWEIGHTED and close(found.value, (0.8 + odd.value) / 2)


def test_a_value_at_the_end_of_a_scale_makes_it_a_plain_mean() -> None:
    found = pooled([Estimate(1, 0.9, 1), Estimate(0.8, 0.7, 0.9)], scale=Scale("logit"))
    assert found.method == pooling.UNWEIGHTED and found.value == 0.9


def test_of_one_site_there_is_its_own_interval() -> None:
    found = pooled([Estimate(0.9, 0.8, 0.95)])
    assert (found.value, found.low, found.high) == (0.9, 0.8, 0.95)
    assert found.method == pooling.ONE_SITE and pooled([Estimate(0.9)]).low is None


@pytest.mark.parametrize("values", [[], [math.nan], [0.5, math.inf], [1e60, 1]])
def test_what_is_no_figure_is_not_pooled(values: list[float]) -> None:
    with pytest.raises(ValueError, match="pooled"):
        pooled([Estimate(value) for value in values])


def test_values_that_are_all_the_same_have_no_heterogeneity() -> None:
    found = pooled(with_errors([0.5] * 3, [0.1] * 3))
    assert found.i2 == found.tau2 == 0 and found.value == 0.5


@pytest.mark.parametrize(
    ("i2", "word"), [(0, "little"), (0.25, "low"), (0.5, "moderate"), (0.75, "high"), (1, "high")]
)
def test_heterogeneity_has_a_word(i2: float, word: str) -> None:
    assert pooling.heterogeneity(i2) == word


def test_arms_of_an_interval_that_differ_are_noticed() -> None:
    assert pooling.is_symmetric(Estimate(0.9, 0.8, 1.0))
    lopsided = Estimate(0.97, 0.9, 0.99)
    assert not pooling.is_symmetric(lopsided)
    assert pooling.is_symmetric(lopsided, Scale("logit"))


@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30), st.booleans())
def test_ranks_and_places_are_scipys(values: list[float], higher: bool) -> None:
    turned = [-value for value in values] if higher else values
    assert ranks.average_ranks(values, higher) == stats.rankdata(turned).tolist()
    assert ranks.places(values) == stats.rankdata(values, method="min").tolist()


def test_what_lacks_most_is_left_out_until_nothing_is_missing() -> None:
    late = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, None, None]]
    assert ranks.complete(late) == ([0, 1], [0, 1, 2])
    began = [[1.0, 2.0, None], [1.0, 2.0, None], [1.0, 2.0, 3.0]]
    assert ranks.complete(began) == ([0, 1, 2], [0, 1])
    both = [[1.0, None], [None, 1.0]]
    assert ranks.complete(both) == ([0], [0])
    for nothing in ([], [[]], [[None, None]], [[None], [None]]):
        assert ranks.complete(nothing) == ([], [])


@given(
    st.integers(1, 8).flatmap(
        lambda width: st.lists(
            st.lists(st.none() | st.just(1.0), min_size=width, max_size=width), max_size=8
        )
    )
)
def test_what_is_left_is_complete(figures: list[list[float | None]]) -> None:
    rows, columns = ranks.complete(figures)
    assert all(figures[row][column] is not None for row in rows for column in columns)
    anything = any(figure is not None for row in figures for figure in row)
    assert bool(rows) == bool(columns) == anything


FIGURES = [
    [0.9, 0.8, 0.95, 0.7],
    [0.85, 0.8, 0.9, 0.75],
    [0.5, 0.6, 0.7, 0.8],
    [0.5, 0.6, 0.7, 0.8],
]


def ranked(figures: list[list[float]]) -> list[list[float]]:
    """The ranks at each site, models by mean rank."""
    by_site = [ranks.average_ranks(site, True) for site in zip(*figures, strict=True)]
    return sorted((list(row) for row in zip(*by_site, strict=True)), key=sum)


def test_shares_of_places_are_those_that_scipy_counts_in_the_same_resamples() -> None:
    by_site = ranked(FIGURES)
    counts = resampling.draws(4)
    assert counts.shape == (resampling.RESAMPLES, 4) and set(counts.sum(axis=1)) == {4}
    places = [Counter[int]() for _ in by_site]
    ahead = [0.0] * 3
    for drawn in counts:
        means = [mean(numpy.repeat(row, drawn)) for row in by_site]
        for model, place in enumerate(stats.rankdata(means, method="min")):
            places[model][int(place)] += 1
        for model in range(3):
            ahead[model] += (means[model] < means[model + 1]) + (
                means[model] == means[model + 1]
            ) / 2
    found = resampling.certainty(by_site)
    for model, shares in enumerate(found.shares):
        expected = [places[model][place] / resampling.RESAMPLES for place in range(1, 5)]
        assert numpy.allclose(shares, expected, rtol=0, atol=1e-9)
    assert numpy.allclose(found.ahead, [one / resampling.RESAMPLES for one in ahead], atol=1e-9)
    # Two models that are the same everywhere are never apart.
    assert found.ahead[2] == 0.5


def test_shares_are_near_those_of_every_resample_that_there_can_be() -> None:
    by_site = ranked(FIGURES)
    first = [0.0] * 4
    for chosen in product(range(4), repeat=4):
        sums = [sum(row[site] for site in chosen) for row in by_site]
        for model, place in enumerate(stats.rankdata(sums, method="min")):
            first[model] += (place == 1) / 4**4
    found = resampling.certainty(by_site)
    for model, expected in enumerate(first):
        # Four standard errors of a share of so many resamples.
        room = 4 * math.sqrt(expected * (1 - expected) / resampling.RESAMPLES)
        assert abs(found.shares[model][0] - expected) <= room


def test_it_is_the_same_each_time_and_of_many_models_too() -> None:
    generator = numpy.random.default_rng(3)
    figures = generator.random((60, 12)).tolist()
    by_site = ranked(figures)
    assert resampling.certainty(by_site) == resampling.certainty(by_site)
    assert all(math.isclose(sum(row), 1) for row in resampling.certainty(by_site).shares)


def test_one_model_is_first_always() -> None:
    found = resampling.certainty([[1.0, 1.0]])
    assert found.shares == [[1.0]] and found.ahead == []
