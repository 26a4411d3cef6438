/** Curves over steps or epochs. */

import { number, svg } from "../dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [420, 150, 44, 18];

/** lines: [{ points: [[x, y], ...], colour }]; from 0 up, or between `low` and `high` where these are given. */
export function curves(lines, label, { low = 0, high = null } = {}) {
  const points = lines.flatMap((line) => line.points).filter(([, y]) => Number.isFinite(y));
  const picture = svg("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  if (!points.length) return picture;
  const [first, last] = [Math.min(...points.map((p) => p[0])), Math.max(...points.map((p) => p[0]))];
  const top = high ?? (Math.max(...points.map((p) => p[1])) * 1.05 || 1);
  const x = (v) => LEFT + ((v - first) / Math.max(last - first, 1e-9)) * (WIDTH - LEFT - 6);
  const y = (v) => HEIGHT - BOTTOM - ((Math.min(v, top) - low) / (top - low)) * (HEIGHT - BOTTOM - 8);
  for (const share of [0, 0.5, 1]) {
    const v = low + share * (top - low);
    picture.append(svg("line", { class: "axis", x1: LEFT, x2: WIDTH - 6, y1: y(v), y2: y(v) }));
    picture.append(words(number(v, 2), LEFT - 5, y(v) + 4, "end"));
  }
  picture.append(words(String(first), LEFT, HEIGHT - 4, "start"), words(String(last), WIDTH - 6, HEIGHT - 4, "end"));
  for (const { points: line, colour } of lines) {
    const places = line.filter(([, v]) => Number.isFinite(v)).map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`);
    if (places.length === 1)
      picture.append(svg("circle", { cx: places[0].split(" ")[0], cy: places[0].split(" ")[1], r: 2.5, fill: colour }));
    else if (places.length) picture.append(svg("path", { d: `M${places.join("L")}`, stroke: colour }));
  }
  return picture;
}

function words(content, x, y, anchor) {
  return svg("text", { x, y, "text-anchor": anchor }, content);
}

/** At most `most` points, each the mean of those it stands for. */
export function thinned(points, most) {
  const size = Math.ceil(points.length / most);
  if (size <= 1) return points;
  const result = [];
  for (let k = 0; k < points.length; k += size) {
    const part = points.slice(k, k + size);
    result.push([part.at(-1)[0], part.reduce((sum, p) => sum + p[1], 0) / part.length]);
  }
  return result;
}
