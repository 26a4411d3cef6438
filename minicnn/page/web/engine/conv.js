/** Convolution and its twin without shared weights. Each window becomes a row of numbers, the rest is products. */

import { addDots, addOuter } from "./products.js";
import { gather, scatter, windowCounts, windowOf, windowTable } from "./windows.js";

const area = (shape) => shape[1] * shape[2];

/** Which kernel joins an input map with an output map of a layer with a table of connections; -1 for none. */
function connectionNumbers(table) {
  let count = 0;
  return table.map((row) => row.map((connected) => (connected ? count++ : -1)));
}

/** Copies between the kernels that exist and those of all pairs of maps, whose others are 0. */
function eachKernel(layer, visit) {
  const [kh, kw] = layer.window.kernel;
  const inputs = layer.inShape[0];
  layer.numbers.forEach((row, o) => {
    row.forEach((number, c) => {
      if (number >= 0) visit((o * inputs + c) * kh * kw, number * kh * kw, kh * kw);
    });
  });
}

function fullWeight(layer) {
  if (!layer.numbers) return layer.weight;
  const { weight, full } = layer;
  eachKernel(layer, (to, from, taps) => full.set(weight.subarray(from, from + taps), to));
  return full;
}

/** y[o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] x[c, i s + u d - p, j s + v d - p]. */
export const Conv2d = {
  shape(options, inShape) {
    return [options.out_channels, ...windowCounts(inShape.slice(1), windowOf(options))];
  },

  setUp(layer) {
    const { options, inShape, outShape } = layer;
    layer.window = windowOf(options);
    layer.groups = options.groups ?? 1;
    layer.inputs = inShape[0] / layer.groups; // maps that an output map sees
    layer.outputs = outShape[0] / layer.groups;
    layer.taps = layer.inputs * layer.window.kernel[0] * layer.window.kernel[1];
    layer.places = area(outShape);
    layer.table = windowTable(layer.inputs, inShape.slice(1), outShape.slice(1), layer.window);
    layer.patches = new Float32Array(layer.table.length);
    if (options.connections) {
      layer.numbers = connectionNumbers(options.connections);
      layer.full = new Float32Array(outShape[0] * layer.taps);
      layer.dfull = new Float32Array(layer.full.length);
    }
  },

  forward(layer, x, y, n) {
    const { inSize, outSize, places, taps, groups, inputs, outputs, inShape, table, patches, bias } = layer;
    const weight = fullWeight(layer);
    for (let s = 0; s < n; s++) {
      for (let o = 0; o < layer.outShape[0]; o++) {
        y.fill(bias ? bias[o] : 0, s * outSize + o * places, s * outSize + (o + 1) * places);
      }
      for (let g = 0; g < groups; g++) {
        gather(x, s * inSize + g * inputs * area(inShape), table, patches);
        const first = g * outputs;
        addDots(weight, first * taps, patches, 0, y, s * outSize + first * places, outputs, places, taps, places, 1);
      }
    }
  },

  backward(layer, x, _y, dy, dx, n) {
    const { inSize, outSize, places, taps, groups, inputs, outputs, inShape, table, patches, dbias } = layer;
    const weight = layer.numbers ? layer.full : layer.weight;
    const dweight = layer.numbers ? layer.dfull : layer.dweight;
    const dpatches = new Float32Array(patches.length);
    dweight.fill(0);
    dx.fill(0, 0, n * inSize);
    if (dbias) dbias.fill(0);
    for (let s = 0; s < n; s++) {
      for (let o = 0; dbias && o < dbias.length; o++) {
        let sum = 0;
        for (let p = s * outSize + o * places; p < s * outSize + (o + 1) * places; p++) sum += dy[p];
        dbias[o] += sum;
      }
      for (let g = 0; g < groups; g++) {
        const x0 = s * inSize + g * inputs * area(inShape);
        const first = g * outputs;
        const dy0 = s * outSize + first * places;
        gather(x, x0, table, patches);
        addOuter(dy, dy0, places, 1, patches, 0, dweight, first * taps, outputs, places, taps);
        if (layer.needsNoDx) continue;
        dpatches.fill(0);
        addOuter(dy, dy0, 1, places, weight, first * taps, dpatches, 0, places, outputs, taps);
        scatter(dpatches, table, dx, x0);
      }
    }
    if (layer.numbers) {
      eachKernel(layer, (from, to, count) => layer.dweight.set(dweight.subarray(from, from + count), to));
    }
  },

  /** The inputs of output `at` with the numbers of their weights (in the full weight), tap by tap. */
  sources(layer, at, visit) {
    const { places, taps, outputs, inputs, inShape, table, numbers } = layer;
    const [o, p] = [Math.floor(at / places), at % places];
    const first = Math.floor(o / outputs) * inputs;
    const perMap = taps / inputs;
    for (let t = 0; t < taps; t++) {
      const map = first + Math.floor(t / perMap);
      if (numbers && numbers[o][map] < 0) continue;
      const from = table[p * taps + t];
      visit(from < 0 ? -1 : from + first * area(inShape), o * taps + t, map);
    }
  },

  /** The outputs that saw input `at`, with the numbers of the weights they used. */
  users(layer, at, visit) {
    const { places, taps, outputs, inputs, inShape, table, numbers } = layer;
    const map = Math.floor(at / area(inShape));
    const group = Math.floor(map / inputs);
    const inGroup = at - group * inputs * area(inShape);
    const perMap = taps / inputs;
    const begin = (map - group * inputs) * perMap;
    for (let o = group * outputs; o < (group + 1) * outputs; o++) {
      if (numbers && numbers[o][map] < 0) continue;
      for (let p = 0; p < places; p++) {
        for (let t = begin; t < begin + perMap; t++) {
          if (table[p * taps + t] === inGroup) visit(o * places + p, o * taps + t);
        }
      }
    }
  },

  weightAt: (layer, number) => (layer.numbers ? layer.full : layer.weight)[number],
  biasAt: (layer, at) => (layer.bias ? layer.bias[Math.floor(at / layer.places)] : null),

  /** The products dy x whose sum is the gradient of a weight, place by place of the output map. */
  weightGradient(layer, number) {
    const { places, taps, table, x, dy, outputs, inputs, inShape } = layer;
    const o = Math.floor(number / taps);
    const x0 = Math.floor(o / outputs) * inputs * area(inShape);
    const seen = new Float32Array(places);
    for (let p = 0; p < places; p++) {
      const from = table[p * taps + (number % taps)];
      seen[p] = from < 0 ? 0 : x[x0 + from];
    }
    return { shape: layer.outShape.slice(1), x: seen, dy: dy.subarray(o * places, (o + 1) * places) };
  },

  /** Kernels as pictures: for each output map one for each input map that it sees. */
  filters(layer) {
    const { taps, inputs, outputs, numbers } = layer;
    const [kh, kw] = layer.window.kernel;
    return Array.from({ length: layer.outShape[0] }, (_, o) => ({
      name: String(o),
      kernels: Array.from({ length: inputs }, (_, c) => ({
        map: Math.floor(o / outputs) * inputs + c,
        number: numbers && numbers[o][c] < 0 ? -1 : o * taps + c * kh * kw,
      })).filter((kernel) => kernel.number >= 0),
    }));
  },
  values: (layer) => fullWeight(layer),
  gradients: (layer) => (layer.numbers ? layer.dfull : layer.dweight),
};

/** Like Conv2d, but each place of the output has weights and biases of its own: weight (OH, OW, out, in, kh, kw). */
export const LocallyConnected2d = {
  shape: Conv2d.shape,

  setUp(layer) {
    Conv2d.setUp(layer);
    layer.dpatches = new Float32Array(layer.patches.length);
  },

  forward(layer, x, y, n) {
    const { inSize, outSize, places, taps, outputs, table, patches, weight, bias } = layer;
    for (let s = 0; s < n; s++) {
      if (bias) y.set(bias, s * outSize);
      else y.fill(0, s * outSize, (s + 1) * outSize);
      gather(x, s * inSize, table, patches);
      for (let p = 0; p < places; p++) {
        addDots(weight, p * outputs * taps, patches, p * taps, y, s * outSize + p, outputs, 1, taps, places, 0);
      }
    }
  },

  backward(layer, x, _y, dy, dx, n) {
    const { inSize, outSize, places, taps, outputs, table, patches, dpatches, weight, dweight, dbias } = layer;
    dweight.fill(0);
    if (dbias) dbias.fill(0);
    dx.fill(0, 0, n * inSize);
    for (let s = 0; s < n; s++) {
      for (let k = 0; dbias && k < outSize; k++) dbias[k] += dy[s * outSize + k];
      gather(x, s * inSize, table, patches);
      dpatches.fill(0);
      for (let p = 0; p < places; p++) {
        const own = p * outputs * taps;
        addOuter(dy, s * outSize + p, places, 0, patches, p * taps, dweight, own, outputs, 1, taps);
        addOuter(dy, s * outSize + p, 0, places, weight, own, dpatches, p * taps, 1, outputs, taps);
      }
      scatter(dpatches, table, dx, s * inSize);
    }
  },

  sources(layer, at, visit) {
    const { places, taps, outputs, table } = layer;
    const [o, p] = [Math.floor(at / places), at % places];
    const perMap = taps / layer.inputs;
    for (let t = 0; t < taps; t++) visit(table[p * taps + t], (p * outputs + o) * taps + t, Math.floor(t / perMap));
  },

  users(layer, at, visit) {
    const { places, taps, outputs, table } = layer;
    for (let p = 0; p < places; p++) {
      for (let t = 0; t < taps; t++) {
        if (table[p * taps + t] !== at) continue;
        for (let o = 0; o < outputs; o++) visit(o * places + p, (p * outputs + o) * taps + t);
      }
    }
  },

  weightAt: (layer, number) => layer.weight[number],
  biasAt: (layer, at) => (layer.bias ? layer.bias[at] : null),

  weightGradient(layer, number) {
    const { places, taps, outputs, table, x, dy } = layer;
    const [p, o] = [Math.floor(number / (outputs * taps)), Math.floor(number / taps) % outputs];
    const from = table[p * taps + (number % taps)];
    return { shape: [1, 1], x: [from < 0 ? 0 : x[from]], dy: [dy[o * places + p]] };
  },

  /** The kernels of the map with the largest weights, at four times four places at most. */
  filters(layer) {
    const { outShape, outputs, taps, inputs, weight } = layer;
    const [kh, kw] = layer.window.kernel;
    const strength = new Float64Array(outputs);
    for (let i = 0; i < weight.length; i++) strength[Math.floor(i / taps) % outputs] += weight[i] ** 2;
    const o = strength.indexOf(Math.max(...strength));
    const spread = (n) => [...new Set([0, 1, 2, 3].map((k) => Math.round((k * (n - 1)) / 3)))];
    return spread(outShape[1]).flatMap((i) =>
      spread(outShape[2]).map((j) => ({
        name: `${o} (${i}, ${j})`,
        kernels: Array.from({ length: inputs }, (_, c) => ({
          map: c,
          number: ((i * outShape[2] + j) * outputs + o) * taps + c * kh * kw,
        })),
      })),
    );
  },
  values: (layer) => layer.weight,
  gradients: (layer) => layer.dweight,
};
