/** y = f(x) + g(x): the first row of layers is f, the second, or the input itself, is g. */

import { backwardRow, forwardRow } from "./rows.js";

/** All numbers that one is connected with through a row of layers: visit is that of the layers' `way`. */
function connected(layers, at, way) {
  let numbers = new Set([at]);
  for (const layer of way === "sources" ? [...layers].reverse() : layers) {
    if (layer.kind.passes) continue;
    const wider = new Set();
    for (const one of numbers) layer.kind[way](layer, one, (other) => other >= 0 && wider.add(other));
    numbers = wider;
  }
  return numbers;
}

export const Residual = {
  rows: ["layers", "shortcut"],
  shape: (_options, inShape, { rows }) => rows[0].at(-1)?.outShape ?? inShape,

  forward(layer, x, y, n, training) {
    layer.parts = layer.rows.map((row) => forwardRow(row, x, n, training));
    const [f, g] = layer.parts;
    for (let i = 0; i < n * layer.outSize; i++) y[i] = f[i] + g[i];
  },

  backward(layer, _x, _y, dy, dx, n) {
    layer.backs = layer.rows.map((row) => backwardRow(row, dy, n));
    const [f, g] = layer.backs;
    for (let i = 0; i < n * layer.inSize; i++) dx[i] = f[i] + g[i];
  },

  // On the shortcut; what the layers are connected with is wider.
  sources: (layer, at, visit) => connected(layer.rows[1], at, "sources").forEach((from) => visit(from, -1, 0)),
  users: (layer, at, visit) => connected(layer.rows[1], at, "users").forEach((to) => visit(to, -1)),
  factorAt: () => 1,
};
