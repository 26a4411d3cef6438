/** All layers from left to right, each map a picture, and over them what the number in focus depends on. */

import { ARROWS, button, h, number, rem, svg } from "../dom.js";
import { largest, paint, paintGrey } from "../draw.js";
import { clamp } from "../engine/ink.js";
import {
  before,
  behind,
  boxOf,
  explainBackward,
  explainForward,
  INPUT,
  mapsOf,
  nodesOf,
  numbersOf,
  placeOf,
  receptiveField,
  shapeOf,
} from "../explain.js";
import { text } from "../texts.js";

const HEIGHT = 330; // pixels for the maps of a layer
const GAP = 3;
const MOST = 64; // maps that are shown at once
const LINES = 8; // from the windows to the number in focus, at most

export const nameOf = (network, node) => (node === INPUT ? text("input") : network.layers[node].name);

/** Words for a number of a node: map, row and column, or the unit; counted from 0, as arrays are. */
export function wordsOf(network, node, at) {
  const shape = shapeOf(network, node);
  const { map, row, column } = placeOf(shape, at);
  return shape.length === 1 || shape[1] * shape[2] === 1
    ? { unit: at, vector: true }
    : { map, row, column, vector: false };
}

/** The same as text. */
export function tipOf(network, node, at) {
  const words = wordsOf(network, node, at);
  return text(words.vector ? "tipUnit" : "tipMap", words);
}

/** The size of a map on the screen, and in how many rows the maps of a node stand. */
function layoutOf(vector, { count, rows, columns }) {
  const shown = Math.min(count, MOST);
  if (vector) {
    const cell = Math.max(3, Math.min(20, Math.floor(60 / columns), Math.floor(HEIGHT / rows)));
    return { width: columns * cell, height: rows * cell, down: 1, shown };
  }
  const wanted = count === 1 ? 78 : shown <= 6 ? 50 : shown <= 8 ? 38 : shown <= 16 ? 36 : shown <= 32 ? 25 : 20;
  const scale = wanted / Math.max(rows, columns);
  const [width, height] = [columns, rows].map((n) => Math.max(3, Math.round(n * scale)));
  return { width, height, down: Math.max(1, Math.min(shown, Math.floor((HEIGHT + GAP) / (height + GAP + 2)))), shown };
}

export function stageView(app) {
  const { network } = app;
  const nodes = nodesOf(network);
  const shown = nodes.slice(0, -1); // the last one's numbers are the scores
  const columns = h("div", { class: "columns" });
  const overlay = svg("svg", { class: "overlay", "aria-hidden": "true" });
  const live = h("p", { class: "hidden", "aria-live": "polite" });
  const tip = h("div", { class: "tip", hidden: true });
  const element = h(
    "section",
    { class: "card stage", tabindex: 0, role: "application", "aria-label": text("stageKeys") },
    columns,
    live,
  );
  const views = new Map(); // node -> { canvases, first, maps, layout, cells }

  for (const node of shown) {
    const maps = mapsOf(shapeOf(network, node));
    const layout = layoutOf(wordsOf(network, node, 0).vector, maps);
    const box = h("div", { class: "maps", style: { gridTemplateRows: `repeat(${layout.down}, auto)` } });
    const canvases = Array.from({ length: layout.shown }, (_, k) => {
      const canvas = h("canvas", { width: maps.columns, height: maps.rows, "aria-hidden": "true" });
      Object.assign(canvas.style, { width: rem(layout.width + 2), height: rem(layout.height + 2) });
      canvas.dataset.node = node;
      canvas.dataset.place = k;
      return canvas;
    });
    box.append(...canvases);
    const view = { canvases, first: 0, maps };
    const [count, rows, across] = shapeOf(network, node);
    const size = rows === undefined ? text("units", { count }) : text("maps", { count, rows, columns: across });
    const head = h("div", { class: "head" }, h("b", {}, nameOf(network, node)), h("span", {}, size));
    const column = h("div", { class: "column" }, head, box);
    if (maps.count > layout.shown) {
      const turn = () => {
        view.first = view.first + layout.shown >= maps.count ? 0 : view.first + layout.shown;
        drawNode(node);
        drawOverlay();
      };
      column.append(h("div", { class: "more" }, button(text("more", { count: maps.count - layout.shown }), turn)));
    }
    columns.append(column);
    views.set(node, view);
  }
  columns.append(overlay);

  // --- pictures

  function drawNode(node) {
    const { canvases, first, maps } = views.get(node);
    const backward = app.mode === "backward";
    const values = numbersOf(app, node);
    const { area } = maps;
    const size = maps.count * area;
    const all = app.common || maps.count === 1 ? largest(values, 0, size) : 0;
    canvases.forEach((canvas, k) => {
      const map = first + k;
      canvas.style.visibility = map < maps.count ? "" : "hidden";
      if (map >= maps.count) return;
      const from = map * area;
      if (node === INPUT && !backward) {
        const { mean, std } = app.normalisation;
        const [m, s] = [mean[map % mean.length], std[map % std.length]];
        paintGrey(canvas, values, from, -m / s, (1 - m) / s, app.facts.characters);
      } else paint(canvas, values, from, all || largest(values, from, from + area), backward ? "gradients" : "values");
    });
  }

  function draw() {
    for (const node of shown) drawNode(node);
  }

  // --- what the number in focus depends on

  /** Where on the stage the box of a map lies, or null where that map is not shown. */
  function rectangle(node, map, box) {
    const view = views.get(node);
    const canvas = view?.canvases[map - view.first];
    if (!canvas || !box) return null;
    const { maps } = view;
    const [w, v] = [canvas.clientWidth / maps.columns, canvas.clientHeight / maps.rows];
    const [x, y] = [canvas.offsetLeft + 1, canvas.offsetTop + 1];
    return { x: x + box.left * w, y: y + box.top * v, width: box.columns * w, height: box.rows * v };
  }

  function rectangleOf(node, at) {
    if (!views.has(node)) return scoreRectangle(at);
    const { map, row, column } = placeOf(shapeOf(network, node), at);
    return rectangle(node, map, { top: row, left: column, rows: 1, columns: 1 });
  }

  let scoreRectangle = () => null;

  function drawOverlay() {
    overlay.replaceChildren();
    if (!app.focus) return;
    const { node, at } = app.focus;
    const own = rectangleOf(node, at);
    const add = (rect, name) => rect && overlay.append(svg("rect", { ...rect, class: name, rx: 1 }));
    if (own) add({ x: own.x - 1, y: own.y - 1, width: own.width + 2, height: own.height + 2 }, "own");
    const backward = app.mode === "backward";
    const other = backward ? behind(network, node) : before(network, node);
    if (other === undefined) return;
    const { parts } = backward ? explainBackward(network, node, at) : explainForward(network, node, at);
    const seen = parts.map((part) => {
      const numbers = part.terms
        .filter((term) => !backward || term.product !== 0)
        .map((term) => (backward ? term.to : term.from));
      const shape = shapeOf(network, other);
      // Scores are one bar each, all others lie in maps.
      const rect = views.has(other) ? rectangle(other, part.map, boxOf(shape, part.map, numbers)) : null;
      return { rect, size: Math.abs(part.sum) };
    });
    for (const { rect } of seen) add(rect, "window");
    if (own) {
      const strongest = seen.filter(({ rect }) => rect).sort((a, b) => b.size - a.size);
      for (const { rect } of strongest.slice(0, LINES)) overlay.append(backward ? link(own, rect) : link(rect, own));
    }
    if (!backward && other !== INPUT && node !== INPUT) {
      const mask = receptiveField(network, node, at);
      const numbers = [];
      mask.forEach((on, k) => on && numbers.push(k));
      for (let map = 0; map < views.get(INPUT).maps.count; map++) {
        add(rectangle(INPUT, map, boxOf(network.inShape, map, numbers)), "field");
      }
    }
  }

  /** Two lines from the right corners of one rectangle to the left corners of another. */
  function link(from, to) {
    const [x, u] = [from.x + from.width, to.x];
    const bend = (x + u) / 2;
    const line = (a, b) => `M${x} ${a}C${bend} ${a} ${bend} ${b} ${u} ${b}`;
    return svg("path", { d: line(from.y, to.y) + line(from.y + from.height, to.y + to.height) });
  }

  // --- pointing

  /** The number of the node that is under the pointer. */
  function under(event) {
    const canvas = event.target.closest?.("canvas");
    if (!canvas || !columns.contains(canvas)) return null;
    const node = Number(canvas.dataset.node);
    const { first, maps } = views.get(node);
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left - 1) / (box.width - 2)) * maps.columns);
    const row = Math.floor(((event.clientY - box.top - 1) / (box.height - 2)) * maps.rows);
    const map = first + Number(canvas.dataset.place);
    if (row < 0 || column < 0 || row >= maps.rows || column >= maps.columns) return null;
    const inMap = row * maps.columns + column;
    return inMap < maps.area ? { node, at: map * maps.area + inMap } : null;
  }

  columns.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const found = under(event);
    showTip(found, event);
    const same = found && app.focus?.node === found.node && app.focus?.at === found.at;
    if (found && !same) app.look(found);
  });
  columns.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
  columns.addEventListener("click", (event) => {
    const found = under(event);
    if (found) app.look(found, true);
  });

  function showTip(found, event) {
    tip.hidden = !found;
    if (!found) return;
    const value = number(numbersOf(app, found.node)[found.at]);
    tip.replaceChildren(`${tipOf(network, found.node, found.at)}  `, h("b", {}, value));
    const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 6);
    Object.assign(tip.style, { left: `${left}px`, top: `${event.clientY + 18}px` });
  }

  // --- keys

  function move(key, shift) {
    if (!app.focus) {
      const { area, columns } = mapsOf(network.inShape);
      return { node: INPUT, at: Math.floor((area + columns) / 2) };
    }
    const { node, at } = app.focus;
    const { count, rows, columns: across, area } = mapsOf(shapeOf(network, node));
    let { map, row, column } = placeOf(shapeOf(network, node), at);
    const [down, right] = ARROWS[key];
    if (shift && right) {
      const next = nodes[clamp(nodes.indexOf(node) + right, 0, nodes.length - 1)];
      const maps = mapsOf(shapeOf(network, next));
      const inMap = Math.floor((row / rows) * maps.rows) * maps.columns + Math.floor((column / across) * maps.columns);
      const place = Math.min(maps.count - 1, map) * maps.area + inMap;
      return { node: next, at: Math.min(maps.count * maps.area - 1, place) };
    }
    if (shift) map = clamp(map + down, 0, count - 1);
    else {
      row = clamp(row + down, 0, rows - 1);
      column = clamp(column + right, 0, across - 1);
    }
    return { node, at: map * area + Math.min(area - 1, row * across + column) };
  }

  element.addEventListener("keydown", (event) => {
    if (event.key.startsWith("Arrow")) {
      const found = move(event.key, event.shiftKey);
      if (app.pinned) {
        app.pinned = false;
        app.trail = [];
      }
      app.look(found);
      show(found);
    } else if (event.key === "Enter" || event.key === " ") {
      if (event.target !== element) return;
      if (app.focus) app.look(app.focus, true);
    } else if (event.key === "Backspace") app.walk();
    else if (event.key === "Escape") app.look(null, true);
    else return;
    event.preventDefault();
  });

  /** Scrolls to a number, and says it. */
  function show({ node, at }) {
    const rect = rectangleOf(node, at);
    if (rect && (rect.x < element.scrollLeft || rect.x > element.scrollLeft + element.clientWidth - 40)) {
      element.scrollLeft = rect.x - element.clientWidth / 2;
    }
    const value = number(numbersOf(app, node)[at]);
    const words = { ...wordsOf(network, node, at), layer: nameOf(network, node), value };
    live.textContent = text(words.vector ? "vectorAria" : "unitAria", words);
  }

  app.listen((what) => {
    if (what !== "focus") draw();
    drawOverlay();
    if (what === "focus" && app.pinned && app.focus) show(app.focus);
  });
  new ResizeObserver(drawOverlay).observe(columns);
  element.addEventListener("scroll", drawOverlay); // the scores stay where they are

  return {
    element,
    tip,
    /** Puts the scores at the right end; rectangle(at) says where one of them is. */
    addScores(view) {
      columns.insertBefore(view.element, overlay);
      scoreRectangle = (at) => view.rectangle(at, columns);
    },
  };
}
