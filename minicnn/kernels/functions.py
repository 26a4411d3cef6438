"""exp, exp - 1, log, tanh, 1 / x, the normal distribution and the maximum of vectors, without the C library.

They are polynomials after range reduction, in multiply-adds that every machine rounds alike. For exp, x = n ln 2 + r
with whole n and |r| <= ln 2 / 2, so exp(x) = 2^n exp(r), and the Taylor series of exp(r) - 1, up to r^7 in float32 and
to r^14 in float64, is exact to 0.05 ulp there.
"""

import math
from dataclasses import dataclass
from typing import Any

from numba import types
from numba.extending import intrinsic

from .bits import ROUND, power_of_two, rough_reciprocal, scaled, times_power_of_two
from .compile import inlined
from .vectors import absolute, copysign, fma, polynomial, select

LOG2_E = 1.4426950408889634


def by_type(function: Any) -> Any:
    """Decorator: a function that kernels call, one for each element type, see `_functions`."""

    def choose(typing, x):
        chosen = typing.resolve_value_type(_BY_TYPE[x.element][function.__name__])

        def code(context, builder, sig, args):
            return context.get_function(chosen, sig)(builder, args)

        return typing.resolve_function_type(chosen, (x,), {}), code

    return intrinsic(choose)


@by_type
def exp(x):
    """exp(x) for a vector of x <= 0."""


@by_type
def exp_minus_1(x):
    """exp(x) - 1 for a vector of x <= 0, which loses nothing near zero."""


@by_type
def tanh(x):
    """tanh(x) for a vector."""


@by_type
def log(x):
    """log(x) for a vector of x >= 1."""


@by_type
def reciprocal(x):
    """1 / x for a vector of x from 1 to 2."""


@by_type
def normal(x):
    """(Phi(x), exp(-x^2 / 2)) for a vector; Phi is the distribution function of the normal distribution.

    Phi(-a) = exp(-a^2 / 2) P(a) / R(a) for a >= 0, and Phi(a) = 1 - Phi(-a).
    """


@inlined
def larger(a, b):
    """The larger of two vectors, lane by lane; a NaN in `a` wins, and one in `b` stays."""
    return select((a > b) | (a != a), a, b)


@inlined
def _divided(a, b):
    return a / b


@inlined
def _quotient(a, b):
    """a / b for float32 b > 0 with a normal reciprocal, by Newton's method: as exact, in a third of the time."""
    r = rough_reciprocal(b)
    for _ in range(3):
        r = fma(r, fma(0.0 - b, r, 1.0), r)
    q = a * r
    return fma(fma(0.0 - b, q, a), r, q)


@dataclass(frozen=True)
class Precision:
    """What the functions of an element type are made of.

    ln2       ln 2 in two parts: n times the first is exact for every n that occurs
    least     exp(x) is 0 for all x below
    one       exp(-x) is nothing beside 1 for all x above
    degree    of the Taylor series of exp(r)
    terms     of the series of log(m) behind 2 s
    normal    the coefficients of P and R, from the highest on, with the least relative error of Phi: 6e-9 in float32,
              6e-17 in float64. They come from a least-squares fit in numbers of 60 digits, whose weights are larger
              where the error is.
    quotient  a / b for b > 0
    """

    ln2: tuple[float, float]
    least: float
    one: float
    degree: int
    terms: int
    normal: tuple[tuple[float, ...], tuple[float, ...]]
    quotient: Any


PRECISION = {
    types.float32: Precision(
        (0.693359375, -0.00021219444005469057),
        *(-104.0, 10.0, 7, 4),
        (
            (
                *(0.004116181254789287, 0.040632865185360724, 0.18323474227436015, 0.4382954126888645),
                0.5000000029221079,
            ),
            (
                *(0.010317616639617468, 0.10185793336008095, 0.46946935451119914, 1.2025031089608933),
                *(1.6744758033104887, 1.0),
            ),
        ),
        _quotient,
    ),
    types.float64: Precision(
        (0.6931471803691238, 1.9082149292705877e-10),
        *(-746.0, 20.0, 14, 10),
        (
            (
                *(1.3844813404935016e-06, 3.722790835164308e-05, 0.0004901380525909949, 0.004087438005953098),
                *(0.02361382263071676, 0.09767185734161422, 0.28927275486601883, 0.5939643164114733),
                *(0.7748188069932039, 0.5),
            ),
            (
                *(3.4703800737903418e-06, 9.331652767746632e-05, 0.0012320642813702268, 0.010339004193011906),
                *(0.06041272904493174, 0.25488608214239167, 0.7818681022250049, 1.7141126102071544),
                *(2.560980332229983, 2.347522174789263, 1.0),
            ),
        ),
        _divided,
    ),
}


def _functions(element: Any, of: Precision) -> dict[Any, Any]:
    """What kernels call, for vectors of that element type."""
    round_, least, one, quotient = ROUND[element], of.least, of.one, of.quotient
    ln2_high, ln2_low = of.ln2
    taylor = polynomial(*(1 / math.factorial(k) for k in range(of.degree, 1, -1)))
    series = polynomial(*(2 / (2 * k + 1) for k in range(of.terms, 0, -1)))
    numerator, denominator = (polynomial(*coefficients) for coefficients in of.normal)
    farthest = math.sqrt(-2 * least)

    @inlined
    def reduced(x):
        """n + ROUND and exp(r) - 1 for x = n ln 2 + r."""
        shifted = fma(x, LOG2_E, round_)
        n = shifted - round_
        r = fma(n, -ln2_low, fma(n, -ln2_high, x))
        return shifted, fma(taylor(r), r * r, r)

    @inlined
    def exp_(x):
        shifted, p = reduced(select(x < least, least, x))
        return times_power_of_two(p + 1.0, shifted)

    @inlined
    def from_reduced(shifted, p):
        """exp(x) - 1"""
        power = power_of_two(shifted)
        return fma(power, p, power - 1.0)

    @inlined
    def exp_minus_1_(x):
        shifted, p = reduced(select(x < -2.0 * one, -2.0 * one, x))
        return from_reduced(shifted, p)

    @inlined
    def tanh_(x):
        """tanh(x) = m / (m + 2) with m = exp(2 |x|) - 1, which loses nothing near zero."""
        a = absolute(x)
        a = select(a > one, one, a)
        shifted, p = reduced(a + a)
        m = from_reduced(shifted, p)
        return copysign(quotient(m, m + 2.0), x)

    @inlined
    def log_(x):
        """x = 2^n m: n ln 2 + log(m), with f = m - 1 and s = f / (2 + f) log(m) = 2 s + 2 s^3 / 3 + 2 s^5 / 5 + ..."""
        m, shifted = scaled(x)
        n = shifted - round_
        f = m - 1.0
        s = quotient(f, f + 2.0)
        z = s * s
        # 2 s = f - s f, with less rounding
        low = fma(n, ln2_low, fma(s, 0.0 - f, series(z) * z * s))
        return fma(n, ln2_high, f + low)

    @inlined
    def reciprocal_(x):
        return quotient(x * 0.0 + 1.0, x)

    @inlined
    def normal_(x):
        a = absolute(x)
        a = select(a > farthest, farthest, a)
        square = a * a
        rounding = fma(a, a, 0.0 - square)
        e = exp_(square * -0.5)
        e = fma(e, rounding * -0.5, e)
        tail = e * quotient(numerator(a), denominator(a))
        return select(x > 0.0, 1.0 - tail, tail), e

    own = exp_, exp_minus_1_, tanh_, log_, reciprocal_, normal_
    return dict(zip(("exp", "exp_minus_1", "tanh", "log", "reciprocal", "normal"), own, strict=True))


_BY_TYPE = {element: _functions(element, of) for element, of in PRECISION.items()}
