/** What was read as what, and how that came about if the run kept the weights of its epochs. */

import { button, counted, h } from "../dom.js";
import { colour, isDark } from "../draw.js";
import { halves } from "../engine/data.js";
import { text } from "../texts.js";

const MOST = 50; // classes: a larger matrix does not fit

/** count(): has the embedded images counted, which ends in setFigures. */
export function confusionView(app, count) {
  const { facts, classes } = app;
  const head = h("p", {});
  const counting = button(text("count"), count);
  const box = h("div", { class: "matrix-box" });
  const side = h(
    "div",
    { class: "side" },
    h("p", { class: "soft small" }, text("confusionTitle")),
    head,
    h("div", {}, counting),
  );
  const element = h("div", { class: "confusion" }, box, side);
  let shown = "run"; // or an epoch's number in the list
  let here = null; // figures of the embedded images, with the weights as they are

  let toLast = () => {};

  if (facts.epochs.length) {
    const output = h("output");
    const slider = h("input", {
      type: "range",
      min: 0,
      max: facts.epochs.length - 1,
      value: facts.epochs.length - 1,
      "aria-label": text("epochSlider"),
    });
    slider.addEventListener("input", () => {
      shown = Number(slider.value);
      output.textContent = String(facts.epochs[shown].epoch);
      slider.setAttribute("aria-valuetext", text("epoch", { epoch: facts.epochs[shown].epoch }));
      app.load(halves(facts.epochs[shown].weights));
    });
    toLast = () => {
      slider.value = facts.epochs.length - 1;
      output.textContent = String(facts.epochs.at(-1).epoch);
    };
    toLast();
    side.append(h("label", { class: "slider" }, h("span", {}, text("epochSlider")), slider, output));
  } else side.append(h("p", { class: "soft small" }, text("noEpochs")));

  function draw() {
    counting.disabled = app.training.running;
    const { confusion: matrix, accuracy } = here ?? (shown === "run" ? facts : facts.epochs[shown]);
    const images = (here ? app.training.count : facts.test_count).toLocaleString("en");
    const name = here ? "confusionHere" : "confusionOf";
    head.textContent = text(matrix ? name : "notCounted", {
      count: images,
      held: facts.held_out,
      share: counted(accuracy),
    });
    box.hidden = !matrix || classes.length > MOST;
    if (box.hidden) return;
    const most = Math.max(1, ...matrix.flatMap((row, k) => row.filter((_, j) => j !== k)));
    const all = Math.max(1, ...matrix.map((row, k) => row[k]));
    const cell = (truth, answer, count) => {
      const value = truth === answer ? (0.55 * count) / all : -count / most;
      const title = text("confusionCell", { truth: classes[truth], answer: classes[answer], count });
      return h(
        "td",
        { title, style: { background: colour(value, 1), color: isDark(value, 1) ? "#fff" : count ? "" : "#b9bcc0" } },
        count ? String(count) : "·",
      );
    };
    const named = (title, scope) => h("th", { scope }, title);
    const titles = [h("th"), ...classes.map((title) => named(title, "col"))];
    const rows = matrix.map((row, truth) => [
      named(classes[truth], "row"),
      ...row.map((count, answer) => cell(truth, answer, count)),
    ]);
    const line = (cells) => h("tr", {}, cells);
    box.replaceChildren(h("table", { class: "matrix" }, h("thead", {}, line(titles)), h("tbody", {}, rows.map(line))));
  }

  return {
    element,
    draw,
    /** Figures of the embedded images, or null for those of the run. */
    setFigures(figures) {
      here = figures;
      if (figures || app.changed) return;
      shown = "run";
      toLast();
    },
  };
}
