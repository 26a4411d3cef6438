/** What Python has put into the page: numbers and images in base64. */

function bytes(text) {
  const binary = atob(text);
  const result = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) result[i] = binary.charCodeAt(i);
  return result;
}

/** Bytes that zlib has compressed. */
export async function unpacked(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export const floats = (text) => new Float32Array(bytes(text).buffer);

/** Numbers of 16 bits: a sign, 5 bits of exponent, 10 of fraction (IEEE 754). */
export function halves(text) {
  const words = new Uint16Array(bytes(text).buffer);
  return Float32Array.from(words, (word) => {
    const [exponent, fraction] = [(word >> 10) & 31, word & 1023];
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    return word & 0x8000 ? -size : size;
  });
}

export function base64(array) {
  const source = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (let i = 0; i < source.length; i += 0x8000) text += String.fromCharCode(...source.subarray(i, i + 0x8000));
  return btoa(text);
}

/** Images as the network takes them: (pixel / 255 - mean) / std, with `padding` pixels of black around each. */
export class Normalisation {
  constructor({ input_shape: shape, padding, mean, std }) {
    [this.channels, this.height, this.width] = shape;
    this.padding = padding;
    this.mean = [mean].flat();
    this.std = [std].flat();
    this.shape = [this.channels, this.height + 2 * padding, this.width + 2 * padding];
    this.size = this.shape[0] * this.shape[1] * this.shape[2];
    this.pixels = this.channels * this.height * this.width;
  }

  /** Writes the image that begins at `from` of `pixels` (uint8) to `to` of x. */
  write(pixels, from, x, to) {
    const { channels, height, width, padding, shape } = this;
    for (let c = 0; c < channels; c++) {
      const mean = this.mean[c % this.mean.length];
      const std = this.std[c % this.std.length];
      const first = to + c * shape[1] * shape[2];
      if (padding) x.fill(-mean / std, first, first + shape[1] * shape[2]);
      for (let i = 0; i < height; i++) {
        const row = first + (i + padding) * shape[2] + padding;
        for (let j = 0; j < width; j++) {
          x[row + j] = (pixels[from + (c * height + i) * width + j] / 255 - mean) / std;
        }
      }
    }
  }

  /** One image, ready for the network. */
  one(pixels, from = 0) {
    const x = new Float32Array(this.size);
    this.write(pixels, from, x, 0);
    return x;
  }
}
