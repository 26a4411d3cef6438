/** Activations, element by element (Softmax: along the channels), and Dropout. */

/** A layer y = value(x) whose slope is a function of x and y. */
function elementwise(value, slope) {
  return {
    elementwise: true,
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

const AMPLITUDE = 1.7159;
const STEEPNESS = 2 / 3;

export const ReLU = elementwise(
  (x) => (x > 0 ? x : 0),
  (x) => (x > 0 ? 1 : 0),
);
export const LeakyReLU = elementwise(
  (x, { negative_slope: a }) => (x > 0 ? x : a * x),
  (x, _y, { negative_slope: a }) => (x > 0 ? 1 : a),
);
export const Sigmoid = elementwise(
  (x) => 1 / (1 + Math.exp(-x)),
  (_x, y) => y * (1 - y),
);
export const Tanh = elementwise(Math.tanh, (_x, y) => 1 - y * y);
export const ScaledTanh = elementwise(
  (x) => AMPLITUDE * Math.tanh(STEEPNESS * x),
  (_x, y) => STEEPNESS * (AMPLITUDE - (y * y) / AMPLITUDE),
);

/** visit(first) for each place of each sample whose channels, `step` apart, go through one softmax. */
function eachPlace(layer, n, visit) {
  const step = layer.inSize / layer.inShape[0];
  for (let s = 0; s < n; s++) for (let p = 0; p < step; p++) visit(s * layer.inSize + p, step, layer.inShape[0]);
}

export const Softmax = {
  shape: (_options, inShape) => inShape,

  forward(layer, x, y, n) {
    eachPlace(layer, n, (first, step, channels) => {
      let most = Number.NEGATIVE_INFINITY;
      for (let c = 0; c < channels; c++) most = Math.max(most, x[first + c * step]);
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += Math.exp(x[first + c * step] - most);
      for (let c = 0; c < channels; c++) y[first + c * step] = Math.exp(x[first + c * step] - most) / sum;
    });
  },

  backward(layer, _x, y, dy, dx, n) {
    eachPlace(layer, n, (first, step, channels) => {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += dy[first + c * step] * y[first + c * step];
      for (let c = 0; c < channels; c++) {
        const at = first + c * step;
        dx[at] = y[at] * (dy[at] - sum);
      }
    });
  },

  sources(layer, at, visit) {
    const step = layer.inSize / layer.inShape[0];
    for (let c = 0; c < layer.inShape[0]; c++) visit(c * step + (at % step), -1, c);
  },
  users(layer, at, visit) {
    Softmax.sources(layer, at, (from) => visit(from, -1));
  },
  /** The derivative of output `to` with respect to input `from`. */
  derivative: (layer, from, to) => layer.y[to] * ((from === to ? 1 : 0) - layer.y[from]),
};

/** In training each element is zeroed with probability p and the others are divided by 1 - p; else y = x. */
export const Dropout = {
  passes: true,
  shape: (_options, inShape) => inShape,

  forward(layer, x, y, n, training) {
    const { p = 0.5 } = layer.options;
    const size = n * layer.inSize;
    layer.mask = training && p > 0 ? new Float32Array(size) : null;
    for (let i = 0; i < size; i++) {
      if (layer.mask) layer.mask[i] = layer.random() < p ? 0 : 1 / (1 - p);
      y[i] = layer.mask ? x[i] * layer.mask[i] : x[i];
    }
  },

  backward(layer, _x, _y, dy, dx, n) {
    for (let i = 0; i < n * layer.inSize; i++) dx[i] = layer.mask ? dy[i] * layer.mask[i] : dy[i];
  },
};
