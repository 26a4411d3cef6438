/** What the page shows at the moment, and who wants to know when that changes. */

import { Normalisation } from "./engine/data.js";
import { lossOf, probabilities } from "./engine/losses.js";
import { best, Network } from "./engine/network.js";
import { before, explainBackward, explainForward, INPUT } from "./explain.js";
import { Training } from "./training.js";

export class App {
  /** facts: what Python has put into the page; values: the weights; images: { test, train } of { pixels, labels }. */
  constructor(facts, values, images) {
    this.facts = facts;
    this.trained = values;
    this.images = images;
    this.network = new Network(facts.layers, facts.network_shape, facts.manifest, values);
    this.normalisation = new Normalisation(facts);
    this.loss = facts.loss;
    this.mode = "forward";
    this.common = false; // whether all maps of a layer share one scale
    this.focus = null; // { node, at }
    this.pinned = false;
    this.trail = [];
    this.lr = facts.training.lr;
    this.momentum = facts.training.momentum;
    this.changed = false; // whether the weights are still those of the run
    this.untrained = false;
    this.listeners = [];
    this.training = new Training(
      this.network,
      this.loss,
      this.normalisation,
      images.train,
      facts.training.batch,
      () => ({
        lr: this.lr,
        momentum: this.momentum,
        decay: 0,
      }),
    );
    this.show(new Uint8Array(this.normalisation.pixels), null);
  }

  /** listener(what): "values" after a forward pass, "weights" when these have changed, too, "focus", "mode". */
  listen(listener) {
    this.listeners.push(listener);
  }

  tell(what) {
    for (const listener of this.listeners) listener(what);
  }

  get classes() {
    return this.facts.classes;
  }

  /** Shows the network an image, uint8 (C, H, W); label is its class, if that is known. */
  show(pixels, label, source = null) {
    this.pixels = pixels;
    this.source = source;
    this.label = label;
    this.target = label;
    this.x = this.normalisation.one(pixels);
    this.compute();
    this.tell("values");
  }

  /** Forward, and backward from the chosen class, or from the most probable one as long as none is chosen. */
  compute() {
    const { network } = this;
    const scores = network.forward(this.x);
    this.answer = best(scores, 0, network.classes);
    this.scores = scores;
    this.dscores = new Float32Array(scores.length);
    this.lossValue = lossOf(this.loss, scores, [this.targetClass], 1, network.classes, this.dscores);
    network.backward(this.dscores);
    this.probabilities = probabilities(this.loss, scores, network.endsInSoftmax);
  }

  get targetClass() {
    return this.target ?? this.answer;
  }

  setTarget(target) {
    this.target = target;
    this.compute();
    this.tell("values");
  }

  setMode(mode) {
    this.mode = mode;
    this.tell("mode");
  }

  setCommon(common) {
    this.common = common;
    this.tell("mode");
  }

  /** Looks at a number of a node; pinned, it stays until another one is pinned. */
  look(focus, pin = false) {
    if (pin) {
      const same = this.pinned && this.focus?.node === focus?.node && this.focus?.at === focus?.at;
      if (this.pinned && !same && focus) this.trail.push(this.focus);
      if (!focus || same) this.trail = [];
      this.pinned = focus !== null && !same;
    } else if (this.pinned) return;
    this.focus = focus;
    this.tell("focus");
  }

  /** One step back on the way. */
  goBack() {
    const last = this.trail.pop();
    this.focus = last ?? null;
    this.pinned = last !== undefined;
    this.tell("focus");
  }

  /** Pins the number that counts most for the one in focus: in the layer before, or, backward, in the one behind. */
  walk() {
    if (!this.focus) return;
    const { node, at } = this.focus;
    this.pinned = true;
    if (this.mode === "backward") {
      const { next, parts } = explainBackward(this.network, node, at);
      const terms = parts.flatMap((part) => part.terms);
      if (terms.length) this.look({ node: next, at: strongest(terms).to }, true);
    } else if (node !== INPUT) {
      const terms = explainForward(this.network, node, at).parts.flatMap((part) => part.terms);
      const inside = terms.filter((term) => term.from >= 0);
      const winner = inside.find((term) => term.wins);
      if (inside.length) this.look({ node: before(this.network, node), at: (winner ?? strongest(inside)).from }, true);
    }
  }

  /** After the weights have moved. */
  moved() {
    this.changed = true;
    this.compute();
    this.tell("weights");
  }

  /** Other weights: those of the run again, new ones, those of an epoch, or those of a shared page. */
  load(values, { changed = true, untrained = false } = {}) {
    this.training.running = false;
    this.training.forget();
    this.network.load(values);
    this.changed = changed;
    this.untrained = untrained;
    this.compute();
    this.tell("weights");
  }

  reset() {
    this.load(this.trained, { changed: false });
  }

  startAnew(seed) {
    this.network.initialize(this.facts.training.init, seed);
    this.load(this.network.values.slice(), { untrained: true });
  }
}

const strongest = (terms) => terms.reduce((a, b) => (Math.abs(b.product) > Math.abs(a.product) ? b : a));
