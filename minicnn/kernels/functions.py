"""exp, log, tanh, 1 / x and the maximum of vectors.

In float32 they are polynomials after range reduction, in multiply-adds that every machine rounds alike. For exp,
x = n ln 2 + r with whole n and |r| <= ln 2 / 2, so exp(x) = 2^n exp(r), and the Taylor series of exp(r) - 1 up to r^7
is exact to 0.05 ulp there. In float64 the C library is called, one lane after the other; it may round another way on
another machine.
"""

from numba import types
from numba.extending import overload

from minicnn.engine.compile import inlined

from .bits import ROUND, power_of_two, rough_reciprocal, scaled, times_power_of_two, whole_number
from .vectors import VectorType, absolute, copysign, fma, libm_exp, libm_log, libm_tanh, select

LOG2_E = 1.4426950408889634
# ln 2 in two parts: n times the first is exact in float32 for every n that occurs.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440054690583e-4


@inlined
def larger(a, b):
    """The larger of two vectors, lane by lane; a NaN in `a` wins, and one in `b` stays."""
    return select((a > b) | (a != a), a, b)


@inlined
def _reduced(x):
    """n + ROUND and exp(r) - 1 for float32 x = n ln 2 + r."""
    shifted = fma(x, LOG2_E, ROUND)
    n = whole_number(shifted)
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    p = fma(r, 1 / 5040, 1 / 720)
    p = fma(p, r, 1 / 120)
    p = fma(p, r, 1 / 24)
    p = fma(p, r, 1 / 6)
    p = fma(p, r, 1 / 2)
    return shifted, fma(p, r * r, r)


@inlined
def _exp_float32(x):
    shifted, p = _reduced(select(x < -104.0, -104.0, x))
    return times_power_of_two(p + 1.0, shifted)


@inlined
def _quotient(a, b):
    """a / b for float32 b > 0 with a normal reciprocal, by Newton's method: as exact, in a third of the time."""
    r = rough_reciprocal(b)
    for _ in range(3):
        r = fma(r, fma(0.0 - b, r, 1.0), r)
    q = a * r
    return fma(fma(0.0 - b, q, a), r, q)


@inlined
def _tanh_float32(x):
    """tanh(x) = m / (m + 2) with m = exp(2 |x|) - 1, which loses nothing near zero."""
    a = absolute(x)
    a = select(a > 10.0, 10.0, a)
    shifted, p = _reduced(a + a)
    power = power_of_two(shifted)
    m = fma(power, p, power - 1.0)
    return copysign(_quotient(m, m + 2.0), x)


@inlined
def _log_float32(x):
    """log(x) = n ln 2 + log(m), x = 2^n m >= 1; with f = m - 1 and s = f / (2 + f), log(m) = 2 s + 2 s^3 / 3 + ..."""
    m, shifted = scaled(x)
    n = whole_number(shifted)
    f = m - 1.0
    s = _quotient(f, f + 2.0)
    z = s * s
    p = fma(z, 2 / 9, 2 / 7)
    p = fma(p, z, 2 / 5)
    p = fma(p, z, 2 / 3)
    # 2 s = f - s f, with less rounding
    low = fma(n, LN2_LOW, fma(s, 0.0 - f, p * z * s))
    return fma(n, LN2_HIGH, f + low)


def exp(x):
    """exp(x) for a vector of x <= 0."""


def tanh(x):
    """tanh(x) for a vector."""


def log(x):
    """log(x) for a vector of x >= 1."""


def reciprocal(x):
    """1 / x for a vector of x from 1 to 2."""


def _by_type(function, single, double):
    """Lets kernels call `function`: `single` for a vector of float32, else `double`."""

    @overload(function)
    def choose(x):
        chosen = single if x == VectorType(types.float32) else double
        return lambda x: chosen(x)


_by_type(exp, _exp_float32, libm_exp)
_by_type(tanh, _tanh_float32, libm_tanh)
_by_type(log, _log_float32, libm_log)
_by_type(reciprocal, inlined(lambda x: _quotient(x * 0.0 + 1.0, x)), inlined(lambda x: 1.0 / x))
