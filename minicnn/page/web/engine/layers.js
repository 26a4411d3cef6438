/**
 * The layers by their names. A layer is one object:
 *
 *   shape(options, inShape, layer)      the shape of a sample behind it
 *   setUp(layer)                        what it makes once for its shapes (may be left out)
 *   rows                                the options that are layers; layer.rows has them, built for its input, an
 *                                       empty row for none (may be left out)
 *   forward(layer, x, y, n, training)   writes y for n samples, one behind the other
 *   backward(layer, x, y, dy, dx, n)    writes dx and the gradients (layer.dweight, layer.dbias) from dy
 *   sources(layer, at, visit)           visit(input, weight, map) for each input of output `at`
 *   users(layer, at, visit)             visit(output, weight) for each output that saw input `at`
 *
 * and for the explanations, where they apply: weightAt, biasAt, factorAt, termAt and slopeAt, derivative,
 * weightGradient, filters. `passes` marks a layer that changes nothing that could be seen.
 */

import { ACTIVATIONS, Dropout, Dropout2d, LogSoftmax, Softmax } from "./activation.js";
import { Conv2d, LocallyConnected2d } from "./conv.js";
import { Dense, Flatten, RadialBasis } from "./dense.js";
import { BatchNorm1d, BatchNorm2d } from "./norm.js";
import { GlobalMeanPool, MaxPool, MeanPool, Subsample } from "./pool.js";
import { Residual } from "./residual.js";

export const LAYERS = {
  ...ACTIVATIONS,
  BatchNorm1d,
  BatchNorm2d,
  Conv2d,
  Dense,
  Dropout,
  Dropout2d,
  Flatten,
  GlobalMeanPool,
  LocallyConnected2d,
  LogSoftmax,
  MaxPool,
  MeanPool,
  RadialBasis,
  Residual,
  Softmax,
  Subsample,
};
