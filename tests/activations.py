"""The activations, a row each: a layer, the options that it was built with, and what is the same in PyTorch."""

import torch
from torch import nn

from minicnn import LeakyReLU, ReLU, ScaledTanh, Sigmoid, Tanh

ACTIVATIONS = [
    (ReLU(), {}, nn.ReLU()),
    (LeakyReLU(0.2), {"negative_slope": 0.2}, nn.LeakyReLU(0.2)),
    (Sigmoid(), {}, nn.Sigmoid()),
    (Tanh(), {}, nn.Tanh()),
    (ScaledTanh(), {}, lambda x: 1.7159 * torch.tanh(2 / 3 * x)),
]
