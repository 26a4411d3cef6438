/** Pooling: the maximum, the mean, and the trained subsampling of 1998. All work map by map. */

import { windowCounts, windowOf, windowTable } from "./windows.js";

/** The number of windows along each side; with ceil_mode a last one may hang over the edge if it begins inside. */
function poolShape(options, [channels, ...size]) {
  const { kernel, stride, padding } = windowOf(options);
  if (!options.ceil_mode) return [channels, ...windowCounts(size, windowOf(options))];
  const counts = size.map((n, a) => {
    const count = Math.ceil((n + 2 * padding[a] - kernel[a]) / stride[a]) + 1;
    return (count - 1) * stride[a] >= n + padding[a] ? count - 1 : count;
  });
  return [channels, ...counts];
}

function setUpWindows(layer, options = layer.options, counts = layer.outShape.slice(1)) {
  const { inShape } = layer;
  layer.window = windowOf(options);
  layer.table = windowTable(1, inShape.slice(1), counts, layer.window);
  layer.places = counts[0] * counts[1];
  layer.area = inShape[1] * inShape[2];
  layer.taps = layer.window.kernel[0] * layer.window.kernel[1];
}

/** visit(map, place, y, x0) for all outputs of n samples: the number of the output, and where its input map begins. */
function eachOutput(layer, n, visit) {
  const { places, area, inSize, outSize, inShape } = layer;
  for (let s = 0; s < n; s++) {
    for (let c = 0; c < inShape[0]; c++) {
      for (let p = 0; p < places; p++) visit(c, p, s * outSize + c * places + p, s * inSize + c * area);
    }
  }
}

function poolSources(layer, at, visit) {
  const { places, area, taps, table } = layer;
  const [c, p] = [Math.floor(at / places), at % places];
  for (let t = 0; t < taps; t++) {
    const from = table[p * taps + t];
    visit(from < 0 ? -1 : from + c * area, -1, c);
  }
}

function poolUsers(layer, at, visit) {
  const { places, area, taps, table } = layer;
  const [c, place] = [Math.floor(at / area), at % area];
  for (let p = 0; p < places; p++) {
    for (let t = 0; t < taps; t++) if (table[p * taps + t] === place) visit(c * places + p, -1);
  }
}

/** The sum of the window of place p in the map that begins at x0. */
function windowSum({ table, taps }, x, x0, p) {
  let sum = 0;
  for (let t = p * taps; t < (p + 1) * taps; t++) if (table[t] >= 0) sum += x[x0 + table[t]];
  return sum;
}

/** The way back: all places of the window receive `part`. */
function spread({ table, taps }, part, dx, x0, p) {
  for (let t = p * taps; t < (p + 1) * taps; t++) if (table[t] >= 0) dx[x0 + table[t]] += part;
}

const shared = { shape: poolShape, sources: poolSources, users: poolUsers };

/** y = the maximum of its window; the whole gradient goes to the first place that has it. */
export const MaxPool = {
  ...shared,

  setUp: (layer) => setUpWindows(layer),

  forward(layer, x, y, n) {
    const { table, taps } = layer;
    if (!layer.winner || layer.winner.length < n * layer.outSize) layer.winner = new Int32Array(n * layer.outSize);
    const { winner } = layer;
    eachOutput(layer, n, (_c, p, at, x0) => {
      let best = -1;
      let most = Number.NEGATIVE_INFINITY;
      for (let t = p * taps; t < (p + 1) * taps; t++) {
        const from = table[t];
        if (from >= 0 && (best < 0 || x[x0 + from] > most)) {
          best = x0 + from;
          most = x[best];
        }
      }
      winner[at] = best;
      y[at] = most;
    });
  },

  backward(layer, _x, _y, dy, dx, n) {
    dx.fill(0, 0, n * layer.inSize);
    for (let at = 0; at < n * layer.outSize; at++) if (layer.winner[at] >= 0) dx[layer.winner[at]] += dy[at];
  },
};

/** y = the mean of its window; each place of it receives an equal part of the gradient. */
export const MeanPool = {
  ...shared,

  setUp(layer) {
    setUpWindows(layer);
    const { table, taps, places, options, inShape, outShape, window } = layer;
    // Windows of ceil_mode that hang over the padding count what lies inside of it only.
    const reach = (a, i, size) => {
      const begin = i * window.stride[a] - window.padding[a];
      return Math.min(begin + window.kernel[a], size + window.padding[a]) - begin;
    };
    layer.counts = Float64Array.from({ length: places }, (_, p) => {
      if (options.count_include_pad === false) {
        return table.subarray(p * taps, (p + 1) * taps).reduce((sum, from) => sum + (from >= 0 ? 1 : 0), 0);
      }
      return reach(0, Math.floor(p / outShape[2]), inShape[1]) * reach(1, p % outShape[2], inShape[2]);
    });
  },

  forward(layer, x, y, n) {
    eachOutput(layer, n, (_c, p, at, x0) => {
      y[at] = windowSum(layer, x, x0, p) / layer.counts[p];
    });
  },

  backward(layer, _x, _y, dy, dx, n) {
    dx.fill(0, 0, n * layer.inSize);
    eachOutput(layer, n, (_c, p, at, x0) => spread(layer, dy[at] / layer.counts[p], dx, x0, p));
  },

  factorAt: (layer, at) => 1 / layer.counts[at % layer.places],
};

/** y = the mean of its map. */
export const GlobalMeanPool = {
  ...MeanPool,

  shape: (_options, [channels]) => [channels],

  setUp(layer) {
    setUpWindows(layer, { kernel_size: layer.inShape.slice(1) }, [1, 1]);
    layer.counts = Float64Array.of(layer.taps);
  },
};

/** y = weight[c] S + bias[c], where S is the sum of its window. */
export const Subsample = {
  ...shared,

  setUp: (layer) => setUpWindows(layer),

  forward(layer, x, y, n) {
    const { weight, bias } = layer;
    if (!layer.sums || layer.sums.length < n * layer.outSize) layer.sums = new Float32Array(n * layer.outSize);
    eachOutput(layer, n, (c, p, at, x0) => {
      const sum = windowSum(layer, x, x0, p);
      layer.sums[at] = sum;
      y[at] = weight[c] * sum + bias[c];
    });
  },

  backward(layer, _x, _y, dy, dx, n) {
    const { weight, sums, inShape } = layer;
    const dweight = new Float64Array(inShape[0]);
    const dbias = new Float64Array(inShape[0]);
    dx.fill(0, 0, n * layer.inSize);
    eachOutput(layer, n, (c, p, at, x0) => {
      dweight[c] += dy[at] * sums[at];
      dbias[c] += dy[at];
      spread(layer, weight[c] * dy[at], dx, x0, p);
    });
    layer.dweight.set(dweight);
    layer.dbias.set(dbias);
  },

  factorAt: (layer, at) => layer.weight[Math.floor(at / layer.places)],
  biasAt: (layer, at) => layer.bias[Math.floor(at / layer.places)],
};
