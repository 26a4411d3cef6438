"""Networks by name, as lists of layers."""

from .larger import resnet8, vgg_small
from .lenet import lenet5, lenet5_1998

__all__ = ["lenet5", "lenet5_1998", "resnet8", "vgg_small"]
