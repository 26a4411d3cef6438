/** Random numbers from a seed, and the start weights that are drawn with them. */

/** A generator of numbers from 0 to 1. Source: Tommy Ettinger's mulberry32, in the public domain. */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** The numbers 0 to n - 1 in random order. */
export function shuffled(n, random) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** fan_in and fan_out of the units of a layer; with a table of connections, of its average unit. */
function fans(layer) {
  const { name, options, inShape, outShape } = layer;
  if (name === "Subsample") {
    const size = options.kernel_size[0] * options.kernel_size[1];
    return [size, size];
  }
  if (!layer.window) return [layer.inSize, layer.outSize];
  const taps = layer.window.kernel[0] * layer.window.kernel[1];
  if (options.connections) {
    const count = options.connections.flat().filter(Boolean).length;
    return [(taps * count) / outShape[0], (taps * count) / inShape[0]];
  }
  return [layer.taps, taps * outShape[0]];
}

/** Draws new weights for a layer by the scheme of that name, or uniformly from -a to a for { uniform: a }. */
export function initialize(layer, scheme, random) {
  const { weight, bias } = layer;
  layer.running_mean?.fill(0);
  layer.running_var?.fill(1);
  layer.num_batches_tracked?.fill(0);
  if (!weight) return;
  const fill = (array, limit) => array?.forEach((_, i) => (array[i] = limit * (2 * random() - 1)));
  if (layer.kind.normalizes) {
    weight.fill(1);
    bias.fill(0);
    return;
  }
  const [fanIn, fanOut] = fans(layer);
  if (typeof scheme === "object") {
    for (const array of [weight, bias]) fill(array, scheme.uniform);
  } else if (layer.name === "Subsample" && scheme !== "lecun-1998") {
    weight.fill(1 / fanIn);
    bias.fill(0);
  } else if (scheme === "lecun" || scheme === "kaiming") {
    const spread = Math.sqrt((scheme === "kaiming" ? 2 : 1) / fanIn);
    weight.forEach((_, i) => (weight[i] = spread * normal(random)));
    bias?.fill(0);
  } else {
    const limits = {
      uniform: Math.sqrt(1 / fanIn),
      xavier: Math.sqrt(6 / (fanIn + fanOut)),
      "lecun-1998": 2.4 / fanIn,
    };
    fill(weight, limits[scheme]);
    if (scheme === "xavier") bias?.fill(0);
    else fill(bias, limits[scheme]);
  }
}
