"""The errors for bad input. Each is one line that names the place, what was expected, and what was received."""


class MinicnnError(ValueError):
    """The base of all errors below. Catch it to catch all of them."""


class ShapeError(MinicnnError):
    """Layers or arrays do not fit together."""


class DataError(MinicnnError):
    """A data set or one of its files is missing, corrupt or inconsistent."""


class ConfigError(MinicnnError):
    """A setting is unknown, of the wrong type or out of range."""


class RankLostError(MinicnnError):
    """Another process of a run under torchrun has ended or cannot be reached."""


class DivergedError(MinicnnError):
    """In step `step`, the loss became NaN or infinite; `layer` was the first layer with such an output.

    Or the loss was finite, and the gradient of the parameter `gradient` was not. `rest` ends the message.
    """

    REMEDY = "; a lower learning rate often helps"

    def __init__(self, step: int, layer: str, rest: str = REMEDY, gradient: str | None = None) -> None:
        found = (
            f"a finite loss, received NaN or infinity; the first layer whose output is not finite is {layer}"
            if gradient is None
            else f"finite gradients, received NaN or infinity in that of {gradient}; nothing was applied"
        )
        super().__init__(f"step {step}: expected {found}{rest}")
        self.step, self.layer, self.rest, self.gradient = step, layer, rest, gradient

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.step, self.layer, self.rest, self.gradient)


def at(place: object, error: MinicnnError) -> MinicnnError:
    """The error, with the place before its message unless that names it."""
    return error if str(place) in str(error) else type(error)(f"{place}: {error}")
