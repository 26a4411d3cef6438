"""What kernels write: a new one is entered here, and `test_slices` sees that it is true."""

from minicnn.kernels import activation

#: What a kernel writes, by the names of its arguments.
WRITES = {
    "activation": {
        "scale": "y",
        "dropout": "y mask",
        **{name: "y" for name in vars(activation) if name.endswith("_forward")},
        **{name: "dy" for name in vars(activation) if name.endswith("_backward")},
    },
    "augment": {"augment": "out workspace frame", "mix": "lanes"},
    "gradients": {
        "tap_gradient": "sums",
        "sum_places": "sums",
        "sum_listed": "target",
        "sum_rows": "target",
        "narrow": "dweight",
    },
    "lanes": {"pack": "lanes", "unpack": "x", "gather": "lanes"},
    "local": {"forward": "y", "backward": "dx"},
    "loss": {
        "cross_entropy": "dscores losses",
        "map_criterion": "dscores losses",
        "label_targets": "target",
        "soft_targets": "target",
        "binary_cross_entropy": "dscores losses",
        "squared_error": "dy losses",
        "lengths": "out",
        "count_correct": "correct",
        "count_labels": "correct",
    },
    "moves": {"copy": "y", "add": "y", "frame": "target", "cut": "target"},
    "normalization": {
        "statistics": "center offset variance running_mean running_var",
        "forward": "y",
        "gradients": "dweight dbias slope shift",
        "backward": "dy",
    },
    "optimizer": {
        "sgd": "value velocity",
        "adam": "value m v",
        "rmsprop": "value square mean buffer",
        "find_not_finite": "norm",
        "squares": "sums",
        "root": "norm",
        "move_towards": "average",
    },
    "pool": {"max_forward": "y argmax", "max_backward": "dx", "mean_forward": "y", "mean_backward": "dx"},
    "product": {"product": "y", "transpose_matrix": "target", "pick_all": "target"},
    "radial": {"forward": "y", "backward": "dx"},
    "subsample": {"forward": "sums y", "backward": "dx", "gradients": "dweight dbias"},
    "winograd": {
        "to_points": "y",
        "outputs": "y",
        "inputs": "dx",
        "weights_to_points": "u",
        "weights_from_points": "dweight",
    },
}
