/** Layers one after the other: a network, or what a layer is made of. Each keeps its x, y, dy and dx. */

/** The layers, and behind each those that it is made of. */
export function* everyLayer(layers) {
  for (const layer of layers) {
    yield layer;
    for (const row of layer.rows ?? []) yield* everyLayer(row);
  }
}

/** What the last layer gives for n samples, which lie one behind the other in x. */
export function forwardRow(layers, x, n, training) {
  let value = x;
  for (const layer of layers) {
    layer.x = value;
    if (!layer.y || layer.y.length !== n * layer.outSize) layer.y = new Float32Array(n * layer.outSize);
    layer.kind.forward(layer, layer.x, layer.y, n, training);
    value = layer.y;
  }
  return value;
}

/** dx of the layer `first`, from dy of the last one; not `all`: nobody needs that dx. */
export function backwardRow(layers, dy, n, first = 0, all = true) {
  let value = dy;
  for (let i = layers.length - 1; i >= first; i--) {
    const layer = layers[i];
    layer.dy = value;
    if (!layer.dx || layer.dx.length !== n * layer.inSize) layer.dx = new Float32Array(n * layer.inSize);
    layer.needsNoDx = i === first && !all;
    layer.kind.backward(layer, layer.x, layer.y, layer.dy, layer.dx, n);
    value = layer.dx;
  }
  return value;
}
