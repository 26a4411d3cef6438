/** Batch normalisation: y = weight[c] (x - mean[c]) / sqrt(var[c] + eps) + bias[c]. */

/** visit(channel, index) for all elements of n samples. */
function eachElement(layer, n, visit) {
  const places = layer.inSize / layer.inShape[0];
  for (let s = 0; s < n; s++) {
    for (let c = 0; c < layer.inShape[0]; c++) {
      const first = s * layer.inSize + c * places;
      for (let i = first; i < first + places; i++) visit(c, i);
    }
  }
}

export const BatchNorm2d = {
  normalizes: true,
  shape: (_options, inShape) => inShape,

  forward(layer, x, y, n, training) {
    const channels = layer.inShape[0];
    const tracks = layer.options.track_running_stats ?? true;
    layer.count = (n * layer.inSize) / channels;
    layer.own = training || !tracks;
    layer.mean = Float64Array.from(layer.running_mean ?? new Float64Array(channels));
    layer.variance = Float64Array.from(layer.running_var ?? new Float64Array(channels));
    if (layer.own) {
      const { mean, variance, count } = layer;
      mean.fill(0);
      variance.fill(0);
      eachElement(layer, n, (c, i) => {
        mean[c] += x[i] / count;
      });
      eachElement(layer, n, (c, i) => {
        variance[c] += (x[i] - mean[c]) ** 2 / count;
      });
      if (training && tracks) follow(layer);
    }
    const factor = layer.variance.map(
      (v, c) => (layer.weight ? layer.weight[c] : 1) / Math.sqrt(v + layer.options.eps),
    );
    layer.factor = factor;
    eachElement(layer, n, (c, i) => {
      y[i] = (x[i] - layer.mean[c]) * factor[c] + (layer.bias ? layer.bias[c] : 0);
    });
  },

  backward(layer, x, _y, dy, dx, n) {
    const channels = layer.inShape[0];
    const { mean, variance, factor, count, options } = layer;
    const inverse = variance.map((v) => 1 / Math.sqrt(v + options.eps));
    const dbias = new Float64Array(channels);
    const dweight = new Float64Array(channels);
    eachElement(layer, n, (c, i) => {
      dbias[c] += dy[i];
      dweight[c] += dy[i] * (x[i] - mean[c]) * inverse[c];
    });
    layer.dbias?.set(dbias);
    layer.dweight?.set(dweight);
    eachElement(layer, n, (c, i) => {
      const moved = layer.own ? (dbias[c] + (x[i] - mean[c]) * inverse[c] * dweight[c]) / count : 0;
      dx[i] = factor[c] * (dy[i] - moved);
    });
  },

  sources: (_layer, at, visit) => visit(at, -1, 0),
  users: (_layer, at, visit) => visit(at, -1),
  factorAt: (layer, at) => layer.factor[channelOf(layer, at)],
  channelOf: (layer, at) => channelOf(layer, at),
};

export const BatchNorm1d = BatchNorm2d;

const channelOf = (layer, at) => Math.floor(at / (layer.inSize / layer.inShape[0]));

/** The running statistics move towards those of the batch. */
function follow(layer) {
  const { running_mean: mean, running_var: variance, num_batches_tracked: batches, count } = layer;
  batches[0] += 1;
  const share = layer.options.momentum ?? 1 / batches[0];
  for (let c = 0; c < mean.length; c++) {
    mean[c] += share * (layer.mean[c] - mean[c]);
    variance[c] += share * ((layer.variance[c] * count) / (count - 1) - variance[c]);
  }
}
