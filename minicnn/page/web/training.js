/** Training in the page: steps on the embedded images, in slices that leave time to draw. */

import { lossOf } from "./engine/losses.js";
import { best } from "./engine/network.js";
import { generator, shuffled } from "./engine/random.js";

const SLICE = 24; // milliseconds of work between two pictures

const nextFrame = () =>
  new Promise((resolve) => {
    let done = false;
    const go = () => {
      if (!done) resolve();
      done = true;
    };
    requestAnimationFrame(go);
    setTimeout(go, 60); // a page in the background gets no frames
  });

export class Training {
  /** images: { pixels, labels }, uint8, one behind the other; options(): { lr, momentum, decay }. */
  constructor(network, loss, normalisation, images, batchSize, options) {
    Object.assign(this, { network, loss, normalisation, images, batchSize, options });
    this.count = images.labels.length;
    this.running = false;
    this.forget();
  }

  /** As before the first step. */
  forget() {
    this.steps = 0;
    this.curve = []; // a point a step: the loss of its images before it
    this.random = generator(7);
    this.order = [];
  }

  batch(numbers) {
    const { normalisation: norm, images } = this;
    const x = new Float32Array(numbers.length * norm.size);
    numbers.forEach((number, s) => norm.write(images.pixels, number * norm.pixels, x, s * norm.size));
    return { x, labels: numbers.map((number) => images.labels[number]) };
  }

  /** One step on these samples. */
  step(x, labels, training = true) {
    const { lr, momentum, decay } = this.options();
    const result = this.network.learn(this.loss, x, labels, labels.length, training, false);
    if (!Number.isFinite(result.loss)) throw new RangeError("loss");
    this.network.step(lr, momentum, decay);
    this.steps++;
    this.curve.push({ step: this.steps, loss: result.loss });
    return result;
  }

  /** One step on the next batch of the embedded images. */
  stepOnNext() {
    if (this.order.length < Math.min(this.batchSize, this.count)) this.order = [...shuffled(this.count, this.random)];
    const { x, labels } = this.batch(this.order.splice(0, this.batchSize));
    return this.step(x, labels);
  }

  /** Steps until `count` are done or `running` is false; `draw` is called between slices. */
  async run(count, draw) {
    this.running = true;
    try {
      for (let done = 0; done < count && this.running; ) {
        const begin = performance.now();
        while (done < count && this.running && performance.now() - begin < SLICE) {
          this.stepOnNext();
          done++;
        }
        draw();
        await nextFrame();
      }
    } finally {
      this.running = false;
    }
  }

  /** Accuracy, mean loss and confusion matrix on the embedded images, in slices; null if the weights move meanwhile. */
  async evaluate(draw) {
    const k = this.network.classes;
    const confusion = Array.from({ length: k }, () => new Array(k).fill(0));
    let [right, loss] = [0, 0];
    const token = {};
    this.evaluating = token;
    for (let first = 0; first < this.count; ) {
      const begin = performance.now();
      while (first < this.count && performance.now() - begin < SLICE) {
        const numbers = Array.from({ length: Math.min(10, this.count - first) }, (_, i) => first + i);
        const { x, labels } = this.batch(numbers);
        const scores = this.network.forward(x, labels.length);
        loss += labels.length * lossOf(this.loss, scores, labels, labels.length, k, new Float32Array(scores.length));
        labels.forEach((label, s) => {
          const found = best(scores, s * k, k);
          confusion[label][found]++;
          if (found === label) right++;
        });
        first += labels.length;
      }
      draw();
      await nextFrame();
      if (this.evaluating !== token || this.running) return null;
    }
    return { accuracy: right / this.count, loss: loss / this.count, confusion };
  }
}
