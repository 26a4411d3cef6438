/** Dense layers, the radial basis units of 1998, and Flatten, which leads to them. */

import { addDots, addOuter } from "./products.js";

/** y[o] = bias[o] + sum over k of weight[o, k] x[k]. */
export const Dense = {
  shape: (options) => [options.out_features],

  forward(layer, x, y, n) {
    const { inSize, outSize, weight, bias } = layer;
    for (let s = 0; s < n; s++) {
      if (bias) y.set(bias, s * outSize);
      else y.fill(0, s * outSize, (s + 1) * outSize);
    }
    addDots(weight, 0, x, 0, y, 0, outSize, n, inSize, 1, outSize);
  },

  backward(layer, x, _y, dy, dx, n) {
    const { inSize, outSize, weight, dweight, dbias } = layer;
    dweight.fill(0);
    addOuter(dy, 0, 1, outSize, x, 0, dweight, 0, outSize, n, inSize);
    if (dbias) {
      dbias.fill(0);
      for (let s = 0; s < n; s++) for (let o = 0; o < outSize; o++) dbias[o] += dy[s * outSize + o];
    }
    if (layer.needsNoDx) return;
    dx.fill(0, 0, n * inSize);
    addOuter(dy, 0, outSize, 1, weight, 0, dx, 0, n, outSize, inSize);
  },

  sources(layer, at, visit) {
    for (let k = 0; k < layer.inSize; k++) visit(k, at * layer.inSize + k, 0);
  },

  users(layer, at, visit) {
    for (let o = 0; o < layer.outSize; o++) visit(o, o * layer.inSize + at);
  },

  weightAt: (layer, number) => layer.weight[number],
  biasAt: (layer, at) => (layer.bias ? layer.bias[at] : null),

  weightGradient(layer, number) {
    const { inSize, x, dy } = layer;
    return { shape: [1, 1], x: [x[number % inSize]], dy: [dy[Math.floor(number / inSize)]] };
  },
};

/** The numbers stay where they are; only the shape changes. */
export const Flatten = {
  passes: true,

  shape: (_options, inShape) => [inShape.reduce((product, n) => product * n, 1)],

  forward(layer, x, y, n) {
    y.set(x.subarray(0, n * layer.inSize));
  },

  backward(layer, _x, _y, dy, dx, n) {
    dx.set(dy.subarray(0, n * layer.inSize));
  },
};

/** y[k] = -sum over i of (x[i] - prototypes[k, i])^2. */
export const RadialBasis = {
  shape: (_options, inShape, state) => [state.prototypes.length / inShape[0]],

  forward(layer, x, y, n) {
    const { inSize, outSize, prototypes } = layer;
    for (let s = 0; s < n; s++) {
      for (let k = 0; k < outSize; k++) {
        let sum = 0;
        for (let i = 0; i < inSize; i++) sum += (x[s * inSize + i] - prototypes[k * inSize + i]) ** 2;
        y[s * outSize + k] = -sum;
      }
    }
  },

  backward(layer, x, _y, dy, dx, n) {
    const { inSize, outSize, prototypes } = layer;
    for (let s = 0; s < n; s++) {
      for (let i = 0; i < inSize; i++) {
        let sum = 0;
        for (let k = 0; k < outSize; k++) sum += dy[s * outSize + k] * (x[s * inSize + i] - prototypes[k * inSize + i]);
        dx[s * inSize + i] = -2 * sum;
      }
    }
  },

  sources: Dense.sources,
  users: Dense.users,
  /** What an input adds to the output, and what it hands back for each unit of gradient. */
  termAt: (layer, from, number) => -((layer.x[from] - layer.prototypes[number]) ** 2),
  slopeAt: (layer, from, number) => -2 * (layer.x[from] - layer.prototypes[number]),
  weightAt: (layer, number) => layer.prototypes[number],
};
