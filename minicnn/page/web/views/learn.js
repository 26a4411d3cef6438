/** Learning in the page: a step on this image, many on the embedded ones, from the run's weights or from new ones. */

import { button, h, number } from "../dom.js";
import { text } from "../texts.js";
import { curves, thinned } from "./curves.js";

const MANY = 100;

export function learnView(app) {
  const { training } = app;
  const curve = h("div");
  const status = h("p", { class: "number", "aria-live": "polite" });
  const figures = h("p", { class: "number" });
  const moved = h("p", { class: "soft small" });
  const message = h("p", { class: "message", role: "alert" });
  let figuresOf = null;

  /** From 1e-4 to 1 in even ratios. */
  const rate = slider("learningRate", 0, 100, Math.round(25 * (Math.log10(app.lr) + 4)), (place) => {
    app.lr = 10 ** (place / 25 - 4);
    return number(app.lr, 2);
  });
  const momentum = slider("momentum", 0, 99, Math.round(100 * app.momentum), (place) => {
    app.momentum = place / 100;
    return (place / 100).toFixed(2);
  });
  const one = button(text("stepImage"), () => guarded(stepOnImage));
  const many = button(text("stepsMany", { count: MANY }), () => guarded(() => go(MANY)));
  const train = button(text("train"), () => (training.running ? stop() : guarded(() => go(Infinity))), {
    class: "main",
  });
  const startAnew = () => app.startAnew(1 + Math.floor(1e6 * Math.random()));
  const anew = button(text("startNew"), startAnew, { title: text("startNewHint") });
  const reset = button(text("reset"), () => app.reset());

  function slider(name, low, high, value, change) {
    const output = h("output");
    const input = h("input", { type: "range", min: low, max: high, value, "aria-label": text(name) });
    const set = () => {
      output.textContent = change(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", set);
    set();
    return h("label", { class: "slider" }, h("span", {}, text(name)), input, output);
  }

  async function guarded(work) {
    message.textContent = "";
    try {
      await work();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      app.reset();
      message.textContent = text("diverged");
    }
  }

  function stepOnImage() {
    const old = app.network.values.slice();
    training.step(app.x, [app.targetClass], false);
    tellMove(old);
    app.moved();
    measure();
  }

  function tellMove(old) {
    let [change, length] = [0, 0];
    old.forEach((w, i) => {
      change += (app.network.values[i] - w) ** 2;
      length += w * w;
    });
    moved.textContent = text("moveOf", { share: `${(100 * Math.sqrt(change / length)).toPrecision(2)} %` });
  }

  async function go(count) {
    if (training.running) return;
    figuresOf = null;
    moved.textContent = "";
    await training.run(count, () => app.moved());
    app.tell("values");
    await measure();
  }

  function stop() {
    training.running = false;
  }

  /** How many of the embedded images are right. */
  async function measure() {
    figures.textContent = text("measuring");
    const found = await training.evaluate(() => {});
    app.compute(); // the maps are those of the image on show again
    if (found === null) return;
    figuresOf = found;
    app.tell("measured");
    draw();
  }

  function draw() {
    const { running, curve: points, steps } = training;
    train.textContent = text(running ? "pause" : "train");
    for (const other of [one, many, anew, reset]) other.disabled = running;
    reset.disabled ||= !app.changed;
    status.textContent = text("stepsDone", { steps });
    const shown = thinned(
      points.map(({ step, loss }) => [step, loss]),
      200,
    );
    curve.replaceChildren(curves([{ points: shown, colour: "#1c5fa8" }], text("lossCurve")));
    if (running) figures.textContent = "";
    else if (figuresOf) {
      figures.textContent = text("onEmbedded", {
        share: `${(100 * figuresOf.accuracy).toFixed(1)} %`,
        count: training.count,
        loss: number(figuresOf.loss),
      });
    }
  }

  const element = h(
    "div",
    { class: "learn" },
    h(
      "div",
      { class: "controls" },
      rate,
      momentum,
      h("div", { class: "row" }, one, many, train),
      h("p", { class: "soft small" }, text("stepsHint", { images: training.count, batch: training.batchSize })),
      h("div", { class: "row" }, anew, reset),
      message,
    ),
    h(
      "div",
      { class: "result" },
      h("p", { class: "label" }, text("lossCurve")),
      curve,
      h("div", { class: "row" }, status, figures),
      moved,
    ),
  );
  app.listen((what) => {
    if (what === "weights" && !training.running && training.steps === 0) {
      figuresOf = null;
      figures.textContent = "";
      moved.textContent = "";
    }
  });
  return { element, draw, measure, figures: () => figuresOf };
}
