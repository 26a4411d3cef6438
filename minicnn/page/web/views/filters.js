/** The filters as pictures, with the frequencies they let pass; and the gradient of a weight as a sum over places. */

import { ARROWS, h, number, rem } from "../dom.js";
import { largest, paint } from "../draw.js";
import { response } from "../engine/frequency.js";
import { clamp } from "../engine/ink.js";
import { everyLayer } from "../engine/rows.js";
import { text } from "../texts.js";

const POINTS = 33;
const MOST = 64; // filters that are shown

export function filtersView(app) {
  const layers = [...everyLayer(app.network.layers)].filter((layer) => layer.kind.filters);
  const element = h("div", { class: "filters" });
  if (!layers.length) {
    element.append(h("p", { class: "empty" }, text("noFilters")));
    return { element, draw() {} };
  }
  let layer = layers[0];
  let point = null; // { filter, kernel, u, v }
  let kernels = []; // { canvas, filter, kernel }
  let spectra = []; // { canvas, filter }
  const board = h("div", { class: "all" });
  const closer = h("div", { class: "closer", "aria-live": "polite" });
  const select = h(
    "select",
    {
      onchange: () => {
        layer = layers[select.selectedIndex];
        point = null;
        build();
      },
    },
    layers.map((one) => h("option", {}, `${one.place} ${one.name}`)),
  );
  element.append(
    h(
      "div",
      { class: "row" },
      h("label", { class: "small" }, `${text("filtersOf")} `, select),
      h("span", { class: "soft small" }, text("responseAxis")),
    ),
    h("div", { class: "board" }, board, closer),
  );

  /** The pictures of a layer's filters, still empty. */
  function build() {
    const [kh, kw] = layer.window.kernel;
    const filters = layer.kind.filters(layer).slice(0, MOST);
    const cell = Math.max(3, Math.floor((filters[0].kernels.length > 1 ? 40 : 56) / Math.max(kh, kw)));
    const side = rem(Math.max(kh, kw) * cell);
    kernels = [];
    spectra = [];
    const figures = filters.map((filter) => {
      const pair = h("div", { class: "pair" });
      for (const kernel of filter.kernels) {
        const name = text("filterKernel", { name: filter.name, map: kernel.map });
        const style = { width: rem(kw * cell), height: rem(kh * cell) };
        const properties = { title: name, "aria-label": name, role: "img", tabindex: -1 };
        const canvas = h("canvas", { width: kw, height: kh, style, ...properties });
        const entry = { canvas, filter, kernel };
        for (const what of ["pointermove", "pointerdown"])
          canvas.addEventListener(what, (event) => pointAt(event, entry));
        canvas.addEventListener("keydown", (event) => move(event, entry));
        canvas.addEventListener("focus", () => look(entry, point?.u ?? 0, point?.v ?? 0));
        kernels.push(entry);
        pair.append(canvas);
      }
      const title = text("response");
      const canvas = h("canvas", {
        class: "response",
        width: POINTS,
        height: POINTS,
        title,
        style: { width: side, height: side },
      });
      spectra.push({ canvas, filter });
      pair.append(canvas);
      return h("div", { class: "filter" }, text("filterMap", { map: filter.name }), pair);
    });
    kernels[0].canvas.tabIndex = 0;
    board.replaceChildren(...figures);
    draw();
  }

  function draw() {
    const { kernel: size, dilation } = layer.window;
    const backward = app.mode === "backward";
    const values = layer.kind.values(layer);
    const shown = backward ? layer.kind.gradients(layer) : values;
    const most = largest(shown);
    for (const { canvas, kernel } of kernels)
      paint(canvas, shown, kernel.number, most, backward ? "gradients" : "values");
    for (const { canvas, filter } of app.training.running ? [] : spectra) {
      const taps = filter.kernels.map(({ number: first }) => values.subarray(first, first + size[0] * size[1]));
      const passed = response(taps, size, dilation, POINTS);
      paint(canvas, passed, 0, largest(passed), "values");
    }
    tell();
  }

  // --- pointing

  function look(entry, u, v) {
    const [kh, kw] = layer.window.kernel;
    for (const { canvas } of kernels) canvas.tabIndex = canvas === entry.canvas ? 0 : -1;
    point = { ...entry, u: clamp(u, 0, kh - 1), v: clamp(v, 0, kw - 1) };
    tell();
  }

  function pointAt(event, entry) {
    const box = entry.canvas.getBoundingClientRect();
    const [kh, kw] = layer.window.kernel;
    const u = Math.floor(((event.clientY - box.top) / box.height) * kh);
    look(entry, u, Math.floor(((event.clientX - box.left) / box.width) * kw));
  }

  /** Arrow keys move within a kernel; with Shift, to the kernel before or behind it. */
  function move(event, entry) {
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    if (event.shiftKey) {
      const next = kernels.indexOf(entry) + step[0] + step[1];
      kernels[clamp(next, 0, kernels.length - 1)].canvas.focus();
    } else look(entry, point.u + step[0], point.v + step[1]);
  }

  function tell() {
    if (!point) {
      closer.replaceChildren(h("p", { class: "soft" }, text("filterHint")));
      return;
    }
    const { filter, kernel, u, v } = point;
    const weight = kernel.number + u * layer.window.kernel[1] + v;
    const { shape, x, dy } = layer.kind.weightGradient(layer, weight);
    const products = Float32Array.from(x, (one, i) => one * dy[i]);
    const picture = (values, caption, scale) => {
      const canvas = h("canvas", { width: shape[1], height: shape[0] });
      paint(canvas, values, 0, largest(values), scale);
      return h("figure", {}, canvas, h("figcaption", {}, caption));
    };
    closer.replaceChildren(
      h("p", {}, h("b", {}, text("filterKernel", { name: filter.name, map: kernel.map })), ` [${u}, ${v}]`),
      h(
        "p",
        { class: "number" },
        `${text("weightIs", { value: number(layer.kind.values(layer)[weight], 4) })} · ${text("gradientIs", { value: number(layer.kind.gradients(layer)[weight], 4) })}`,
      ),
      h("p", { class: "soft" }, text(x.length > 1 ? "sharedSum" : "localSum", { count: x.length })),
      h(
        "div",
        { class: "pictures" },
        picture(dy, text("dyMap"), "gradients"),
        "×",
        picture(x, text("xSeen"), "values"),
        "=",
        picture(products, text("productMap", { sum: number(products.reduce((a, b) => a + b, 0)) }), "gradients"),
      ),
    );
  }

  build();
  return { element, draw };
}
