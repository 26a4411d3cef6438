/** A network: layers one after the other over one flat array of weights, forward, backward, and a step. */

import { LAYERS } from "./layers.js";
import { lossOf } from "./losses.js";
import { generator, initialize } from "./random.js";
import { backwardRow, everyLayer, forwardRow } from "./rows.js";

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
      const inner = (key) => (options[key] ? this.build(options[key], shape, `${place}.${key}.`) : []);
      const layer = { name, kind, options, place, inShape: shape, random: this.random, ...state };
      if (kind.rows) layer.rows = kind.rows.map(inner);
      layer.outShape = kind.shape(options, shape, layer);
      layer.inSize = product(shape);
      layer.outSize = product(layer.outShape);
      kind.setUp?.(layer);
      shape = layer.outShape;
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
    return forwardRow(this.layers, x, n, training);
  }

  /** The gradients for the last forward pass from dy, that of the scores. With `all`, also dx of the first layer. */
  backward(dy, n = 1, all = true) {
    const learns = (layer) => [...everyLayer([layer])].some((one) => one.dweight);
    return backwardRow(this.layers, dy, n, all ? 0 : Math.max(0, this.layers.findIndex(learns)), all);
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
    for (const layer of everyLayer(this.layers)) initialize(layer, scheme, random);
    this.velocity = null;
  }
}

/** The place of the highest of k scores. */
export function best(scores, first, k) {
  let place = 0;
  for (let c = 1; c < k; c++) if (scores[first + c] > scores[first + place]) place = c;
  return place;
}
