"""Quantiles of Student's t distribution, without scipy.

An interval of k sites has k - 1 degrees of freedom, a whole number, and for whole numbers the
distribution is a finite sum of positive terms: Abramowitz & Stegun, "Handbook of Mathematical
Functions" (1964), 26.7.3 and 26.7.4. So neither a series has to be cut off nor a library of 100 MB
be installed for one figure.
"""

import math


def central_quantile(level: float, degrees: int) -> float:
    """The t with P(-t < T < t) = `level`, for T of Student's distribution.

    `level` is above 0 and 0.999 at most, `degrees` 1 or more. Right to 12 digits there. Raises
    `ValueError` for anything else.
    """
    if not 0 < level <= 0.999 or degrees < 1:
        raise ValueError(f"no quantile of level {level!r} with {degrees!r} degrees of freedom")
    # By the angle of which t / sqrt(degrees) is the tangent the probability rises ever slower, so
    # Newton's method from 0 comes closer from below, and never goes past the root.
    half = degrees / 2
    slope = 2 * math.exp(math.lgamma(half + 0.5) - math.lgamma(half)) / math.sqrt(math.pi)
    angle = 0.0
    while True:
        missing = level - _probability(angle, degrees)
        closer = angle + missing / (slope * math.cos(angle) ** (degrees - 1))
        if closer <= angle * (1 + 1e-16):
            return math.sqrt(degrees) * math.tan(angle)
        angle = closer


def _probability(angle: float, degrees: int) -> float:
    """A(t | degrees) of Abramowitz & Stegun, for t = sqrt(degrees) tan(angle)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    # 1, 1/2 cos^2, 1*3 / (2*4) cos^4, ... with an even number; cos, 2/3 cos^3, ... with an odd one.
    term = cosine if odd else 1.0
    terms = []
    for count in range(2 + odd, degrees + 1, 2):
        terms.append(term)
        term *= cosine * cosine * (count - 1) / count
    total = sine * math.fsum(terms)
    return 2 / math.pi * (angle + total) if odd else total
