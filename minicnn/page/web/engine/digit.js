/**
 * A drawn or photographed digit in the form of MNIST's: light on black, 28 x 28, centred. It follows `minicnn predict`
 * step by step; only frames around a digit, and sheets of paper that lie on something, are not looked for here.
 *
 * Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section III.A: the ink fits a
 * box of 20 x 20, its aspect ratio is kept, and its centre of mass lies in the middle of 28 x 28.
 */

import {
  around,
  blur,
  boxBlur,
  clamp,
  closing,
  cropped,
  mapped,
  median,
  percentile,
  pieces,
  plane,
  resample,
  shrunk,
  strokeWidth,
  thickened,
} from "./ink.js";

const [BOX, SIDE] = [20, 28];
const OVERVIEW = 512; // pixels: the longer side of the image in which the digit is looked for
const CLOSE_UP = 160; // pixels: that of the digit where its form is taken
const DARKEST = 0.15; // the paper: below this the noise of a camera would count as ink
const LEAST_CONTRAST = 0.06; // of ink against paper
const LEAST_SIGNAL = 5; // of ink against the noise of the paper, in its standard deviations
const SPECK = 0.04; // of the heaviest piece of ink: what has less is dirt
const FAINT = 0.12; // the share of ink that is taken for noise
const LEAST_STROKE = 1.8; // of 20

/** A digit that was drawn here, from 0 (paper) to 1 (ink); the paper is known. null where nothing is drawn. */
export function fromDrawing(drawing) {
  const found = mainPiece(drawing);
  if (!found) return null;
  return finished(closeUp(inverted(drawing), found, false), found, drawing);
}

/** A digit in a picture, an ImageData. null where there is no ink. */
export function fromPicture(image) {
  const grey = toGrey(image);
  const small = shrunk(grey, OVERVIEW);
  const dark = inkIsDark(small);
  const tones = dark ? small : inverted(small);
  const ink = findInk(tones, 0.4 * Math.max(tones.width, tones.height), 0.7, true);
  const found = ink && mainPiece(ink);
  if (!found) return null;
  const scale = grey.width / small.width;
  const box = Object.fromEntries(["left", "top", "right", "bottom"].map((side) => [side, found[side] * scale]));
  return finished(closeUp(dark ? grey : inverted(grey), box, true), found, ink);
}

/** An ImageData as the network takes it, only resized and made grey or colour: Uint8Array (C, H, W). */
export function fitted(image, [channels, height, width]) {
  const planes = [0, 1, 2].map((c) => channel(image, c));
  const mixed = channels === 1 ? [luma(planes)] : planes;
  const result = new Uint8Array(channels * height * width);
  mixed.forEach((one, c) => {
    resample(one, width, height, "bilinear").data.forEach((v, i) => {
      result[c * height * width + i] = Math.round(clamp(v, 0, 255));
    });
  });
  return result;
}

/** Red, green, blue or opacity of an ImageData, from 0 to 255. */
function channel({ width, height, data }, c) {
  return mapped(plane(width, height), (_, i) => data[4 * i + c]);
}

const luma = ([red, green, blue]) =>
  mapped(red, (r, i) => Math.round(0.299 * r + 0.587 * green.data[i] + 0.114 * blue.data[i]));

const inverted = (image) => mapped(image, (v) => 1 - v);

/** Grey from 0 to 1, in the mix of red, green and blue in which small things differ most from what is around them. */
function toGrey(image) {
  const alpha = channel(image, 3);
  const opaque = ({ data }) => data.filter((_, i) => alpha.data[i] >= 128);
  if (alpha.data.some((a) => a < 255)) {
    const tones = opaque(channel(image, 0));
    if (tones.length < 0.5 * alpha.data.length || percentile(tones, 0.98) - percentile(tones, 0.02) < 64) {
      return mapped(alpha, (a) => 1 - a / 255); // what is opaque is the ink
    }
  }
  const planes = [0, 1, 2].map((c) => {
    const tones = channel(image, c);
    const paper = median(opaque(tones));
    return mapped(tones, (v, i) => (v * alpha.data[i] + paper * (255 - alpha.data[i])) / 255);
  });
  const details = planes.map((one) => {
    const small = shrunk(one, 256);
    const around = boxBlur(small, Math.max(small.width, small.height) / 8);
    return small.data.map((v, i) => v - around.data[i]);
  });
  let mix = [1, 1, 1];
  for (let round = 0; round < 30; round++) {
    const along = details[0].map((_, i) => details.reduce((sum, one, c) => sum + mix[c] * one[i], 0));
    mix = details.map((one) => one.reduce((sum, v, i) => sum + v * along[i], 0));
    const length = Math.hypot(...mix) || 1;
    mix = mix.map((m) => m / length);
  }
  const size = mix.reduce((sum, m) => sum + Math.abs(m), 0) || 1;
  const sign = mix[0] + mix[1] + mix[2] >= 0 ? 1 : -1;
  mix = size === 1 && !mix.some(Boolean) ? [1 / 3, 1 / 3, 1 / 3] : mix.map((m) => (sign * m) / size);
  const darkest = mix.reduce((sum, m) => sum + Math.min(m, 0), 0);
  const grey = mapped(alpha, (_, i) => planes.reduce((sum, one, c) => sum + mix[c] * one.data[i], 0) / 255 - darkest);
  const brightest = Math.max(percentile(grey.data, 0.995), 0.02);
  return mapped(grey, (v) => clamp(v / brightest));
}

/** Whether what differs from the median of a wide window is darker than it: there is less ink than paper. */
function inkIsDark(grey) {
  const { width, height, data } = shrunk(grey, 48);
  const radius = Math.floor((1.5 * Math.min(width, height)) / 4);
  const tones = data.map((v) => Math.round(255 * v));
  const edge = tones.filter((_, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    return x === 0 || y === 0 || x === width - 1 || y === height - 1;
  });
  const rim = median(edge);
  const even = median(edge.map((v) => Math.abs(v - rim))) <= 4;
  let sum = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const near = [];
      for (let v = y - radius; v <= y + radius; v++) {
        for (let u = x - radius; u <= x + radius; u++) {
          const outside = u < 0 || v < 0 || u >= width || v >= height;
          if (outside && even) near.push(rim);
          else near.push(tones[clamp(v, 0, height - 1) * width + clamp(u, 0, width - 1)]);
        }
      }
      sum += (tones[y * width + x] - median(near)) ** 3;
    }
  }
  return sum <= 0;
}

/** 0 where there is paper, 1 where ink takes away as much light as its median does; null where there is none. */
function findInk(grey, window, sigma, unknownPaper) {
  const smooth = blur(grey, sigma);
  const light = unknownPaper ? closing(smooth, Math.round(window)).data : null;
  const away = mapped(smooth, (v, i) => (light ? (light[i] - v) / Math.max(light[i], DARKEST) : 1 - v));
  const missing = away.data;
  let [paper, ink] = [0, percentile(missing, 0.9997)];
  for (let round = 0; round < 30; round++) {
    const middle = (paper + ink) / 2;
    const dark = missing.filter((v) => v > middle);
    if (dark.length === 0 || dark.length === missing.length) return null;
    const before = ink;
    paper = median(missing.filter((v) => v <= middle));
    ink = median(dark);
    if (Math.abs(ink - before) < 1e-3) break;
  }
  const rest = missing.filter((v) => v <= (paper + ink) / 2);
  const noise = 1.4826 * median(rest.map((v) => Math.abs(v - paper)));
  if (ink - paper < Math.max(LEAST_CONTRAST, LEAST_SIGNAL * noise)) return null;
  return mapped(away, (v) => (v - paper) / (ink - paper));
}

/** The heaviest piece of ink, with those beside it that are no specks; what touches the border only if all does. */
function mainPiece(ink) {
  let found = pieces(ink, 0.5);
  const least = 0.12 * Math.min(ink.width, ink.height);
  const inside = found.filter((piece) => piece.inside);
  if (inside.some((piece) => piece.size >= least)) found = inside;
  if (!found.length) return null;
  const main = found.reduce((a, b) => (b.weight > a.weight ? b : a));
  const distance = (a) =>
    Math.max(0, a.top - main.bottom, main.top - a.bottom, a.left - main.right, main.left - a.right);
  const chosen = found.filter((p) => p.weight > SPECK * main.weight && distance(p) < 0.3 * main.size);
  return { ...around(chosen), pixels: chosen.flatMap((p) => p.pixels) };
}

/** The ink of the digit alone, from 0 to 1, in a window around it. */
function closeUp(grey, { left, top, right, bottom }, unknownPaper) {
  const longer = Math.max(right - left, bottom - top);
  const margin = 0.4 * longer;
  const part = cropped(
    grey,
    Math.max(0, Math.trunc(left - margin)),
    Math.max(0, Math.trunc(top - margin)),
    Math.min(grey.width, Math.trunc(right + margin + 1)),
    Math.min(grey.height, Math.trunc(bottom + margin + 1)),
  );
  const side = Math.max(part.width, part.height);
  const small = shrunk(part, (CLOSE_UP * side) / longer);
  const size = (longer * Math.max(small.width, small.height)) / side;
  let ink = findInk(small, 0.5 * size, 0.0125 * size, unknownPaper);
  if (ink && unknownPaper) {
    const narrow = 4 * strokeWidth(mapped(ink, (v) => (v > 0.5 ? 1 : 0)));
    if (narrow < 0.5 * size) ink = findInk(small, narrow, 0.0125 * size, true) ?? ink;
  }
  const found = ink && mainPiece(ink);
  if (!found) return null;
  const mask = plane(ink.width, ink.height);
  for (const at of found.pixels) mask.data[at] = 1;
  const near = thickened(mask, Math.max(1.5, 0.04 * size));
  return mapped(ink, (v, i) => near.data[i] * clamp((v - FAINT) / (1 - FAINT)));
}

/** The digit scaled to 20 pixels, then moved so that its centre of mass is the middle of 28 x 28. */
function finished(alone, box, ink) {
  const scaled = alone && intoBox(alone);
  if (!scaled) return null;
  const { width, height, data } = scaled;
  let [sum, x, y] = [0, 0, 0];
  data.forEach((v, i) => {
    sum += v;
    x += v * (i % width);
    y += v * Math.floor(i / width);
  });
  const centre = [x / sum, y / sum];
  const [left, top] = [width, height].map((length, a) => clamp(Math.round(SIDE / 2 - centre[a]), 0, SIDE - length));
  const pixels = new Uint8Array(SIDE * SIDE);
  data.forEach((v, i) => {
    pixels[(top + Math.floor(i / width)) * SIDE + left + (i % width)] = Math.round(255 * v);
  });
  return { pixels, ink, box, scaled, left, top, centre: [left + centre[0], top + centre[1]] };
}

/** Cut out, scaled to 20 pixels along its longer side, with strokes that are wide enough to see. */
function intoBox(alone) {
  const { left, top, right, bottom } = around(pieces(alone, 0.3));
  if (!Number.isFinite(left)) return null;
  let ink = cropped(alone, left, top, right, bottom);
  const radius = ((LEAST_STROKE * Math.max(ink.width, ink.height)) / BOX - strokeWidth(ink)) / 2;
  if (radius > 0.5) {
    const border = Math.ceil(radius);
    const wide = plane(ink.width + 2 * border, ink.height + 2 * border);
    for (let y = 0; y < ink.height; y++) {
      wide.data.set(ink.data.subarray(y * ink.width, (y + 1) * ink.width), (y + border) * wide.width + border);
    }
    ink = thickened(wide, radius);
  }
  const longer = Math.max(ink.width, ink.height);
  const size = (length) => Math.max(1, Math.round((length * BOX) / longer));
  const scaled = resample(ink, size(ink.width), size(ink.height), longer >= 2 * BOX ? "box" : "bicubic");
  const clipped = mapped(scaled, (v) => clamp(v));
  const most = clipped.data.reduce((a, b) => Math.max(a, b), 0);
  return mapped(clipped, (v) => v / most);
}
