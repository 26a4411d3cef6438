/**
 * The two matrix products that convolutions and dense layers are made of. Matrices are flat Float32Arrays, with the
 * place of their first element. Several rows at a time share what is read, and their sums need not wait for each other.
 */

/** y[i yi + j yj] += sum over k of a[i, k] b[j, k], for m rows of a and n rows of b, both of length k. */
export function addDots(a, a0, b, b0, y, y0, m, n, k, yi, yj) {
  let i = 0;
  for (; i + 4 <= m; i += 4) fourRows(a, a0 + i * k, b, b0, y, y0 + i * yi, n, k, yi, yj);
  for (; i < m; i++) oneRow(a, a0 + i * k, b, b0, y, y0 + i * yi, n, k, yj);
}

function fourRows(a, p0, b, b0, y, y0, n, k, yi, yj) {
  const p1 = p0 + k;
  const p2 = p1 + k;
  const p3 = p2 + k;
  let j = 0;
  for (; j + 2 <= n; j += 2) {
    const q = b0 + j * k;
    const r = q + k;
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    let t0 = 0;
    let t1 = 0;
    let t2 = 0;
    let t3 = 0;
    for (let t = 0; t < k; t++) {
      const v = b[q + t];
      const w = b[r + t];
      const c0 = a[p0 + t];
      const c1 = a[p1 + t];
      const c2 = a[p2 + t];
      const c3 = a[p3 + t];
      s0 += c0 * v;
      s1 += c1 * v;
      s2 += c2 * v;
      s3 += c3 * v;
      t0 += c0 * w;
      t1 += c1 * w;
      t2 += c2 * w;
      t3 += c3 * w;
    }
    const at = y0 + j * yj;
    y[at] += s0;
    y[at + yi] += s1;
    y[at + 2 * yi] += s2;
    y[at + 3 * yi] += s3;
    y[at + yj] += t0;
    y[at + yj + yi] += t1;
    y[at + yj + 2 * yi] += t2;
    y[at + yj + 3 * yi] += t3;
  }
  if (j < n) for (let i = 0; i < 4; i++) oneRow(a, p0 + i * k, b, b0 + j * k, y, y0 + j * yj + i * yi, 1, k, yj);
}

function oneRow(a, p, b, b0, y, y0, n, k, yj) {
  let j = 0;
  for (; j + 4 <= n; j += 4) {
    const q0 = b0 + j * k;
    const q1 = q0 + k;
    const q2 = q1 + k;
    const q3 = q2 + k;
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    for (let t = 0; t < k; t++) {
      const c = a[p + t];
      s0 += c * b[q0 + t];
      s1 += c * b[q1 + t];
      s2 += c * b[q2 + t];
      s3 += c * b[q3 + t];
    }
    const at = y0 + j * yj;
    y[at] += s0;
    y[at + yj] += s1;
    y[at + 2 * yj] += s2;
    y[at + 3 * yj] += s3;
  }
  for (; j < n; j++) {
    const q = b0 + j * k;
    let sum = 0;
    for (let t = 0; t < k; t++) sum += a[p + t] * b[q + t];
    y[y0 + j * yj] += sum;
  }
}

/** d[i, k] += sum over p of a[i ai + p ap] b[p, k], for m rows of d and n rows of b, both of length k. */
export function addOuter(a, a0, ai, ap, b, b0, d, d0, m, n, k) {
  for (let i = 0; i < m; i++) {
    const row = d0 + i * k;
    let p = 0;
    for (; p + 4 <= n; p += 4) {
      const at = a0 + i * ai + p * ap;
      const c0 = a[at];
      const c1 = a[at + ap];
      const c2 = a[at + 2 * ap];
      const c3 = a[at + 3 * ap];
      if (c0 === 0 && c1 === 0 && c2 === 0 && c3 === 0) continue; // as most are behind max pooling and ReLU
      const q0 = b0 + p * k;
      const q1 = q0 + k;
      const q2 = q1 + k;
      const q3 = q2 + k;
      for (let t = 0; t < k; t++) d[row + t] += c0 * b[q0 + t] + c1 * b[q1 + t] + c2 * b[q2 + t] + c3 * b[q3 + t];
    }
    for (; p < n; p++) {
      const c = a[a0 + i * ai + p * ap];
      const q = b0 + p * k;
      if (c !== 0) for (let t = 0; t < k; t++) d[row + t] += c * b[q + t];
    }
  }
}
