/** The scores as bars with probabilities, and the true class, from which the gradient comes. */

import { button, h, number, percent, rem } from "../dom.js";
import { colour, largest } from "../draw.js";
import { nodesOf } from "../explain.js";
import { text } from "../texts.js";

export function scoresView(app) {
  const { network } = app;
  const node = nodesOf(network).at(-1);
  const bars = app.classes.map((name, k) => {
    const [fill, figure] = [h("i"), h("output")];
    const track = h("span", { class: "track" }, fill);
    const content = [h("span", { class: "name" }, name), track, figure];
    const element = button(content, () => app.setTarget(app.target === k ? null : k), {
      class: "bar",
      title: text("trueHint"),
      onpointerenter: (event) => event.pointerType !== "touch" && app.look({ node, at: k }),
      onfocus: () => app.look({ node, at: k }),
    });
    return { element, track, fill, figure };
  });
  const head = h("div", { class: "head" }, h("b", {}, text("scores")), h("span"));
  const verdict = h("p", { class: "verdict", "aria-live": "polite" });
  const list = h(
    "div",
    { class: "bars", role: "group", "aria-label": text("trueHint") },
    bars.map((bar) => bar.element),
  );
  const longest = Math.min(9, Math.max(...app.classes.map((name) => name.length))); // letters that there is room for
  const element = h("div", { class: "column scores" }, head, list, verdict);
  element.style.setProperty("--name", `${longest + 0.5}ch`);
  element.style.width = rem(166 + 8 * longest);

  function draw() {
    const backward = app.mode === "backward";
    const { dscores, probabilities, answer, targetClass } = app;
    const most = largest(dscores) || 1;
    head.lastChild.textContent = backward
      ? text("gradientHead")
      : `${network.layers[node].name} → ${text("probability")}`;
    bars.forEach(({ element: bar, track, fill, figure }, k) => {
      const value = backward ? dscores[k] : probabilities[k];
      track.classList.toggle("middle", backward);
      bar.classList.toggle("best", k === answer);
      bar.classList.toggle("true", k === app.target);
      bar.setAttribute("aria-pressed", k === app.target);
      const share = backward ? (50 * Math.abs(value)) / most : 100 * value;
      fill.style.width = `${share}%`;
      fill.style.left = backward ? (value < 0 ? `${50 - share}%` : "50%") : "0";
      fill.style.background = backward ? colour(Math.sign(value) * 0.7, 1, "gradients") : "";
      figure.textContent = backward ? number(value, Math.abs(value) < 0.001 ? 2 : 3) : percent(value);
      bar.setAttribute(
        "aria-label",
        `${app.classes[k]}: ${figure.textContent}, ${text("score")} ${number(app.scores[k])}`,
      );
    });
    verdict.replaceChildren(
      h("b", {}, text("seenAs", { name: app.classes[answer] })),
      app.target === null
        ? ` · ${text(backward ? "assumed" : "trueHint", { name: app.classes[targetClass] })}`
        : ` · ${text("trueMark")} ${app.classes[app.target]} · ${text("lossIs", { loss: number(app.lossValue) })}`,
    );
  }

  app.listen((what) => {
    if (what !== "focus") draw();
    bars.forEach((bar, k) => bar.element.classList.toggle("looked", app.focus?.node === node && app.focus.at === k));
  });

  return {
    element,
    rectangle(at, root) {
      const [own, outer] = [bars[at].element.getBoundingClientRect(), root.getBoundingClientRect()];
      return { x: own.left - outer.left, y: own.top - outer.top, width: own.width, height: own.height };
    },
  };
}
