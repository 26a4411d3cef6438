/** The filters as pictures, with the frequencies they let pass; and the gradient of a weight as a sum over places. */

import { h, number, rem } from "../dom.js";
import { largest, paint } from "../draw.js";
import { response } from "../engine/frequency.js";
import { text } from "../texts.js";

const POINTS = 33;
const MOST = 64; // filters that are shown

export function filtersView(app) {
  const layers = app.network.layers.filter((layer) => layer.kind.filters);
  const element = h("div", { class: "filters" });
  if (!layers.length) {
    element.append(h("p", { class: "empty" }, text("noFilters")));
    return { element, draw() {} };
  }
  let layer = layers[0];
  let point = null; // { filter, kernel, u, v }
  const board = h("div", { class: "all" });
  const closer = h("div", { class: "closer" });
  const select = h(
    "select",
    {
      onchange: () => {
        layer = layers[select.selectedIndex];
        point = null;
        draw();
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

  function draw() {
    const { kernel: size } = layer.window;
    const backward = app.mode === "backward";
    const values = layer.kind.values(layer);
    const shownValues = backward ? layer.kind.gradients(layer) : values;
    const taps = size[0] * size[1];
    const cell = Math.max(
      3,
      Math.floor((layer.kind.filters(layer)[0].kernels.length > 1 ? 40 : 56) / Math.max(...size)),
    );
    const most = largest(shownValues);
    board.replaceChildren(
      ...layer.kind
        .filters(layer)
        .slice(0, MOST)
        .map((filter) => {
          const pair = h("div", { class: "pair" });
          for (const kernel of filter.kernels) {
            const canvas = h("canvas", {
              width: size[1],
              height: size[0],
              style: { width: rem(size[1] * cell), height: rem(size[0] * cell) },
            });
            canvas.title = text("filterKernel", { name: filter.name, map: kernel.map });
            paint(canvas, shownValues, kernel.number, most, backward ? "gradients" : "values");
            canvas.addEventListener("pointermove", (event) => pointAt(event, canvas, filter, kernel));
            canvas.addEventListener("pointerdown", (event) => pointAt(event, canvas, filter, kernel));
            pair.append(canvas);
          }
          const kernels = filter.kernels.map(({ number: first }) => values.subarray(first, first + taps));
          const passed = response(kernels, size, layer.window.dilation, POINTS);
          const side = Math.max(...size) * cell;
          const spectrum = h("canvas", {
            class: "response",
            width: POINTS,
            height: POINTS,
            title: text("response"),
            style: { width: rem(side), height: rem(side) },
          });
          paint(spectrum, passed, 0, largest(passed), "values");
          pair.append(spectrum);
          return h("div", { class: "filter" }, text("filterMap", { map: filter.name }), pair);
        }),
    );
    tell();
  }

  function pointAt(event, canvas, filter, kernel) {
    const box = canvas.getBoundingClientRect();
    const [kh, kw] = layer.window.kernel;
    const u = Math.min(kh - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * kh)));
    const v = Math.min(kw - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * kw)));
    point = { filter, kernel, u, v };
    tell();
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

  return { element, draw };
}
