"""The errors that bad input raises: one line with the place, the expected and the received."""


class MinicnnError(ValueError):
    """The base of all errors below: catch it to catch every bad input."""


class ShapeError(MinicnnError):
    """Layers or arrays do not fit together."""


class DataError(MinicnnError):
    """A data set or one of its files is missing, corrupt or inconsistent."""


class ConfigError(MinicnnError):
    """A setting is unknown, of the wrong type or out of range."""


class RankLostError(MinicnnError):
    """Another process of a run under torchrun has ended or cannot be reached."""


class DivergedError(MinicnnError):
    """The loss became NaN or infinite at `step`; `layer` was the first with such an output.

    Or, with a finite loss, the gradient of the parameter `gradient` did.
    """

    def __init__(self, step: int, layer: str, rest: str = "", gradient: str | None = None) -> None:
        found = (
            f"a finite loss, received NaN or infinity; the first layer whose output is not finite is {layer}"
            if gradient is None
            else f"finite gradients, received NaN or infinity in that of {gradient}; nothing was applied"
        )
        super().__init__(f"step {step}: expected {found}{rest}")
        self.step, self.layer, self.rest, self.gradient = step, layer, rest, gradient

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.step, self.layer, self.rest, self.gradient)
