/** Losses: a number to make small, and its gradient. Scores are (n, k), one sample behind the other. */

/** The largest of a row, and log(sum of exp), made safe by it. `rest` is one more term, as of one more class. */
function logSum(y, first, k, rest = Number.NEGATIVE_INFINITY) {
  let most = rest;
  for (let c = 0; c < k; c++) most = Math.max(most, y[first + c]);
  let sum = Math.exp(rest - most);
  for (let c = 0; c < k; c++) sum += Math.exp(y[first + c] - most);
  return most + Math.log(sum);
}

/** -sum of t log softmax(y), with label smoothing e: t is 1 - e + e / K at the label and e / K elsewhere. */
function crossEntropy(y, labels, n, k, dy, { label_smoothing: e = 0 }) {
  let loss = 0;
  for (let s = 0; s < n; s++) {
    const total = logSum(y, s * k, k);
    for (let c = 0; c < k; c++) {
      const target = (c === labels[s] ? 1 - e : 0) + e / k;
      const logarithm = y[s * k + c] - total;
      if (target !== 0) loss -= target * logarithm;
      dy[s * k + c] = (Math.exp(logarithm) - target) / n;
    }
  }
  return loss / n;
}

/** log(e^-j + sum of e^y) - y[label]. */
function mapCriterion(y, labels, n, k, dy, { j = 10 }) {
  let loss = 0;
  for (let s = 0; s < n; s++) {
    const total = logSum(y, s * k, k, -j);
    loss += total - y[s * k + labels[s]];
    for (let c = 0; c < k; c++) dy[s * k + c] = (Math.exp(y[s * k + c] - total) - (c === labels[s] ? 1 : 0)) / n;
  }
  return loss / n;
}

/** The squares of y - target, the target being 1 at the label and 0 elsewhere, divided by `terms`. */
function squares(y, labels, n, k, dy, terms) {
  let loss = 0;
  for (let s = 0; s < n; s++) {
    for (let c = 0; c < k; c++) {
      const difference = y[s * k + c] - (c === labels[s] ? 1 : 0);
      loss += difference * difference;
      dy[s * k + c] = (2 * difference) / terms;
    }
  }
  return loss / terms;
}

const LOSSES = {
  "softmax-cross-entropy": { logits: true, run: crossEntropy },
  "maximum-a-posteriori": { logits: true, run: mapCriterion },
  "mean-squared-error": { logits: false, run: (y, labels, n, k, dy) => squares(y, labels, n, k, dy, n * k) },
  "half-squared-error": { logits: false, run: (y, labels, n, k, dy) => squares(y, labels, n, k, dy, 2 * n) },
};

/** The mean loss of n samples; dy is written. `loss`: { name, label_smoothing, j }. */
export function lossOf(loss, y, labels, n, k, dy) {
  return LOSSES[loss.name].run(y, labels, n, k, dy, loss);
}

/** Scores of one sample as probabilities: their softmax, or, after squared errors, cut off below 0 and divided. */
export function probabilities(loss, scores, endsInSoftmax) {
  if (LOSSES[loss.name].logits) {
    if (endsInSoftmax) return Float64Array.from(scores);
    const total = logSum(scores, 0, scores.length);
    return Float64Array.from(scores, (score) => Math.exp(score - total));
  }
  let positive = Float64Array.from(scores, (score) => Math.max(score, 0));
  if (!positive.some((score) => score > 0)) positive = positive.fill(1);
  const sum = positive.reduce((a, b) => a + b);
  return positive.map((score) => score / sum);
}
