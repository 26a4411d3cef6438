"""Trained networks as plain C, in float or in integers of 8 bits."""

from .quantized import QuantizedModel, quantize
from .source import export_c

__all__ = ["QuantizedModel", "export_c", "quantize"]
