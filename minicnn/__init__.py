"""A small convolutional-network framework whose backprop is written out, layer by layer."""

import lazy_loader

__version__ = "0.1.0"

# The public names stand in __init__.pyi. Each is imported when it is first used, so that a command starts at once.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
