/** Elements of the page, and what they have in common. */

/** An element: h("button", { class: "plain", onclick }, "text", child). */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(element.style, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A length that is so many pixels on a laptop, and grows with the screen, as all lengths in style.css do. */
export const rem = (pixels) => `${pixels / 15}rem`;

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function button(content, onclick, properties = {}) {
  return h("button", { type: "button", onclick, ...properties }, content);
}

export const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** Arrow keys, those for up and down only if `vertical`, go from each button of a group to the next, and choose it. */
export function walkable(group, buttons, vertical = true) {
  group.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step || (step[0] && !vertical)) return;
    event.preventDefault();
    const place = buttons.indexOf(document.activeElement) + step[0] + step[1];
    const next = buttons[(place + buttons.length) % buttons.length];
    next.focus();
    next.click();
  });
}

/** A group of buttons of which one is chosen: [[value, text], ...]. */
export function choice(label, options, chosen, change) {
  const buttons = options.map(([value, text]) =>
    button(text, () => set(value, true), { role: "radio", "data-value": value }),
  );
  const group = h("div", { class: "choice", role: "radiogroup", "aria-label": label }, buttons);
  walkable(group, buttons);
  function set(value, tell = false) {
    for (const one of buttons) {
      const on = one.dataset.value === value;
      one.setAttribute("aria-checked", on);
      one.tabIndex = on ? 0 : -1;
    }
    if (tell) change(value);
  }
  set(chosen);
  group.set = set;
  return group;
}

/** Four significant figures, in a width that changes little, with a true minus sign. */
export function number(value, figures = 3) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size === 0) return "0";
  const text =
    size >= 1e5 || size < 1e-3
      ? size.toExponential(figures - 2)
      : size.toFixed(Math.max(0, figures - (size >= 10 ? 1 : 0) - (size >= 100 ? 1 : 0)));
  return (value < 0 ? "\u2212" : "") + text.replace("e-", "e\u2212").replace("e+", "e");
}

/** A number in a narrow cell: at most five signs and the minus. */
export function short(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  const text =
    size < 0.0005
      ? size.toExponential(0).replace("e-", "e\u2212")
      : size < 10
        ? size.toFixed(size < 0.095 ? 3 : 2)
        : size.toFixed(size < 100 ? 1 : 0);
  return (value < 0 ? "\u2212" : "") + text;
}

/** A share in per cent, never 100 nor 0: a network is not that sure. */
export function percent(share) {
  if (share > 0.9995) return ">99.9 %";
  if (share < 0.0005) return "<0.1 %";
  return `${(100 * share).toFixed(1)} %`;
}

/** A share that was counted, in per cent. */
export function counted(share) {
  return `${(100 * share).toFixed(share === 0 || share === 1 ? 0 : 1)} %`;
}
