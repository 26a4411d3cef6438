/** Colours, and pictures of numbers. Both scales are safe for the colour-blind, and white is 0. */

/** Red, green and blue from white on. */
const towards = (...colours) =>
  ["ffffff", ...colours].map((hex) => [0, 2, 4].map((k) => Number.parseInt(hex.slice(k, k + 2), 16)));

const STOPS = {
  values: { less: towards("92c5de", "2166ac", "052656"), more: towards("fdb863", "d95f02", "6e2c00") },
  gradients: { less: towards("c2a5cf", "762a83", "380042"), more: towards("90cd92", "1b7837", "003414") },
};

const STEPS = 256; // on each side of 0

function colourAt(stops, share) {
  const at = share * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((c, k) => Math.round(c + (at - low) * (stops[low + 1][k] - c)));
}

function tableOf({ less, more }) {
  const table = new Uint32Array(2 * STEPS + 1);
  for (let i = -STEPS; i <= STEPS; i++) {
    const [r, g, b] = colourAt(i < 0 ? less : more, Math.abs(i) / STEPS);
    table[i + STEPS] = (255 << 24) | (b << 16) | (g << 8) | r; // as little-endian machines, all that browsers run on
  }
  return table;
}

const TABLES = Object.fromEntries(Object.entries(STOPS).map(([name, stops]) => [name, tableOf(stops)]));

/** The colour of a value on a scale from -most to most, as CSS. */
export function colour(value, most, scale = "values") {
  const share = most > 0 ? Math.max(-1, Math.min(1, value / most)) || 0 : 0; // 0 for NaN, too
  const { less, more } = STOPS[scale];
  return `rgb(${colourAt(share < 0 ? less : more, Math.abs(share)).join(" ")})`;
}

/** Whether text on that colour is to be white. */
export const isDark = (value, most) => Math.abs(value) > 0.5 * most;

/** The largest size of the numbers. */
export function largest(values, from = 0, to = values.length) {
  let most = 0;
  for (let i = from; i < to; i++) {
    const size = values[i] < 0 ? -values[i] : values[i];
    if (size > most) most = size;
  }
  return most;
}

/** Fills a canvas with what write(data) makes of the red, green, blue and opacity of its pixels. */
function fill(canvas, write) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  write(image.data);
  context.putImageData(image, 0, 0);
}

/** Paints numbers, from `first` on, into a canvas as many pixels wide and high as there are numbers. */
export function paint(canvas, values, first, most, scale) {
  const table = TABLES[scale];
  const factor = most > 0 ? STEPS / most : 0;
  fill(canvas, ({ buffer }) => {
    const pixels = new Uint32Array(buffer);
    const count = Math.min(pixels.length, values.length - first);
    for (let i = 0; i < count; i++) {
      const step = Math.round(values[first + i] * factor);
      pixels[i] = table[(step < -STEPS ? -STEPS : step > STEPS ? STEPS : step) + STEPS];
    }
  });
}

/** tone(i, c): that of each pixel in red, green and blue; as ink, the high ones are dark. */
function paintTones(canvas, tone, ink) {
  fill(canvas, (data) => {
    for (let i = 0; i < data.length; i++) {
      const value = i % 4 === 3 ? 255 : tone(i >> 2, i % 4);
      data[i] = ink && i % 4 < 3 ? 255 - value : value;
    }
  });
}

/** Paints numbers in grey, from `low` to `high`. */
export function paintGrey(canvas, values, first, low, high, ink) {
  const factor = high > low ? 255 / (high - low) : 0;
  paintTones(canvas, (i) => Math.max(0, Math.min(255, (values[first + i] - low) * factor)), ink);
}

/** Paints an image of uint8 (C, H, W) as it is, in grey or colour; characters as ink on paper. */
export function paintImage(canvas, pixels, first, [channels, height, width], ink) {
  Object.assign(canvas, { width, height });
  paintTones(canvas, (i, c) => pixels[first + (channels === 3 ? c : 0) * width * height + i], ink);
}

/** [rows, columns] in which a row of n numbers is shown. */
export function gridOf(n) {
  if (n <= 12) return [n, 1];
  for (let columns = Math.floor(Math.sqrt(n)); columns > 2; columns--) {
    if (n % columns === 0) return [n / columns, columns];
  }
  const columns = Math.ceil(Math.sqrt(n));
  return [Math.ceil(n / columns), columns];
}
