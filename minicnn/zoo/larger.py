"""Networks that are larger than LeNet-5, as lists of layers: `resnet8` and `vgg_small`. LeNet-5 is in `lenet`."""

from minicnn.errors import ConfigError
from minicnn.layers import BatchNorm2d, Conv2d, Dense, Flatten, GlobalMeanPool, Layer, MaxPool, ReLU, Residual
from minicnn.layers.sequential import Sequential


def resnet8(classes: int = 10, channels: int = 1, width: int = 16) -> Sequential:
    """A residual network with eight layers of weights, for images of any size: 77,754 parameters for ten classes.

    A convolution, then three blocks y = relu(f(x) + g(x)), f being conv 3x3, normalisation, ReLU, conv 3x3,
    normalisation; the second and the third block halve the sides of the maps and double their number, and their g is
    a convolution of 1x1 with that stride. The mean of each map goes to a dense layer.

    classes   scores of the output
    channels  of an image: 1 or 3
    width     maps of the first block

    Source: He, Zhang, Ren and Sun, Deep residual learning for image recognition (2016), section 4.2, of which this is
    the plan with one block in each of the three groups; Banbury et al., MLPerf Tiny benchmark (2021), has this size.
    Raises ShapeError for arguments out of range.
    """
    return Sequential(
        [
            *_convolution(channels, width),  #       (16, 28, 28) for MNIST
            ReLU(),
            *_block(width, width, 1),  #             (16, 28, 28)
            *_block(width, 2 * width, 2),  #         (32, 14, 14)
            *_block(2 * width, 4 * width, 2),  #     (64, 7, 7)
            GlobalMeanPool(),  #                     (64,)
            Dense(4 * width, classes),  #            (classes,)
        ]
    )


def vgg_small(classes: int = 10, channels: int = 1, image_size: int = 28, width: int = 32) -> Sequential:
    """Convolutions of 3x3 in three pairs, between which the maximum halves the sides: 298,858 parameters.

    The pairs have `width`, 2 `width` and 4 `width` maps, and each convolution is normalised. For (3, 32, 32) it is the
    network of configs/cifar10.yaml.

    classes     scores of the output
    channels    of an image: 1 or 3
    image_size  its height and width, at least 8
    width       maps of the first pair

    Source: Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition (2015), section
    2, with fewer layers, and with batch normalisation.
    Raises ConfigError for images that are too small, ShapeError for other arguments out of range.
    """
    if not isinstance(image_size, int) or image_size < 8:
        raise ConfigError(f"vgg_small: image_size: expected an int >= 8, received {image_size!r}")
    layers: list[Layer] = []
    for pair in range(3):
        maps = width << pair
        for ins in (channels if pair == 0 else maps // 2, maps):
            layers += [Conv2d(ins, maps, 3, padding=1), BatchNorm2d(maps), ReLU()]
        layers.append(MaxPool(2))
    features = 4 * width * (image_size // 8) ** 2
    return Sequential([*layers, Flatten(), Dense(features, classes)])


def _convolution(ins: int, outs: int, size: int = 3, stride: int = 1) -> list[Layer]:
    """Without a bias, as the normalisation has one."""
    return [Conv2d(ins, outs, size, stride, padding=size // 2, bias=False), BatchNorm2d(outs)]


def _block(ins: int, outs: int, stride: int) -> list[Layer]:
    layers = [*_convolution(ins, outs, stride=stride), ReLU(), *_convolution(outs, outs)]
    same = ins == outs and stride == 1
    return [Residual(layers, None if same else _convolution(ins, outs, 1, stride)), ReLU()]
