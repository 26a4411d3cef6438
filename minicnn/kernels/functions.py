"""exp, exp - 1, log, tanh, 1 / x, the normal distribution and the maximum of vectors, without the C library.

They are polynomials after range reduction, in multiply-adds that every machine rounds alike. For exp, x = n ln 2 + r
with whole n and |r| <= ln 2 / 2, so exp(x) = 2^n exp(r), and the Taylor series of exp(r) - 1, up to r^7 in float32 and
to r^14 in float64, is exact to 0.05 ulp there.

Numbers that depend on the element type are functions of a vector of it: least(x).
"""

import math

from .bits import emit_rough_reciprocal, power_of_two, round_, scaled, times_power_of_two
from .compile import inlined
from .vectors import absolute, by_type, constant, copysign, emit_fma, fma, generated, is_single, polynomial, select

LOG2_E = 1.4426950408889634
#: ln 2 in two parts: n times the first is exact for every n that occurs.
ln2_high = by_type(0.693359375, 0.6931471803691238)
ln2_low = by_type(-0.00021219444005469057, 1.9082149292705877e-10)
#: exp(x) is 0 for all x below; and exp(-x) is nothing beside 1 for all x above.
least = by_type(-104.0, -746.0)
one = by_type(10.0, 20.0)
#: exp(-x^2 / 2) is 0 for all x above.
farthest = by_type(math.sqrt(2 * 104.0), math.sqrt(2 * 746.0))
#: (exp(r) - 1 - r) / r^2 as a Taylor series; and (log(m) / s - 2) / s^2 as a series in s^2, see `log`.
taylor = polynomial(*([1 / math.factorial(k) for k in range(degree, 1, -1)] for degree in (7, 14)))
series = polynomial(*([2 / (2 * k + 1) for k in range(terms, 0, -1)] for terms in (4, 10)))
#: P and R of `normal`, with the least relative error of Phi: 6e-9 in float32, 6e-17 in float64. They come from a
#: least-squares fit in numbers of 60 digits, whose weights are larger where the error is.
numerator = polynomial(
    [0.004116181254789287, 0.040632865185360724, 0.18323474227436015, 0.4382954126888645, 0.5000000029221079],
    [
        *(1.3844813404935016e-06, 3.722790835164308e-05, 0.0004901380525909949, 0.004087438005953098),
        *(0.02361382263071676, 0.09767185734161422, 0.28927275486601883, 0.5939643164114733),
        *(0.7748188069932039, 0.5),
    ],
)
denominator = polynomial(
    [*(0.010317616639617468, 0.10185793336008095, 0.46946935451119914, 1.2025031089608933), *(1.6744758033104887, 1.0)],
    [
        *(3.4703800737903418e-06, 9.331652767746632e-05, 0.0012320642813702268, 0.010339004193011906),
        *(0.06041272904493174, 0.25488608214239167, 0.7818681022250049, 1.7141126102071544),
        *(2.560980332229983, 2.347522174789263, 1.0),
    ],
)


@inlined
def larger(a, b):
    """The larger of two vectors, lane by lane; a NaN in `a` wins, and one in `b` stays."""
    return select((a > b) | (a != a), a, b)


@generated(lambda a, b: a)
def quotient(builder, a, b):
    """a / b for b > 0, in float32 with a normal reciprocal: by Newton's method, as exact, in a third of the time."""
    if not is_single(a):
        return builder.fdiv(a, b)
    minus_b, one = builder.fsub(constant(b.type, 0.0), b), constant(b.type, 1.0)
    r = emit_rough_reciprocal(builder, b)
    for _ in range(3):  # r = r + r (1 - b r)
        r = emit_fma(builder, r, emit_fma(builder, minus_b, r, one), r)
    q = builder.fmul(a, r)
    return emit_fma(builder, emit_fma(builder, minus_b, q, a), r, q)


@inlined
def _reduced(x):
    """n + ROUND and exp(r) - 1 for x = n ln 2 + r."""
    shifted = fma(x, LOG2_E, round_(x))
    n = shifted - round_(x)
    r = fma(n, 0.0 - ln2_low(x), fma(n, 0.0 - ln2_high(x), x))
    return shifted, fma(taylor(r), r * r, r)


@inlined
def _minus_1(x):
    """exp(x) - 1 for a vector of x that are not too far from 0."""
    shifted, p = _reduced(x)
    power = power_of_two(shifted)
    return fma(power, p, power - 1.0)


@inlined
def exp(x):
    """exp(x) for a vector of x <= 0."""
    shifted, p = _reduced(select(x < least(x), least(x), x))
    return times_power_of_two(p + 1.0, shifted)


@inlined
def exp_minus_1(x):
    """exp(x) - 1 for a vector of x <= 0, which loses nothing near zero."""
    lowest = one(x) * -2.0
    return _minus_1(select(x < lowest, lowest, x))


@inlined
def tanh(x):
    """tanh(x) = m / (m + 2) for a vector, with m = exp(2 |x|) - 1, which loses nothing near zero."""
    a = absolute(x)
    a = select(a > one(x), one(x), a)
    m = _minus_1(a + a)
    return copysign(quotient(m, m + 2.0), x)


@inlined
def log(x):
    """log(x) for a vector of x >= 1.

    x = 2^n m: n ln 2 + log(m), with f = m - 1 and s = f / (2 + f) log(m) = 2 s + 2 s^3 / 3 + 2 s^5 / 5 + ...
    """
    m, shifted = scaled(x)
    n = shifted - round_(x)
    f = m - 1.0
    s = quotient(f, f + 2.0)
    z = s * s
    # 2 s = f - s f, with less rounding
    low = fma(n, ln2_low(x), fma(s, 0.0 - f, series(z) * z * s))
    return fma(n, ln2_high(x), f + low)


@inlined
def reciprocal(x):
    """1 / x for a vector of x from 1 to 2."""
    return quotient(x * 0.0 + 1.0, x)


@inlined
def normal(x):
    """(Phi(x), exp(-x^2 / 2)) for a vector; Phi is the distribution function of the normal distribution.

    Phi(-a) = exp(-a^2 / 2) P(a) / R(a) for a >= 0, and Phi(a) = 1 - Phi(-a).
    """
    a = absolute(x)
    a = select(a > farthest(x), farthest(x), a)
    square = a * a
    rounding = fma(a, a, 0.0 - square)
    e = exp(square * -0.5)
    e = fma(e, rounding * -0.5, e)
    tail = e * quotient(numerator(a), denominator(a))
    return select(x > 0.0, 1.0 - tail, tail), e
