"""The network of the document that this project grew from, after LeNet-5 (LeCun et al. 1998)."""

from torch import nn

from pipeline.config.errors import ShapeError
from pipeline.model.arithmetic import output_formula
from pipeline.model.classifier import Classifier, Normalize

SIZE = 32


def build(normalize: Normalize, *, num_classes: int, channels: int, size: int, dropout: float) -> Classifier:
    """32×32 → 28×28×8 → 14×14×8 → 10×10×16 → 5×5×16 → 120 → 84 → classes.

    Raises:
        ShapeError: The images are not 32×32.
    """
    _check_size(size)
    # Pooling comes before ReLU: the maximum of ReLUs is the ReLU of the maximum, at a quarter of the elements.
    features: dict[str, nn.Module] = {
        "convolution_1": nn.Conv2d(channels, 8, kernel_size=5),  # 28×28
        "pooling_1": nn.MaxPool2d(2),  # 14×14
        "relu_1": nn.ReLU(),
        "convolution_2": nn.Conv2d(8, 16, kernel_size=5),  # 10×10
        "pooling_2": nn.MaxPool2d(2),  # 5×5
        "relu_2": nn.ReLU(),
        "convolution_3": nn.Conv2d(16, 120, kernel_size=5),  # 1×1
        "relu_3": nn.ReLU(),
    }
    head: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    if dropout:
        head["dropout_1"] = nn.Dropout(dropout)
    head |= {"hidden": nn.Linear(120, 84), "hidden_relu": nn.ReLU()}
    if dropout:
        head["dropout_2"] = nn.Dropout(dropout)
    head["classes"] = nn.Linear(84, num_classes)
    return Classifier(normalize, features, head)


def _check_size(size: int) -> None:
    if size != SIZE:
        raise ShapeError(
            f"prepare.size must be {SIZE} for model=lenet, whose convolution 1 gives {output_formula(SIZE, 5, 1, 0)}; "
            f"got {size}, which gives {output_formula(size, 5, 1, 0)}. "
            f"Set prepare.size={SIZE} or choose model=convnet"
        )
