/** What explanations are made of: numbers as coloured cells, lists with bars, and the curve of a function. */

import { button, h, number, short, svg } from "../dom.js";
import { colour, isDark, largest } from "../draw.js";

const TIGHT = 60; // cells: above that they have colours only

const sign = (mark) => h("span", { class: "sign", "aria-hidden": "true" }, mark);

/** Pieces one behind the other; strings are the signs between them. */
export function flowOf(...pieces) {
  const parts = pieces.map((piece) => (typeof piece === "string" ? sign(piece) : piece));
  return h("div", { class: "flow" }, parts);
}

function bar(value, most, scale) {
  const share = most > 0 ? (50 * Math.abs(value)) / most : 0;
  const left = value < 0 ? 50 - share : 50;
  return h(
    "div",
    { class: "mini" },
    h("i", { style: { left: `${left}%`, width: `${share}%`, background: colour(Math.sign(value) * 0.7, 1, scale) } }),
  );
}

/** The curve of an activation, with the point where it is. */
export function curve(layer, at) {
  const { value: f } = layer.kind;
  const x = layer.x[at];
  const reach = Math.max(3, Math.ceil(Math.abs(x) * 1.1));
  const points = Array.from({ length: 121 }, (_, i) => {
    const t = -reach + (i * reach) / 60;
    return [t, f(t, layer.options)];
  });
  const high = Math.max(...points.map((p) => Math.abs(p[1])), Math.abs(layer.y[at]));
  const path = () => points.map(([t, v]) => `${px(t)} ${py(v)}`).join("L");
  const [px, py] = [(t) => 130 + (t * 120) / reach, (v) => 80 - (v * 70) / high];
  return svg(
    "svg",
    {
      class: "function",
      viewBox: "0 0 260 160",
      role: "img",
      "aria-label": `${layer.name}: ${number(x)} → ${number(layer.y[at])}`,
    },
    svg("path", { d: "M0 80H260M130 0V160", stroke: "#dcd9d1", fill: "none" }),
    svg("path", { d: `M${px(x)} 80V${py(layer.y[at])}`, stroke: "#d1495b", "stroke-dasharray": "3 3", fill: "none" }),
    svg("path", { d: `M${path()}`, stroke: "#1c5fa8", "stroke-width": 2.5, fill: "none" }),
    svg("circle", { cx: px(x), cy: py(layer.y[at]), r: 5, fill: "#d1495b" }),
  );
}

/** The pieces that one can click on; look(focus) goes to a number. */
export function piecesFor(look) {
  /** Numbers as coloured cells; cell(i): { value, to: focus or null, wins, outside, title } or null for a hole. */
  function grid(caption, rows, columns, cells, most, scale = "values") {
    const tight = rows * columns > TIGHT;
    const body = h("div", {
      class: `cells${tight ? " tight" : ""}${tight && rows > 12 ? " high" : ""}${rows * columns === 1 ? " wide" : ""}`,
      style: { gridTemplateColumns: `repeat(${columns}, max-content)` },
    });
    for (const cell of cells) {
      if (!cell) {
        body.append(h("span", { style: { background: "var(--paper)" } }));
        continue;
      }
      const style = { background: colour(cell.value, most, scale), color: isDark(cell.value, most) ? "#fff" : "" };
      const properties = { style, title: cell.title ?? (tight ? number(cell.value) : undefined) };
      properties.class = [cell.wins && "wins", cell.outside && "outside"].filter(Boolean).join(" ") || undefined;
      const label = tight ? "" : short(cell.value);
      body.append(
        cell.to
          ? button(label, () => look(cell.to), { ...properties, "aria-label": cell.title ?? label })
          : h("span", properties, label),
      );
    }
    return h("figure", { class: "grid" }, h("figcaption", {}, caption), body);
  }

  /** Rows { name, value, pick, chosen } with bars, and their total. */
  function table(head, rows, total, scale) {
    const most = largest(rows.map((row) => row.value));
    const body = rows.map(({ name, value: v, pick, picked }) =>
      h(
        "tr",
        pick
          ? {
              tabindex: 0,
              class: picked ? "chosen" : undefined,
              onclick: pick,
              onkeydown: (event) => event.key === "Enter" && pick(),
            }
          : {},
        h("td", {}, name),
        h("td", {}, v === null ? "" : number(v)),
        h("td", {}, v === null ? "" : bar(v, most, scale)),
      ),
    );
    if (total)
      body.push(h("tr", { class: "total" }, h("td", {}, total.name), h("td", {}, number(total.value)), h("td")));
    const list = h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, body)));
    return h("div", { class: "end" }, h("div", { class: "sums" }, h("p", { class: "label" }, head), list));
  }

  const wide = (caption, v, to, scale) =>
    grid(caption, 1, 1, [{ value: v, to, title: number(v, 5) }], Math.max(Math.abs(v), 1e-12) * 1.6, scale);

  return { grid, table, wide };
}
