/** Where a number comes from: forward from its window in the layer before, backward from all that saw it. */

import { gridOf } from "./draw.js";

/** The node -1 is the input, node k what layer k puts out. Layers that pass all on are no nodes of their own. */
export const INPUT = -1;

export function nodesOf(network) {
  return [INPUT, ...network.layers.keys()].filter((k) => k < 0 || !network.layers[k].kind.passes);
}

export const shapeOf = (network, node) => (node < 0 ? network.inShape : network.layers[node].outShape);

export function valuesOf(network, node) {
  return node < 0 ? network.layers[0].x : network.layers[node].y;
}

/** dy: the derivative of the loss with respect to the numbers of a node. */
export function gradientsOf(network, node) {
  const next = network.layers[node + 1];
  return next ? next.dx : network.layers[node].dy;
}

/** What the maps of a node show. */
export const numbersOf = ({ network, mode }, node) =>
  mode === "backward" ? gradientsOf(network, node) : valuesOf(network, node);

/** The node before another one, and the one behind it, or undefined. */
export function before(network, node) {
  return nodesOf(network).findLast((k) => k < node);
}

export function behind(network, node) {
  return nodesOf(network).find((k) => k > node);
}

/** A node as pictures: how many maps, and the rows and columns of each. A vector is one map. */
export function mapsOf(shape) {
  const [channels, height = 1, width = 1] = shape;
  if (height * width > 1) return { count: channels, rows: height, columns: width, area: height * width };
  const [rows, columns] = gridOf(channels);
  return { count: 1, rows, columns, area: channels };
}

/** { map, row, column } of number `at` of a node. */
export function placeOf(shape, at) {
  const { area, columns } = mapsOf(shape);
  return { map: Math.floor(at / area), row: Math.floor((at % area) / columns), column: (at % area) % columns };
}

export const total = (terms) => terms.reduce((sum, term) => sum + term.product, 0);

/** Terms by the map that they are of. */
class Parts {
  terms = new Map();

  add(map, term) {
    if (!this.terms.has(map)) this.terms.set(map, []);
    this.terms.get(map).push(term);
  }

  /** [{ map, terms, sum }, ...] */
  list() {
    return [...this.terms].map(([map, terms]) => ({ map, terms, sum: total(terms) }));
  }
}

/** By how much output `to` moves for a move of input `from`, which it met with weight `number`. */
function slope(layer, from, to, weight) {
  const { kind } = layer;
  if (kind.derivative) return kind.derivative(layer, from, to);
  if (kind.slopeAt) return kind.slopeAt(layer, from, weight);
  if (kind.weightAt) return kind.weightAt(layer, weight);
  if (layer.winner) return layer.winner[to] === from ? 1 : 0;
  return kind.factorAt(layer, to);
}

/**
 * How layer `node` made number `at`: parts, one for each map of the layer before that it saw, each with the terms
 * { from, x, factor, product } in rows and columns; and the bias. Their sum is `value`, where the layer makes sums.
 */
export function explainForward(network, node, at) {
  const layer = network.layers[node];
  const { kind } = layer;
  const parts = new Parts();
  const maps = mapsOf(shapeOf(network, before(network, node)));
  kind.sources(layer, at, (from, weight, map) => {
    const part = layer.window ? map : from < 0 ? 0 : Math.floor(from / maps.area);
    const x = from < 0 ? 0 : layer.x[from];
    const factor = kind.weightAt
      ? kind.weightAt(layer, weight)
      : layer.winner || kind.derivative
        ? 1
        : kind.factorAt(layer, at);
    const product = kind.termAt ? kind.termAt(layer, from, weight) : factor * x;
    parts.add(part, { from, x, factor, weight, product, wins: layer.winner?.[at] === from });
  });
  const shape = layer.window
    ? layer.window.kernel
    : kind.elementwise || parts.size > maps.count
      ? [1, 1]
      : [maps.rows, maps.columns];
  return {
    layer,
    at,
    value: layer.y[at],
    shape,
    parts: parts.list(),
    bias: kind.biasAt?.(layer, at) ?? null,
  };
}

/**
 * Where the gradient of number `at` of a node comes from: parts, one for each map of the layer behind it, with the
 * terms { to, dy, factor, product } of all outputs that saw it. The last layer's comes from the loss: no parts.
 */
export function explainBackward(network, node, at) {
  const next = behind(network, node);
  const value = gradientsOf(network, node)[at];
  if (next === undefined) return { value, parts: [] };
  const layer = network.layers[next];
  const { area } = mapsOf(layer.outShape);
  const parts = new Parts();
  layer.kind.users(layer, at, (to, weight) => {
    const factor = slope(layer, at, to, weight);
    parts.add(Math.floor(to / area), { to, dy: layer.dy[to], factor, product: factor * layer.dy[to] });
  });
  return { layer, next, value, parts: parts.list() };
}

/** Which numbers of the input number `at` of a node depends on: a mask. */
export function receptiveField(network, node, at) {
  const mask = new Uint8Array(node < 0 ? network.layers[0].inSize : network.layers[node].outSize);
  mask[at] = 1;
  return widened(network.layers.slice(0, node + 1), mask);
}

/** The mask of what the numbers of a mask depend on, through layers one after the other. */
function widened(layers, mask) {
  for (const layer of [...layers].reverse()) {
    if (layer.rows) {
      const [f, g] = layer.rows.map((row) => widened(row, mask));
      mask = f.map((on, k) => on | g[k]);
    } else if (!layer.kind.passes) mask = seenBy(layer, mask);
  }
  return mask;
}

function seenBy(layer, mask) {
  const wider = new Uint8Array(layer.inSize);
  // Where all maps see all maps, what one number of a place sees is what the others there see.
  const done = layer.groups === 1 && !layer.numbers ? new Uint8Array(layer.places) : null;
  let all = 0;
  for (let to = 0; to < mask.length && all < wider.length; to++) {
    if (!mask[to] || done?.[to % layer.places]) continue;
    if (done) done[to % layer.places] = 1;
    layer.kind.sources(layer, to, (from) => {
      if (from >= 0 && !wider[from]) {
        wider[from] = 1;
        all++;
      }
    });
  }
  return wider;
}

/** The box around the numbers of one map: { top, left, rows, columns }, or null for none. */
export function boxOf(shape, map, numbers) {
  let [top, left, bottom, right] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, -1, -1];
  for (const at of numbers) {
    const { map: own, row, column } = placeOf(shape, at);
    if (at < 0 || own !== map) continue;
    top = Math.min(top, row);
    left = Math.min(left, column);
    bottom = Math.max(bottom, row);
    right = Math.max(right, column);
  }
  return bottom < 0 ? null : { top, left, rows: bottom - top + 1, columns: right - left + 1 };
}
