/** One number in full: forward, window times kernel; backward, where its gradient comes from. */

import { button, h, number } from "../dom.js";
import { largest } from "../draw.js";
import {
  before,
  behind,
  boxOf,
  explainBackward,
  explainForward,
  gradientsOf,
  INPUT,
  placeOf,
  shapeOf,
  total as sumOf,
  valuesOf,
} from "../explain.js";
import { hasText, text } from "../texts.js";
import { curve, flowOf, piecesFor } from "./pieces.js";
import { nameOf, tipOf, wordsOf } from "./stage.js";

const ROWS = 6; // of a list of products

/** A number behind a sign. */
const bracketed = (value) => (value < 0 ? `(${number(value)})` : number(value));

export function unitView(app) {
  const { network } = app;
  const element = h("div", { class: "unit" });
  const { grid, table, wide } = piecesFor((focus) => app.look(focus, true));
  let chosen = null; // the map whose window is shown

  function draw() {
    const { focus } = app;
    if (!focus) {
      chosen = null;
      element.replaceChildren(
        h("p", { class: "empty" }, text(app.mode === "backward" ? "unitEmptyBack" : "unitEmpty")),
      );
      return;
    }
    element.replaceChildren(...(app.mode === "backward" ? gradient(focus) : value(focus)));
  }

  // --- the pieces

  function title({ node, at }, values, rule, formula) {
    const words = wordsOf(network, node, at);
    return h(
      "div",
      { class: "title" },
      h("b", {}, nameOf(network, node)),
      h("span", {}, text(words.vector ? "placeUnit" : "placeMap", words)),
      h(
        "span",
        { class: "value" },
        `${app.mode === "backward" ? "dy" : node === INPUT ? "x" : "y"} = ${number(values[at], 4)}`,
      ),
      app.pinned ? button(text("walk"), () => app.walk()) : null,
      app.pinned && app.trail.length ? button(text("back"), () => app.goBack()) : null,
      app.pinned ? button(text("unpin"), () => app.look(null, true)) : null,
      hasText(rule) || formula ? h("span", { class: "rule" }, hasText(rule) ? text(rule) : formula) : null,
    );
  }

  /** The part that is shown: the one that was picked, or that which counts most. */
  function pickPart(parts) {
    const strongest = parts.reduce((a, b) => (Math.abs(b.sum) > Math.abs(a.sum) ? b : a));
    return parts.find((part) => part.map === chosen) ?? strongest;
  }

  function sumsOfParts(parts, part, bias, total, name, scale) {
    const rows = parts.map((one) => ({
      name: name(one.map),
      value: one.sum,
      picked: one === part,
      pick: () => {
        chosen = one.map;
        draw();
      },
    }));
    if (bias !== null) rows.push({ name: text("bias"), value: bias });
    return table(text("sums"), rows, { name: text("sum"), value: total }, scale);
  }

  /** The largest of many products, one a row. */
  function largestProducts(terms, bias, total, name, scale) {
    const sorted = [...terms].sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
    const rows = sorted.slice(0, ROWS - 1).map((term) => ({ name: name(term), value: term.product }));
    const rest = sorted.slice(ROWS - 1);
    if (rest.length)
      rows.push({
        name: text("others", { count: rest.length }),
        value: sumOf(rest),
      });
    if (bias !== null) rows.push({ name: text("bias"), value: bias });
    return table(`${text("products")}, ${text("largestFirst")}`, rows, { name: text("sum"), value: total }, scale);
  }

  // --- forward

  function value(focus) {
    const { node, at } = focus;
    const values = valuesOf(network, node);
    if (node === INPUT) return [title(focus, values, "pixel")];
    const layer = network.layers[node];
    const rule = `rule_${layer.kind.normalizes ? "BatchNorm2d" : layer.name}`;
    const last = before(network, node);
    const flow = flowOf(...made(layer, last, at, explainForward(network, node, at)));
    const next = behind(network, node);
    if (next !== undefined && network.layers[next].kind.elementwise) {
      const { name, y } = network.layers[next];
      const words = text("followed", { name, value: number(y[at]) });
      const onward = button(words, () => app.look({ node: next, at }, true));
      if (!flow.lastChild.classList.contains("end")) flow.append(h("div", { class: "end" }));
      flow.lastChild.append(onward);
    }
    return [title(focus, values, rule, layer.kind.formula && `y = ${layer.kind.formula}`), flow];
  }

  /** How a layer made its number `at` of what is in the node before. */
  function made(layer, last, at, found) {
    if (layer.kind.elementwise) {
      const x = wide(text("valueIn", { name: nameOf(network, last) }), layer.x[at], { node: last, at });
      return [x, "→", curve(layer, at), "→", wide("y", layer.y[at])];
    }
    if (layer.kind.normalizes) return normalised(layer, at, last);
    if (layer.name === "Softmax") return shares(layer, at, last);
    if (layer.rows) return added(layer.parts, layer, at, { node: last, at }, "y");
    return sums(layer, last, found);
  }

  function cellOf(term, key, last) {
    const outside = term.from < 0;
    const where = outside ? text("outside") : place(last, term.from);
    return {
      value: term[key],
      outside: outside && key === "x",
      wins: term.wins,
      to: outside || key !== "x" ? null : { node: last, at: term.from },
      title: `${where}: ${number(term[key], 4)}`,
    };
  }

  const place = (node, at) => tipOf(network, node, at);

  function sums(layer, last, { parts, shape, bias, value: total }) {
    const part = pickPart(parts);
    const [rows, columns] = shape;
    const many = parts.length > 1;
    const whole = largest(valuesOf(network, last));
    const name = (map) => (last === INPUT && network.inShape[0] === 1 ? text("inputOnly") : text("inputMap", { map }));
    const cells = (key) => part.terms.map((term) => cellOf(term, key, last));
    const most = (key) => largest(part.terms.map((term) => term[key]));
    const figure = (caption, key) => grid(caption, rows, columns, cells(key), most(key));
    const where = layer.window || many ? `, ${name(part.map)}` : "";
    const result = [
      grid(
        `${text(layer.window ? "windowOf" : "numbersOf", { name: nameOf(network, last) })}${last === INPUT && !many ? "" : where}`,
        rows,
        columns,
        cells("x"),
        layer.window ? Math.min(whole, most("x") * 1.5) : most("x"),
      ),
    ];
    if (layer.name === "MaxPool") return [...result, "→", wide(text("winner"), total)];
    if (layer.counts) return [...result, "→", wide(text("mean"), total)];
    if (layer.name === "Subsample") {
      const sum = part.terms.reduce((a, term) => a + term.x, 0);
      return [
        ...result,
        "→",
        wide(text("sum"), sum),
        "×",
        wide(text("weightName"), part.terms[0].factor),
        "+",
        wide(text("bias"), bias),
        "=",
        wide("y", total),
      ];
    }
    const distance = layer.name === "RadialBasis";
    const kernel = text(layer.window ? "kernel" : distance ? "prototype" : "weightsName");
    result.push(distance ? "−" : "×", figure(kernel, "factor"), distance ? "→" : "=");
    result.push(figure(text(distance ? "distances" : "products"), "product"));
    if (many || layer.window) result.push(sumsOfParts(parts, part, bias, total, name));
    else
      result.push(
        largestProducts(
          part.terms,
          bias,
          total,
          (term) => `${place(last, term.from)}: ${number(term.x)} ${distance ? "−" : "×"} ${bracketed(term.factor)}`,
        ),
      );
    return result;
  }

  function normalised(layer, at, last) {
    const c = layer.kind.channelOf(layer, at);
    const deviation = Math.sqrt(layer.variance[c] + layer.options.eps);
    const result = [
      wide("x", layer.x[at], { node: last, at }),
      "−",
      wide(text("mean"), layer.mean[c]),
      "÷",
      wide(text("deviation"), deviation),
    ];
    if (layer.weight)
      result.push("×", wide(text("weightName"), layer.weight[c]), "+", wide(text("bias"), layer.bias[c]));
    return [...result, "=", wide("y", layer.y[at])];
  }

  function shares(layer, at, last) {
    const rows = [];
    layer.kind.sources(layer, at, (from) => rows.push({ name: place(last, from), value: layer.y[from] }));
    return [
      wide("x", layer.x[at], { node: last, at }),
      "→",
      wide("y", layer.y[at]),
      table(text("probability"), rows, null),
    ];
  }

  /** The sum of what comes through both rows of a layer: values, or gradients. */
  function added([f, g], layer, at, target, name) {
    const direct = layer.rows[1].length === 0;
    const scale = name === "dy" ? "gradients" : undefined;
    return [
      wide(text("throughLayers"), f[at], null, scale),
      "+",
      wide(text(direct ? "asItIs" : "throughShortcut"), g[at], direct ? target : null, scale),
      "=",
      wide(name, f[at] + g[at], null, scale),
    ];
  }

  // --- backward

  function gradient(focus) {
    const { node, at } = focus;
    const values = gradientsOf(network, node);
    const { layer, next, parts: found, value: total } = explainBackward(network, node, at);
    if (!layer) return [title(focus, values, "rule_back_loss"), fromLoss(at)];
    const special = `rule_back_${layer.kind.elementwise ? "elementwise" : layer.name}`;
    const head = title(focus, values, hasText(special) ? special : "rule_back");
    const used = layer.winner
      ? found
          .map((part) => ({ ...part, terms: part.terms.filter((term) => term.factor !== 0) }))
          .filter((part) => part.terms.length)
      : found;
    if (!used.length) return [head, h("p", { class: "empty" }, text("noGradient"))];
    if (layer.rows) return [head, flowOf(...added(layer.backs, layer, at, { node: next, at }, "dy"))];
    if (!layer.kind.elementwise) return [head, flowOf(...handedBack(layer, next, used, total))];
    const [term] = used[0].terms;
    const dy = wide(text("gradientOf", { name: layer.name }), term.dy, { node: next, at: term.to }, "gradients");
    const slope = [wide(text("slopeHere"), term.factor), curve(layer, at)];
    return [head, flowOf(dy, "×", ...slope, "=", wide("dy", total, null, "gradients"))];
  }

  function handedBack(layer, next, parts, total) {
    const part = pickPart(parts);
    const shape = shapeOf(network, next);
    const vector = wordsOf(network, next, 0).vector;
    const name = (map) => (vector ? nameOf(network, next) : text("inputMap", { map }));
    const result = [];
    const box = boxOf(
      shape,
      part.map,
      part.terms.map((term) => term.to),
    );
    const places = new Map();
    for (const term of part.terms) {
      const { row, column } = placeOf(shape, term.to);
      places.set((row - box.top) * box.columns + column - box.left, term);
    }
    const cells = (key) =>
      Array.from({ length: box.rows * box.columns }, (_, i) => {
        const term = places.get(i);
        if (!term) return null;
        const to = key === "dy" ? { node: next, at: term.to } : null;
        return { value: term[key], to, title: `${place(next, term.to)}: ${number(term[key], 4)}` };
      });
    const most = (key) => largest(part.terms.map((term) => term[key]));
    const figure = (caption, key, scale) => grid(caption, box.rows, box.columns, cells(key), most(key), scale);
    const where = vector ? "" : `, ${name(part.map)}`;
    result.push(figure(text("gradientOf", { name: nameOf(network, next) }) + where, "dy", "gradients"), "×");
    result.push(
      figure(text(layer.window && layer.kind.weightGradient ? "weightsTurned" : "weightsName"), "factor", "values"),
      "=",
    );
    result.push(figure(text("products"), "product", "gradients"));
    const sum = parts.reduce((a, one) => a + one.sum, 0);
    const rest = Math.abs(sum - total) > 1e-4 * Math.max(Math.abs(total), 1e-6) && layer.own ? total - sum : null;
    if (vector)
      result.push(
        largestProducts(
          part.terms,
          rest,
          total,
          (term) => `${place(next, term.to)}: ${number(term.dy)} × ${bracketed(term.factor)}`,
          "gradients",
        ),
      );
    else {
      result.push(sumsOfParts(parts, part, null, total, name, "gradients"));
      if (rest !== null) result.push(wide(text("throughStatistics"), rest, null, "gradients"));
    }
    return result;
  }

  function fromLoss(at) {
    const truth = at === app.targetClass;
    const { name } = app.loss;
    const logits = name === "softmax-cross-entropy" || name === "maximum-a-posteriori";
    const [dy, target] = [app.dscores[at], truth ? 1 : 0];
    const flow = flowOf(
      logits ? wide(text("probability"), dy + target) : wide(text("score"), app.scores[at]),
      "−",
      wide(text("trueClass"), target),
      logits ? "=" : "→",
      wide("dy", dy, null, "gradients"),
    );
    const factor = name === "mean-squared-error" ? number(2 / app.scores.length) : "1";
    const key = { "softmax-cross-entropy": "lossSoftmax", "maximum-a-posteriori": "lossMap" }[name] ?? "lossSquares";
    return h("div", {}, h("p", { class: "soft small" }, text(key, { factor })), flow);
  }

  app.listen((what) => {
    if (what === "focus") chosen = null;
    draw();
  });
  draw();
  return { element, draw };
}
