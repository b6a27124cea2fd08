"""Computes each layer's output size, cost and receptive field."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.model.network import Network, evaluating


def output_size(n: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Pixels on a side after a convolution or a pooling, ⌊(n + 2p − d·(f − 1) − 1)/s⌋ + 1.

    Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", relationship 15. A result below 1
    means that the kernel does not fit.

    >>> output_size(7, kernel=3, stride=1, padding=0), output_size(7, kernel=3, stride=1, padding=1)
    (5, 7)
    >>> output_size(7, kernel=3, stride=2, padding=0)
    3
    """
    return (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def output_formula(n: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> str:
    """`output_size` with its numbers filled in; brackets mark a division that is rounded down.

    A dilated kernel is shown by the pixels that it spans.

    >>> output_formula(32, kernel=5, stride=1, padding=0)
    '(32 + 2·0 − 5)/1 + 1 = 28'
    >>> output_formula(7, kernel=2, stride=2, padding=0)
    '⌊(7 + 2·0 − 2)/2⌋ + 1 = 3'
    """
    span = dilation * (kernel - 1) + 1
    quotient = f"({n} + 2·{padding} − {span})/{stride}"
    if (n + 2 * padding - span) % stride:
        quotient = f"⌊{quotient}⌋"
    return f"{quotient} + 1 = {output_size(n, kernel, stride, padding, dilation)}"


@dataclass(frozen=True)
class Layer:
    """One row of the table of a network's layers; shapes are without the batch.

    Attributes:
        name: Name within the network, such as `convolution_1` or `stage_1_block_1_convolution_1`.
        kind: Name of its class.
        input_shape: `(channels, height, width)`, or `(units,)` once the map is flattened.
        output_shape: Likewise.
        formula: Formula of the output's height, with its numbers, for a convolution or a pooling; else empty.
        num_parameters: Number of trainable parameters.
        multiply_adds: Number of multiply-adds for one image; 0 for layers without weights and for normalisation.
        receptive_field: Pixels on a side of the image that one output depends on, by the widest path; the whole image
            once maps are averaged or flattened.
    """

    name: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    formula: str
    num_parameters: int
    multiply_adds: int
    receptive_field: int


def layer_table(network: Network, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The layers of `network` in the order of the computation, for images of `(height, width, channels)`.

    Shapes come from one real forward pass, never from the formula.

    Raises:
        ValueError: The formula does not describe a layer, such as a pooling that rounds up.
    """
    table = []
    views = {0: _View(1, 1)}  # by the id of the tensor; one that is no layer's output is the image, or a block's sum
    for name, layer, inputs, output in _forward(network, image_shape):
        input_shape, output_shape = tuple(inputs.shape[1:]), tuple(output.shape[1:])
        view = views.get(id(inputs)) or max(views.values(), key=lambda view: view.field)
        formula, multiply_adds = "", 0
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            geometry: list[Any] = [
                getattr(layer, key, 1) for key in _GEOMETRY
            ]  # each a number, or a pair of equal ones
            kernel, stride, padding, dilation = (value[0] if isinstance(value, tuple) else value for value in geometry)
            formula = output_formula(input_shape[1], kernel, stride, padding, dilation)
            if output_size(input_shape[1], kernel, stride, padding, dilation) != output_shape[1]:
                raise ValueError(f"{name} gives {output_shape[1]} pixels, which is not {formula}")
            view = _View(view.field + dilation * (kernel - 1) * view.jump, view.jump * stride)
        elif isinstance(layer, nn.AdaptiveAvgPool2d | nn.Flatten | nn.Linear):
            view = _View(max(image_shape[:2]), view.jump)
        views[id(output)] = view
        if isinstance(layer, nn.Conv2d | nn.Linear):
            num_outputs_per_channel = output_shape[1] * output_shape[2] if len(output_shape) == 3 else 1
            multiply_adds = layer.weight.numel() * num_outputs_per_channel
        num_parameters = sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)
        kind, seen = type(layer).__name__, min(view.field, max(image_shape[:2]))
        table.append(Layer(name, kind, input_shape, output_shape, formula, num_parameters, multiply_adds, seen))
    return table


class _View(NamedTuple):
    """Pixels of the image that one output spans, and between two neighbouring outputs."""

    field: int
    jump: int


_GEOMETRY = ("kernel_size", "stride", "padding", "dilation")


def _forward(network: Network, image_shape: tuple[int, int, int]) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """Name, layer, input and output of each innermost layer of `features` and `head`, as one image passes through.

    All tensors are kept until the end, so that no two of them share an id.
    """
    steps = []

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            steps.append((name, layer, inputs[0], output))

        return hook

    layers = [*network.features.named_modules(), *network.head.named_modules()]
    innermost = [(name.replace(".", "_"), layer) for name, layer in layers if not any(layer.children())]
    handles = [layer.register_forward_hook(remember(name)) for name, layer in innermost]
    try:
        with evaluating(network):
            network(torch.zeros((1, *image_shape), dtype=torch.uint8, device=network.normalize.mean.device))
    finally:
        for handle in handles:
            handle.remove()
    return steps
