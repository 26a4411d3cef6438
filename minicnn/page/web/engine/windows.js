/** Windows that slide over maps: one table says which input each tap of each window takes. */

/** The window of a layer's options: sizes, strides, dilation, padding above and left and, in `ends`, below and right. */
export function windowOf(options) {
  const { kernel_size: kernel, stride = kernel, padding: given = [0, 0], dilation = [1, 1] } = options;
  const [top, bottom, left, right] = given.length === 4 ? given : [given[0], given[0], given[1], given[1]];
  return { kernel, stride, padding: [top, left], ends: [bottom, right], dilation };
}

/** The number of windows along each side, as a convolution counts them. */
export function windowCounts([height, width], { kernel, stride, padding, ends, dilation }) {
  return [height, width].map((n, a) =>
    Math.floor((n + padding[a] + ends[a] - dilation[a] * (kernel[a] - 1) - 1) / stride[a] + 1),
  );
}

/** Int32Array (places, channels taps): the number of each input in (channels, H, W), -1 beyond the edge. */
export function windowTable(channels, [height, width], [rows, columns], window) {
  const { kernel, stride, padding, dilation } = window;
  const table = new Int32Array(rows * columns * channels * kernel[0] * kernel[1]);
  let at = 0;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      for (let c = 0; c < channels; c++) {
        for (let u = 0; u < kernel[0]; u++) {
          const h = i * stride[0] + u * dilation[0] - padding[0];
          for (let v = 0; v < kernel[1]; v++) {
            const w = j * stride[1] + v * dilation[1] - padding[1];
            const inside = h >= 0 && h < height && w >= 0 && w < width;
            table[at++] = inside ? (c * height + h) * width + w : -1;
          }
        }
      }
    }
  }
  return table;
}

/** What the windows see: patches[place, tap] = x[x0 + table[place, tap]], 0 beyond the edge. */
export function gather(x, x0, table, patches) {
  for (let i = 0; i < table.length; i++) {
    const from = table[i];
    patches[i] = from < 0 ? 0 : x[x0 + from];
  }
}

/** The way back: each input adds up what all the windows that saw it hand back. */
export function scatter(patches, table, dx, x0) {
  for (let i = 0; i < table.length; i++) {
    const to = table[i];
    if (to >= 0) dx[x0 + to] += patches[i];
  }
}
