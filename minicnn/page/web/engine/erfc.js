/** 1 - erf(x), as JavaScript has none; Python's float32 has the same two polynomials (kernels/functions.py). */

const P = [0.004116181254789287, 0.040632865185360724, 0.18323474227436015, 0.4382954126888645, 0.5000000029221079];
const R = [0.010317616639617468, 0.10185793336008095, 0.46946935451119914, 1.2025031089608933, 1.6744758033104887, 1];

const polynomial = (coefficients, x) => coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);

export function erfc(x) {
  const a = Math.min(Math.SQRT2 * Math.abs(x), 14);
  const tail = (2 * Math.exp((-a * a) / 2) * polynomial(P, a)) / polynomial(R, a);
  return x > 0 ? tail : 2 - tail;
}
