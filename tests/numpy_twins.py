"""The operations of minicnn once more, in NumPy and written for the eye: twins of the kernels.

One glossary: n image, c input channel, o output channel; (i, j) output position; k kernel size,
s stride, p padding, d dilation (each a pair: rows, columns). A window is the part of the padded
input that one output position sees.
"""

import math

import numpy as np


def window(i, j, k, s, d=(1, 1)):
    """The rows and columns of the padded input that output position (i, j) sees."""
    rows = slice(i * s[0], i * s[0] + (k[0] - 1) * d[0] + 1, d[0])
    columns = slice(j * s[1], j * s[1] + (k[1] - 1) * d[1] + 1, d[1])
    return rows, columns


def sides(p):
    """((top, bottom), (left, right)) of a pair or of all four."""
    return (p[:2], p[2:]) if len(p) == 4 else ((p[0], p[0]), (p[1], p[1]))


def pad(x, p, value=0.0):
    return np.pad(x, ((0, 0), (0, 0), *sides(p)), constant_values=value)


def unpad(x, p):
    (top, bottom), (left, right) = sides(p)
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def conv_size(size, k, s, p, d):
    return (size + sum(p) - d * (k - 1) - 1) // s + 1


def conv2d(x, weight, bias, s=(1, 1), p=(0, 0), d=(1, 1), groups=1):
    """y[n, o, i, j] = bias[o] + sum over the window of weight[o] * x[n, the group of o]."""
    out, k = weight.shape[0], weight.shape[2:]
    size = [conv_size(x.shape[2 + a], k[a], s[a], sides(p)[a], d[a]) for a in (0, 1)]
    y = np.zeros((len(x), out, *size), x.dtype)
    padded = pad(x, p)
    for o, channels in enumerate(group_of(out, x.shape[1], groups)):
        for i, j in np.ndindex(*size):
            rows, columns = window(i, j, k, s, d)
            y[:, o, i, j] = np.sum(weight[o] * padded[:, channels, rows, columns], axis=(1, 2, 3))
    return y if bias is None else y + bias[:, None, None]


def conv2d_backward(dy, x, weight, s=(1, 1), p=(0, 0), d=(1, 1), groups=1):
    """(dx, dweight, dbias): each product of the forward pass hands dy to both of its factors."""
    out, k = weight.shape[0], weight.shape[2:]
    padded = pad(x, p)
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for o, channels in enumerate(group_of(out, x.shape[1], groups)):
        for i, j in np.ndindex(*dy.shape[2:]):
            rows, columns = window(i, j, k, s, d)
            upstream = dy[:, o, i, j][:, None, None, None]
            dweight[o] += np.sum(upstream * padded[:, channels, rows, columns], axis=0)
            dpadded[:, channels, rows, columns] += upstream * weight[o]
    return unpad(dpadded, p), dweight, dy.sum(axis=(0, 2, 3))


def local2d(x, weight, bias, s=(1, 1), p=(0, 0), d=(1, 1)):
    """y[n, o, i, j] = bias[o, i, j] + sum over the window of weight[i, j, o] * x[n]."""
    size, k = weight.shape[:2], weight.shape[4:]
    y = np.zeros((len(x), weight.shape[2], *size), x.dtype)
    padded = pad(x, p)
    for i, j in np.ndindex(*size):
        rows, columns = window(i, j, k, s, d)
        y[:, :, i, j] = np.einsum("ncuv,ocuv->no", padded[:, :, rows, columns], weight[i, j])
    return y if bias is None else y + bias


def local2d_backward(dy, x, weight, s=(1, 1), p=(0, 0), d=(1, 1)):
    """(dx, dweight, dbias)."""
    padded, k = pad(x, p), weight.shape[4:]
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for i, j in np.ndindex(*weight.shape[:2]):
        rows, columns = window(i, j, k, s, d)
        upstream = dy[:, :, i, j]
        dweight[i, j] = np.einsum("no,ncuv->ocuv", upstream, padded[:, :, rows, columns])
        dpadded[:, :, rows, columns] += np.einsum("no,ocuv->ncuv", upstream, weight[i, j])
    return unpad(dpadded, p), dweight, dy.sum(axis=0)


def group_of(out, channels, groups):
    """For each output channel the slice of input channels that it sees."""
    width = channels // groups
    first = [o // (out // groups) * width for o in range(out)]
    return [slice(c, c + width) for c in first]


def pool_size(size, k, s, p, ceil_mode):
    """With ceil_mode the last window may hang over the end, but must not start beyond the input."""
    span = size + 2 * p - k
    if not ceil_mode:
        return span // s + 1
    count = -(-span // s) + 1
    return count - 1 if (count - 1) * s >= size + p else count


def pool_windows(x, k, s, p, ceil_mode):
    """(i, j, rows, columns) of each window, cut to the input: padding never takes part."""
    height, width = x.shape[2:]
    for i in range(pool_size(height, k[0], s[0], p[0], ceil_mode)):
        for j in range(pool_size(width, k[1], s[1], p[1], ceil_mode)):
            top, left = i * s[0] - p[0], j * s[1] - p[1]
            rows = slice(max(top, 0), min(top + k[0], height))
            columns = slice(max(left, 0), min(left + k[1], width))
            yield i, j, rows, columns


def pool_output(x, k, s, p, ceil_mode):
    size = [pool_size(x.shape[2 + a], k[a], s[a], p[a], ceil_mode) for a in (0, 1)]
    return np.zeros((*x.shape[:2], *size), x.dtype)


def max_pool(x, k, s, p=(0, 0), ceil_mode=False):
    y = pool_output(x, k, s, p, ceil_mode)
    for i, j, rows, columns in pool_windows(x, k, s, p, ceil_mode):
        y[:, :, i, j] = x[:, :, rows, columns].max(axis=(2, 3))
    return y


def max_pool_backward(dy, x, k, s, p=(0, 0), ceil_mode=False):
    """dy goes to the first maximum of its window in row-major order."""
    dx = np.zeros_like(x)
    for i, j, rows, columns in pool_windows(x, k, s, p, ceil_mode):
        for n, c in np.ndindex(*x.shape[:2]):
            part = x[n, c, rows, columns]
            first = np.unravel_index(np.argmax(part), part.shape)
            dx[n, c, rows, columns][first] += dy[n, c, i, j]
    return dx


def mean_divisor(x, i, j, rows, columns, k, s, p, count_include_pad):
    """The number of positions averaged: of the input alone, or of the input with its padding."""
    if not count_include_pad:
        return (rows.stop - rows.start) * (columns.stop - columns.start)
    height, width = x.shape[2:]
    high = min(i * s[0] + k[0], height + 2 * p[0]) - i * s[0]
    wide = min(j * s[1] + k[1], width + 2 * p[1]) - j * s[1]
    return high * wide


def mean_pool(x, k, s, p=(0, 0), ceil_mode=False, count_include_pad=True):
    y = pool_output(x, k, s, p, ceil_mode)
    for i, j, rows, columns in pool_windows(x, k, s, p, ceil_mode):
        n = mean_divisor(x, i, j, rows, columns, k, s, p, count_include_pad)
        y[:, :, i, j] = x[:, :, rows, columns].sum(axis=(2, 3)) / n
    return y


def mean_pool_backward(dy, x, k, s, p=(0, 0), ceil_mode=False, count_include_pad=True):
    """Each of the n averaged inputs receives dy / n."""
    dx = np.zeros_like(x)
    for i, j, rows, columns in pool_windows(x, k, s, p, ceil_mode):
        n = mean_divisor(x, i, j, rows, columns, k, s, p, count_include_pad)
        dx[:, :, rows, columns] += dy[:, :, i, j][:, :, None, None] / n
    return dx


def global_mean(x):
    return x.mean(axis=(2, 3), dtype=x.dtype)


def global_mean_backward(dy, x):
    """Each of the places of a map receives dy / (their number)."""
    return np.ones_like(x) * (dy / x[0, 0].size)[:, :, None, None]


def dense(x, weight, bias):
    y = x @ weight.T
    return y if bias is None else y + bias


def dense_backward(dy, x, weight):
    """(dx, dweight, dbias)."""
    return dy @ weight, dy.T @ x, dy.sum(axis=0)


def relu(x):
    return np.where(x < 0, x.dtype.type(0), x)  # written so that NaN stays NaN


def relu_backward(dy, x):
    return np.where(x > 0, dy, 0)


def leaky_relu(x, slope):
    return np.where(x > 0, x, slope * x)


def leaky_relu_backward(dy, x, slope):
    return np.where(x > 0, dy, slope * dy)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_backward(dy, x, alpha):
    return np.where(x > 0, dy, dy * alpha * np.exp(np.minimum(x, 0)))


def phi(x):
    """The distribution function of the normal distribution, and its derivative."""
    return np.vectorize(math.erfc)(-x / np.sqrt(2)) / 2, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def phi_tanh(x):
    """What GELU has in its place with approximate="tanh"."""
    root = np.sqrt(2 / np.pi)
    t = np.tanh(root * (x + 0.044715 * x**3))
    return (1 + t) / 2, (1 - t**2) / 2 * root * (1 + 3 * 0.044715 * x**2)


def gelu(x, phi):
    return x * phi(x)[0]


def gelu_backward(dy, x, phi):
    value, slope = phi(x)
    return dy * (value + x * slope)


def silu(x):
    return x * sigmoid(x)


def silu_backward(dy, x):
    return dy * sigmoid(x) * (1 + x * (1 - sigmoid(x)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sigmoid_backward(dy, x):
    return dy * sigmoid(x) * (1 - sigmoid(x))


def tanh_backward(dy, x):
    return dy * (1 - np.tanh(x) ** 2)


def scaled_tanh(x):
    return 1.7159 * np.tanh(2 / 3 * x)


def scaled_tanh_backward(dy, x):
    return dy * 1.7159 * 2 / 3 * (1 - np.tanh(2 / 3 * x) ** 2)


def softmax(x):
    """Over axis 1; the maximum is taken away first so that exp does not overflow."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(dy, x):
    y = softmax(x)
    return y * (dy - np.sum(dy * y, axis=1, keepdims=True))


def log_softmax(x):
    return np.log(softmax(x))


def log_softmax_backward(dy, x):
    return dy - softmax(x) * dy.sum(axis=1, keepdims=True)


def cross_entropy(logits, labels, smoothing=0.0):
    """(loss, dlogits): the mean of -sum(target * log softmax) and (softmax - target) / N."""
    n, classes = logits.shape
    target = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    probabilities = softmax(logits)
    return -np.sum(target * np.log(probabilities)) / n, (probabilities - target) / n


def weighted_cross_entropy(logits, target, smoothing, weights):
    """(loss, dlogits) for labels or probabilities, and a weight of each class or None."""
    n, classes = logits.shape
    weights, divisor = np.ones(classes) if weights is None else weights, n
    if target.ndim == 1:
        divisor, target = weights[target].sum(), np.eye(classes)[target]
    target = weights * ((1 - smoothing) * target + smoothing / classes)
    probabilities = softmax(logits)
    gradient = target.sum(axis=1, keepdims=True) * probabilities - target
    return -np.sum(target * np.log(probabilities)) / divisor, gradient / divisor


def binary_cross_entropy(y, target, weight=None, pos_weight=None):
    """(loss, dy)."""
    weight, pos_weight = (1 if values is None else values for values in (weight, pos_weight))
    s = 1 / (1 + np.exp(-y))
    loss = -weight * (pos_weight * target * np.log(s) + (1 - target) * np.log1p(-s))
    return loss.mean(), weight * ((1 - target) * s - pos_weight * target * (1 - s)) / y.size


def map_criterion(y, labels, j):
    """(loss, dy): -y are penalties; see LeCun et al. (1998), equation 9."""
    rows = np.arange(len(y))
    rubbish = np.exp(-j)
    total = rubbish + np.exp(y).sum(axis=1)
    loss = np.mean(-y[rows, labels] + np.log(total))
    dy = np.exp(y) / total[:, None]
    dy[rows, labels] -= 1
    return loss, dy / len(y)


def mean_squared_error(y, target):
    """(loss, dy)."""
    return np.mean((y - target) ** 2), 2 * (y - target) / y.size


def half_squared_error(y, target):
    """(loss, dy)."""
    return np.sum((y - target) ** 2) / 2 / len(y), (y - target) / len(y)


def sgd_step(w, g, v, lr, momentum, nesterov, weight_decay, first):
    """One step; returns (w, v). The velocity starts as the first gradient."""
    g = g + weight_decay * w
    v = g if first else momentum * v + g
    return w - lr * (g + momentum * v if nesterov else v), v


def product(w, x, bias):
    """y[o, j] = bias[o] + sum over k of w[k, o] * x[k, j], where each x[k, j] is a vector of lanes."""
    return np.einsum("ko,kjl->ojl", w, x) + bias[:, None, None]


def tap_gradient(dy, x, taps, s):
    """sums[o, t] = sum of dy[o] * the part of x that begins at tap t = (row, column), in steps of s."""
    height, width = dy.shape[1:3]
    sums = np.zeros((len(dy), len(taps)), dy.dtype)
    for t, (row, column) in enumerate(taps):
        part = x[row:, column:][: height * s : s, : width * s : s]
        sums[:, t] = np.sum(dy * part, axis=(1, 2, 3))
    return sums


def pack(x, lanes):
    """(N, ...) to (blocks, ..., lanes): the last block is filled with zeros."""
    blocks = -(-len(x) // lanes)
    filled = np.zeros((blocks * lanes, *x.shape[1:]), x.dtype)
    filled[: len(x)] = x
    blocked = filled.reshape(blocks, lanes, *x.shape[1:])
    return np.ascontiguousarray(np.moveaxis(blocked, 1, -1))


def unpack(packed, n):
    blocks, lanes = packed.shape[0], packed.shape[-1]
    return np.moveaxis(packed, -1, 1).reshape(blocks * lanes, *packed.shape[1:-1])[:n]
