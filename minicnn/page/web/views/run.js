/** A run that is training: its curves, and its weights as they come. */

import { counted, h } from "../dom.js";
import { floats } from "../engine/data.js";
import { text } from "../texts.js";
import { curves, thinned } from "./curves.js";

const TRAIN = "#d95f02";
const TEST = "#1c5fa8";

export function runView(app) {
  const { facts } = app;
  const rows = new Map(); // of metrics.csv, by epoch
  const steps = new Map(); // of steps.csv, by step
  const status = h("p", { "aria-live": "polite" }, text("runWaiting"));
  const pictures = h("div", { class: "curves" });
  const follow = h("input", { type: "checkbox", checked: true });
  const element = h(
    "div",
    {},
    h(
      "div",
      { class: "row" },
      status,
      h("label", { class: "small", title: text("followHint") }, follow, ` ${text("follow")}`),
    ),
    pictures,
  );
  let latest = null;
  let step = null;

  const source = new EventSource("events");
  const receive = (name, use) =>
    source.addEventListener(name, (event) => {
      use(JSON.parse(event.data));
      draw();
    });
  receive("metrics", (news) => news.forEach((row) => rows.set(row.epoch, row)));
  receive("steps", (news) => news.forEach((row) => steps.set(row.step, row)));
  receive("weights", (news) => {
    step = news.step;
    latest = floats(news.weights);
    take();
  });
  source.addEventListener("end", () => {
    source.close();
    draw();
    status.textContent += ` · ${text("runOver")}`;
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) status.textContent = text("runLost");
  });
  follow.addEventListener("change", take);

  function take() {
    if (!follow.checked || !latest || app.training.running) return;
    app.trained = latest;
    app.load(latest, { changed: false });
  }

  function picture(lines, title, range) {
    const legend = h(
      "p",
      { class: "legend" },
      lines.map((line) => h("span", {}, h("i", { style: { background: line.colour } }), line.name)),
    );
    return h("div", {}, legend, curves(lines, title, range));
  }

  function draw() {
    const held = facts.held_out;
    const all = [...rows.values()].sort((a, b) => a.epoch - b.epoch);
    const line = (name, key, colour, words) => ({
      name: text(name, words),
      colour,
      points: all.map((row) => [row.step, row[key]]),
    });
    const ofSteps = [...steps.values()].sort((a, b) => a.step - b.step);
    const training = ofSteps.length
      ? {
          name: text("curveTrainLoss"),
          colour: TRAIN,
          points: thinned(
            ofSteps.map((row) => [row.step, row.loss]),
            300,
          ),
        }
      : line("curveTrainLoss", "train_loss", TRAIN);
    if (all.length) {
      const last = all.at(-1);
      const share = last[`${held}_accuracy`];
      status.textContent = text("runEpoch", { epoch: last.epoch, epochs: facts.live.epochs });
      if (share !== undefined) status.textContent += ` · ${held} ${counted(share)}`;
    }
    if (step !== null) status.textContent += ` · ${text("weightsAt", { step })}`;
    const losses = [...training.points, ...all.map((row) => [row.step, row[`${held}_loss`] ?? 0])];
    const begin = losses.length > 20 ? 0.05 * Math.max(...losses.map(([at]) => at)) : 0; // what is high at first only
    const high = 1.1 * Math.max(1e-6, ...losses.filter(([at]) => at >= begin).map(([, loss]) => loss));
    const lowest = Math.min(1, ...all.flatMap((row) => [row.train_accuracy, row[`${held}_accuracy`] ?? 1]));
    pictures.replaceChildren(
      picture([training, line("curveTestLoss", `${held}_loss`, TEST, { held })], text("lossCurve"), { high }),
      picture(
        [
          line("curveTrainAccuracy", "train_accuracy", TRAIN),
          line("curveTestAccuracy", `${held}_accuracy`, TEST, { held }),
        ],
        text("curveTestAccuracy", { held }),
        { low: Math.floor(10 * lowest) / 10, high: 1 },
      ),
    );
  }

  return { element, draw };
}
