/** 1 - erf(x), as JavaScript has none; Python's float32 has the same two polynomials (kernels/functions.py), with more digits. */

const P = [0.00411618125, 0.0406328652, 0.183234742, 0.438295413, 0.500000003];
const R = [0.0103176166, 0.101857933, 0.469469355, 1.20250311, 1.6744758, 1];

const polynomial = (coefficients, x) => coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);

export function erfc(x) {
  const a = Math.min(Math.SQRT2 * Math.abs(x), 14);
  const tail = (2 * Math.exp((-a * a) / 2) * polynomial(P, a)) / polynomial(R, a);
  return x > 0 ? tail : 2 - tail;
}
