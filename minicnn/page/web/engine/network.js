/** A network: layers one after the other over one flat array of weights, forward, backward, and a step. */

import { LAYERS } from "./layers.js";
import { lossOf } from "./losses.js";
import { generator, initialize } from "./random.js";

const product = (shape) => shape.reduce((result, n) => result * n, 1);

/** Layers within Sequentials come one after the other, with the places "2.0", "2.1", ... */
function* flattened(description, before = "") {
  for (const [i, item] of description.entries()) {
    const [name, options] = Object.entries(item)[0];
    if (name === "Sequential") yield* flattened(options.layers, `${before}${i}.`);
    else yield { name, options, place: `${before}${i}` };
  }
}

export class Network {
  /**
   * description  [{ Conv2d: { ...options } }, ...]
   * inShape      of one sample, (C, H, W)
   * manifest     [{ name: "0.weight", shape, trained }, ...] of what lies in `values`, in that order
   * values       Float32Array of all parameters and buffers
   */
  constructor(description, inShape, manifest, values) {
    this.values = Float32Array.from(values);
    this.gradients = new Float32Array(values.length);
    this.trained = [];
    this.inShape = inShape;
    this.states = {};
    let at = 0;
    for (const { name, shape, trained } of manifest) {
      const end = at + product(shape);
      const [place, key] = [name.slice(0, name.lastIndexOf(".")), name.slice(name.lastIndexOf(".") + 1)];
      this.states[place] ??= {};
      this.states[place][key] = this.values.subarray(at, end);
      if (trained) {
        this.states[place][`d${key}`] = this.gradients.subarray(at, end);
        this.trained.push([at, end]);
      }
      at = end;
    }
    this.random = generator(1);
    this.layers = this.build(description, inShape);
    this.outShape = this.layers.at(-1).outShape;
    this.velocity = null;
  }

  /** The layers of a description, the first of which takes inShape; `before` begins the names of their weights. */
  build(description, inShape, before = "") {
    let shape = inShape;
    return [...flattened(description, before)].map(({ name, options, place }) => {
      const kind = LAYERS[name];
      if (!kind) throw new Error(`layer ${place}: unknown layer ${name}`);
      const state = this.states[place] ?? {};
      const outShape = kind.shape(options, shape, state);
      const layer = { name, kind, options, place, inShape: shape, outShape, random: this.random, ...state };
      layer.inSize = product(shape);
      layer.outSize = product(outShape);
      kind.setUp?.(layer, this);
      shape = outShape;
      return layer;
    });
  }

  get classes() {
    return product(this.outShape);
  }

  get endsInSoftmax() {
    return this.layers.findLast((layer) => !layer.kind.passes)?.name === "Softmax";
  }

  /** The scores of n samples, which lie one behind the other in x. Each layer keeps its x and y. */
  forward(x, n = 1, training = false) {
    let value = x;
    for (const layer of this.layers) {
      layer.x = value;
      if (!layer.y || layer.y.length !== n * layer.outSize) layer.y = new Float32Array(n * layer.outSize);
      layer.kind.forward(layer, layer.x, layer.y, n, training);
      value = layer.y;
    }
    return value;
  }

  /** The gradients for the last forward pass from dy, that of the scores. With `all`, also dx of the first layer. */
  backward(dy, n = 1, all = true) {
    let value = dy;
    const first = all
      ? 0
      : Math.max(
          0,
          this.layers.findIndex((layer) => layer.dweight),
        );
    for (let i = this.layers.length - 1; i >= first; i--) {
      const layer = this.layers[i];
      layer.dy = value;
      if (!layer.dx || layer.dx.length !== n * layer.inSize) layer.dx = new Float32Array(n * layer.inSize);
      layer.needsNoDx = i === first && !all;
      layer.kind.backward(layer, layer.x, layer.y, layer.dy, layer.dx, n);
      value = layer.dx;
    }
    return value;
  }

  /** Forward, loss and backward; returns the mean loss and how many of the n samples were right. */
  learn(loss, x, labels, n, training = false, all = true) {
    const scores = this.forward(x, n, training);
    const k = this.classes;
    const dy = new Float32Array(n * k);
    const value = lossOf(loss, scores, labels, n, k, dy);
    this.backward(dy, n, all);
    let right = 0;
    for (let s = 0; s < n; s++) if (best(scores, s * k, k) === labels[s]) right++;
    return { loss: value, right, dy };
  }

  /** w = w - lr v with v = momentum v + g + decay w, for all trained weights. */
  step(lr, momentum, decay = 0) {
    this.velocity ??= new Float32Array(this.values.length);
    const { values, gradients, velocity } = this;
    for (const [begin, end] of this.trained) {
      for (let i = begin; i < end; i++) {
        velocity[i] = momentum * velocity[i] + gradients[i] + decay * values[i];
        values[i] -= lr * velocity[i];
      }
    }
  }

  /** Takes other weights and forgets which way it was going. */
  load(values) {
    this.values.set(values);
    this.velocity = null;
  }

  initialize(scheme, seed) {
    const random = generator(seed);
    for (const layer of this.layers) initialize(layer, scheme, random);
    this.velocity = null;
  }
}

/** The place of the highest of k scores. */
export function best(scores, first, k) {
  let place = 0;
  for (let c = 1; c < k; c++) if (scores[first + c] > scores[first + place]) place = c;
  return place;
}
