/** What spatial frequencies a filter lets pass: the magnitude of its Fourier transform. */

/**
 * |H| of a filter on several maps, the root of the sum of squares over its kernels: (points, points), from -1/2 to 1/2
 * cycles a pixel, 0 in the middle. kernels: arrays of kh kw numbers. H(fy, fx) = sum of k[u, v] e^(-2 pi i (fy u + fx v)).
 */
export function response(kernels, [kh, kw], [dh, dw], points) {
  const squares = new Float64Array(points * points);
  const waves = (taps, distance) =>
    Array.from({ length: points }, (_, f) =>
      Array.from({ length: taps }, (_, u) => {
        const angle = (-2 * Math.PI * distance * u * (f - (points >> 1))) / points;
        return [Math.cos(angle), Math.sin(angle)];
      }),
    );
  const [down, across] = [waves(kh, dh), waves(kw, dw)];
  for (const kernel of kernels) {
    for (let fy = 0; fy < points; fy++) {
      const row = Array.from({ length: kw }, (_, v) => {
        let [real, imaginary] = [0, 0];
        for (let u = 0; u < kh; u++) {
          real += down[fy][u][0] * kernel[u * kw + v];
          imaginary += down[fy][u][1] * kernel[u * kw + v];
        }
        return [real, imaginary];
      });
      for (let fx = 0; fx < points; fx++) {
        let [real, imaginary] = [0, 0];
        for (let v = 0; v < kw; v++) {
          real += across[fx][v][0] * row[v][0] - across[fx][v][1] * row[v][1];
          imaginary += across[fx][v][0] * row[v][1] + across[fx][v][1] * row[v][0];
        }
        squares[fy * points + fx] += real * real + imaginary * imaginary;
      }
    }
  }
  return squares.map(Math.sqrt);
}
