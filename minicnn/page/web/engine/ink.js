/** Ink on paper: filters that tell one from the other, and the connected pieces of it. A plane is {width, height, data}. */

export function plane(width, height, data = new Float32Array(width * height)) {
  return { width, height, data };
}

/** change(value, index) of each of its numbers. */
export const mapped = ({ width, height, data }, change) => plane(width, height, data.map(change));

export const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));

const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [
    2,
    (x) => {
      const t = Math.abs(x);
      if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
      return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
    },
  ],
};

/** For each of `out` pixels the first of the `size` pixels it comes from, and their weights, whose sum is 1. */
function weights(size, out, [reach, filter]) {
  const scale = size / out;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: out }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach * stretch + 0.5));
    const last = Math.min(size, Math.floor(centre + reach * stretch + 0.5));
    const row = Array.from({ length: last - first }, (_, k) => filter((first + k - centre + 0.5) / stretch));
    const sum = row.reduce((a, b) => a + b, 0);
    return [first, row.map((w) => w / sum)];
  });
}

/** Resizes with antialiasing: where it shrinks, each pixel is a weighted mean of all that it replaces. */
export function resample({ width, height, data }, newWidth, newHeight, name) {
  const across = plane(newWidth, height);
  weights(width, newWidth, FILTERS[name]).forEach(([first, row], i) => {
    for (let y = 0; y < height; y++) {
      let sum = 0;
      for (let k = 0; k < row.length; k++) sum += row[k] * data[y * width + first + k];
      across.data[y * newWidth + i] = sum;
    }
  });
  const result = plane(newWidth, newHeight);
  weights(height, newHeight, FILTERS[name]).forEach(([first, row], j) => {
    for (let x = 0; x < newWidth; x++) {
      let sum = 0;
      for (let k = 0; k < row.length; k++) sum += row[k] * across.data[(first + k) * newWidth + x];
      result.data[j * newWidth + x] = sum;
    }
  });
  return result;
}

/** The plane with a longer side of at most `side`. */
export function shrunk(image, side) {
  const longer = Math.max(image.width, image.height);
  if (longer <= side) return image;
  const size = (length) => Math.max(1, Math.round((length * side) / longer));
  return resample(image, size(image.width), size(image.height), "box");
}

export function cropped({ width, data }, left, top, right, bottom) {
  const part = plane(right - left, bottom - top);
  for (let y = top; y < bottom; y++) {
    part.data.set(data.subarray(y * width + left, y * width + right), (y - top) * part.width);
  }
  return part;
}

/** Runs line(get, set, length) over all rows, then over all columns of what came out. */
function separably(image, line) {
  let { data } = image;
  const { width, height } = image;
  for (const [count, length, outer, inner] of [
    [height, width, width, 1],
    [width, height, 1, width],
  ]) {
    const result = new Float32Array(data.length);
    const values = new Float32Array(length);
    for (let i = 0; i < count; i++) {
      for (let k = 0; k < length; k++) values[k] = data[i * outer + k * inner];
      const changed = line(values);
      for (let k = 0; k < length; k++) result[i * outer + k * inner] = changed[k];
    }
    data = result;
  }
  return plane(width, height, data);
}

/** Convolution with a Gaussian, cut at three sigma; the border is continued. */
export function blur(image, sigma) {
  if (sigma < 0.2) return image;
  const radius = Math.ceil(3 * sigma);
  const kernel = Array.from({ length: 2 * radius + 1 }, (_, k) => Math.exp(-0.5 * ((k - radius) / sigma) ** 2));
  const sum = kernel.reduce((a, b) => a + b);
  return separably(image, (values) => {
    const last = values.length - 1;
    return values.map((_, i) => {
      let total = 0;
      for (let k = -radius; k <= radius; k++) total += kernel[k + radius] * values[clamp(i + k, 0, last)];
      return total / sum;
    });
  });
}

/** The mean over 2 radius + 1 pixels each way; the border is continued. */
export function boxBlur(image, radius) {
  return separably(image, (values) => {
    const last = values.length - 1;
    const sums = new Float64Array(values.length + 1);
    for (let i = 0; i <= last; i++) sums[i + 1] = sums[i] + values[i];
    return values.map((_, i) => {
      const from = Math.max(0, Math.round(i - radius));
      const to = Math.min(last, Math.round(i + radius));
      const outside = 2 * radius - (to - from);
      return (sums[to + 1] - sums[from] + outside * values[i < radius ? 0 : last]) / (2 * radius + 1);
    });
  });
}

/** The maximum over `radius` pixels each way of a line that is continued at its ends. */
function slidingMax(values, radius) {
  const result = new Float32Array(values.length);
  const queue = new Int32Array(values.length);
  let [head, tail, next] = [0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    for (; next < values.length && next <= i + radius; next++) {
      while (tail > head && values[queue[tail - 1]] <= values[next]) tail--;
      queue[tail++] = next;
    }
    while (queue[head] < i - radius) head++;
    result[i] = values[queue[head]];
  }
  return result;
}

/** Grey closing by a square: what is dark and narrower than `size` takes its surroundings' tone; slopes stay. */
export function closing(image, size) {
  const radius = size >> 1;
  const { width, height, data } = image;
  const wide = plane(width + 4 * radius, height + 4 * radius);
  for (let y = 0; y < wide.height; y++) {
    const row = clamp(y - 2 * radius, 0, height - 1) * width;
    for (let x = 0; x < wide.width; x++) {
      wide.data[y * wide.width + x] = data[row + clamp(x - 2 * radius, 0, width - 1)];
    }
  }
  const negative = (image) => mapped(image, (v) => -v);
  const dilate = (image) => separably(image, (values) => slidingMax(values, radius));
  const eroded = negative(dilate(negative(dilate(wide))));
  return cropped(eroded, 2 * radius, 2 * radius, 2 * radius + width, 2 * radius + height);
}

/** The maximum over a disc around each pixel; beyond the border is 0. */
export function thickened(image, radius) {
  const { width, height, data } = image;
  const reach = Math.floor(radius);
  const result = plane(width, height, data.slice());
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      if (dy * dy + dx * dx > radius * radius) continue;
      for (let y = Math.max(0, -dy); y < Math.min(height, height - dy); y++) {
        for (let x = Math.max(0, -dx); x < Math.min(width, width - dx); x++) {
          const value = data[(y + dy) * width + x + dx];
          if (value > result.data[y * width + x]) result.data[y * width + x] = value;
        }
      }
    }
  }
  return result;
}

/** 2 area / outline of ink from 0 to 1, the width of a long stroke; the outline is the total variation. */
export function strokeWidth({ width, height, data }) {
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? data[y * width + x] : 0);
  let [area, outline] = [0, 0];
  for (let y = -1; y < height; y++) {
    for (let x = -1; x < width; x++) {
      const here = at(x, y);
      area += here;
      outline += Math.hypot(at(x, y + 1) - here, at(x + 1, y) - here);
    }
  }
  return outline ? (2 * area) / outline : 0;
}

/** The box around several pieces. */
export function around(found) {
  return {
    left: Math.min(...found.map((piece) => piece.left)),
    top: Math.min(...found.map((piece) => piece.top)),
    right: Math.max(...found.map((piece) => piece.right)),
    bottom: Math.max(...found.map((piece) => piece.bottom)),
  };
}

/** The connected pieces of what is above `level`, over corners too: boxes (ends excluded), weights, and pixels. */
export function pieces({ width, height, data }, level) {
  const seen = new Uint8Array(data.length);
  const found = [];
  for (let start = 0; start < data.length; start++) {
    if (seen[start] || data[start] <= level) continue;
    const piece = { left: width, top: height, right: 0, bottom: 0, weight: 0, pixels: [start] };
    seen[start] = 1;
    for (let k = 0; k < piece.pixels.length; k++) {
      const at = piece.pixels[k];
      const [x, y] = [at % width, Math.floor(at / width)];
      piece.weight += data[at];
      piece.left = Math.min(piece.left, x);
      piece.right = Math.max(piece.right, x + 1);
      piece.top = Math.min(piece.top, y);
      piece.bottom = Math.max(piece.bottom, y + 1);
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const near = v * width + u;
          if (!seen[near] && data[near] > level) {
            seen[near] = 1;
            piece.pixels.push(near);
          }
        }
      }
    }
    piece.size = Math.max(piece.right - piece.left, piece.bottom - piece.top);
    piece.inside = piece.left > 0 && piece.top > 0 && piece.right < width && piece.bottom < height;
    found.push(piece);
  }
  return found;
}

/** The value below which a share of the numbers lies. */
export function percentile(values, share) {
  if (!values.length) return Number.NaN;
  const sorted = Float32Array.from(values).sort();
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)];
  return low + (at % 1) * (sorted[Math.ceil(at)] - low);
}

export const median = (values) => percentile(values, 0.5);
