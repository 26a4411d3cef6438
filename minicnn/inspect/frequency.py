"""What spatial frequencies a filter lets pass: the magnitude of its Fourier transform, and what follows from it."""

from dataclasses import dataclass

import numpy as np

from minicnn.engine.arrays import Array

POINTS = 65  # of a frequency axis; odd, so that frequency 0 is the middle one
HALF_POWER = 2**-0.5


def frequency_response(kernels: Array, points: int = POINTS) -> Array:
    """|H| of kernels (..., kh, kw), shape (..., points, points): by what factor a wave of each frequency is multiplied.

    H(fy, fx) = sum over u, v of kernel[u, v] exp(-2 pi i (fy u + fx v))

    fy and fx run from -0.5 to 0.5 cycles per pixel (without the ends, 0 in the middle, for an odd number of points).
    That is the discrete Fourier transform of the kernel with zeros around it. Convolution and cross-correlation have
    the same |H|.

    Source: Gonzalez and Woods, Digital image processing, chapter 4 (filtering in the frequency domain).
    """
    u, v = (np.arange(size) for size in kernels.shape[-2:])
    f = (np.arange(points) - points // 2) / points
    waves_y, waves_x = (np.exp(-2j * np.pi * np.outer(f, taps)) for taps in (u, v))
    response: Array = np.abs(waves_y @ kernels.astype(np.float64) @ waves_x.T)
    return response


@dataclass(frozen=True)
class Passing:
    """What a filter lets pass. A filter on several inputs has the |H| of all, root of the sum of squares."""

    low: float
    """Share of sum |H|^2 at frequencies below half the Nyquist frequency, |fy| < 1/4 and |fx| < 1/4; from 0 to 1.
    White noise has 1/4 there; NaN for a filter of zeros."""
    mean_gain: float
    """|H| at frequency 0 divided by its maximum, from 0 to 1: 0 for a filter that removes the mean."""
    kind: str
    """low-pass   low >= 1/2 and mean_gain >= 0.707 (half the power)
    high-pass  low < 1/4 and mean_gain < 0.707
    band-pass  other filters with mean_gain < 0.707, such as edge detectors
    broad      all others, which let most frequencies pass"""


def passing(kernels: Array, dilation: tuple[int, int] = (1, 1)) -> Passing:
    """What the filter with the kernels (inputs, kh, kw) lets pass, of frequencies in its own input.

    The share is exact (Parseval's theorem), the maximum of |H| that of 65 x 65 frequencies.
    """
    kernels = dilated(kernels.astype(np.float64), dilation)
    energy = float(np.square(kernels).sum())
    if energy == 0:
        return Passing(np.nan, 0.0, "zero")
    # The integral of exp(2 pi i f (u - w)) over |f| < 1/4 is sin(pi (u - w) / 2) / (pi (u - w)).
    near_y, near_x = (
        0.5 * np.sinc(0.5 * np.subtract.outer(np.arange(size), np.arange(size))) for size in kernels.shape[1:]
    )
    low = float((kernels * (near_y @ kernels @ near_x)).sum()) / energy
    response = np.sqrt(np.square(frequency_response(kernels)).sum(axis=0))
    mean_gain = float(response[POINTS // 2, POINTS // 2] / response.max())
    if mean_gain < HALF_POWER:
        kind = "high-pass" if low < 0.25 - 1e-9 else "band-pass"
    else:
        kind = "low-pass" if low >= 0.5 else "broad"
    return Passing(low, mean_gain, kind)


def dilated(kernels: Array, dilation: tuple[int, int]) -> Array:
    """Kernels with zeros between their taps."""
    inputs, *size = kernels.shape
    shape = (d * (k - 1) + 1 for d, k in zip(dilation, size, strict=True))
    spread = np.zeros((inputs, *shape))
    spread[:, :: dilation[0], :: dilation[1]] = kernels
    return spread
