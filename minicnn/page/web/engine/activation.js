/** Activations, element by element (Softmax: along the channels), and Dropout. */

import { FORMULAS } from "./formulas.js";

/** A layer y = value(x) whose slope is a function of x and y. */
function elementwise(value, slope, formula) {
  return {
    elementwise: true,
    formula,
    value,
    slope,
    shape: (_options, inShape) => inShape,

    forward(layer, x, y, n) {
      for (let i = 0; i < n * layer.inSize; i++) y[i] = value(x[i], layer.options);
    },

    backward(layer, x, y, dy, dx, n) {
      for (let i = 0; i < n * layer.inSize; i++) dx[i] = dy[i] * slope(x[i], y[i], layer.options);
    },

    sources: (_layer, at, visit) => visit(at, -1, 0),
    users: (_layer, at, visit) => visit(at, -1),
    factorAt: (layer, at) => slope(layer.x[at], layer.y[at], layer.options),
  };
}

/** Those that Python's layers have formulas for; minicnn/page/formulas.py writes that module. */
export const ACTIVATIONS = Object.fromEntries(
  Object.entries(FORMULAS).map(([name, formula]) => [name, elementwise(...formula)]),
);

/** visit(first) for each place of each sample whose channels, `step` apart, go through one softmax. */
function eachPlace(layer, n, visit) {
  const step = layer.inSize / layer.inShape[0];
  for (let s = 0; s < n; s++) for (let p = 0; p < step; p++) visit(s * layer.inSize + p, step, layer.inShape[0]);
}

/**
 * A layer of the channels of a place: y = value(d, sum) with d = x - the largest x, and the sum of all exp(d). The gradient
 * is back(dy, y, sum) with the sum of all part(dy, y).
 */
function alongChannels(value, part, back, derivative) {
  const sources = (layer, at, visit) => {
    const step = layer.inSize / layer.inShape[0];
    for (let c = 0; c < layer.inShape[0]; c++) visit(c * step + (at % step), -1, c);
  };
  return {
    shape: (_options, inShape) => inShape,

    forward(layer, x, y, n) {
      eachPlace(layer, n, (first, step, channels) => {
        let most = Number.NEGATIVE_INFINITY;
        for (let c = 0; c < channels; c++) most = Math.max(most, x[first + c * step]);
        let sum = 0;
        for (let c = 0; c < channels; c++) sum += Math.exp(x[first + c * step] - most);
        for (let c = 0; c < channels; c++) y[first + c * step] = value(x[first + c * step] - most, sum);
      });
    },

    backward(layer, _x, y, dy, dx, n) {
      eachPlace(layer, n, (first, step, channels) => {
        let sum = 0;
        for (let c = 0; c < channels; c++) sum += part(dy[first + c * step], y[first + c * step]);
        for (let c = 0; c < channels; c++) dx[first + c * step] = back(dy[first + c * step], y[first + c * step], sum);
      });
    },

    sources,
    users: (layer, at, visit) => sources(layer, at, (from) => visit(from, -1)),
    /** That of output `to` with respect to input `from`. */
    derivative: (layer, from, to) => derivative(from === to ? 1 : 0, layer.y[from], layer.y[to]),
  };
}

export const Softmax = alongChannels(
  (d, sum) => Math.exp(d) / sum,
  (dy, y) => dy * y,
  (dy, y, sum) => y * (dy - sum),
  (same, from, to) => to * (same - from),
);

/** The logarithm of it. */
export const LogSoftmax = alongChannels(
  (d, sum) => d - Math.log(sum),
  (dy) => dy,
  (dy, y, sum) => dy - Math.exp(y) * sum,
  (same, from) => same - Math.exp(from),
);

/** In training each element is zeroed with probability p and the others are divided by 1 - p; else y = x. */
export const Dropout = {
  passes: true,
  shape: (_options, inShape) => inShape,

  forward(layer, x, y, n, training) {
    const { p = 0.5 } = layer.options;
    const size = n * layer.inSize;
    layer.mask = training && p > 0 ? new Float32Array(size) : null;
    const places = layer.kind.wholeMaps ? layer.inShape[1] * layer.inShape[2] : 1;
    for (let i = 0; i < size; i++) {
      if (layer.mask) {
        const drawn = () => (layer.random() < p ? 0 : 1 / (1 - p));
        layer.mask[i] = i % places ? layer.mask[i - 1] : drawn();
      }
      y[i] = layer.mask ? x[i] * layer.mask[i] : x[i];
    }
  },

  backward(layer, _x, _y, dy, dx, n) {
    for (let i = 0; i < n * layer.inSize; i++) dx[i] = layer.mask ? dy[i] * layer.mask[i] : dy[i];
  },
};

/** The same for whole maps. */
export const Dropout2d = { ...Dropout, wholeMaps: true };
