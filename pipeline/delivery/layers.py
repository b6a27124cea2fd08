"""Shows what happens to an image inside a package's network: its first filters, and the output of each layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.delivery.package import Package

if TYPE_CHECKING:
    import onnx

Pixels = NDArray[np.uint8]

_KINDS = {
    "Conv": "convolution", "MaxPool": "max-pooling", "AveragePool": "mean-pooling", "Relu": "ReLU", "Clip": "ReLU6",
    "LeakyRelu": "leaky ReLU", "Elu": "ELU", "Gelu": "GELU", "Tanh": "tanh", "BatchNormalization": "normalisation",
    "Add": "sum",
}  # fmt: skip
"""Kinds of layers that are shown, by ONNX's name of their operator; others, such as a change of shape, change no value."""


@dataclass(frozen=True)
class Layer:
    """A layer and what it makes of one image.

    Attributes:
        name: Name within the network, or an empty text where it has no weights.
        kind: What it does.
        formula: Formula of the output's height with its numbers, for a convolution or a pooling; else empty.
        maps: Its output, of shape (channels, height, width).
    """

    name: str
    kind: str
    formula: str
    maps: NDArray[np.float32]


class Layers:
    """A network that also gives the output of each of its layers."""

    def __init__(self, package: Package) -> None:
        import onnx
        import onnxruntime

        model = onnx.load_model_from_string(package.model)
        self._weights = {each.name: each for each in model.graph.initializer}
        maps = {value.name for value in onnx.shape_inference.infer_shapes(model).graph.value_info if _is_map(value)}
        self._nodes = [node for node in model.graph.node if node.op_type in _KINDS and node.output[0] in maps]
        for node in self._nodes:
            model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def filters(self) -> NDArray[np.float32]:
        """The weights of the first convolution, of shape (filters, channels, height, width).

        A normalisation that followed it is part of it, and scales each filter as a whole.
        """
        from onnx import numpy_helper

        first = next(node for node in self._nodes if node.op_type == "Conv")
        return numpy_helper.to_array(self._weights[first.input[1]]).astype(np.float32)

    def of(self, image: Pixels) -> list[Layer]:
        """The layers in the order of the computation, for a prepared image of shape (size, size, channels)."""
        names = [node.output[0] for node in self._nodes]
        outputs = self._session.run(names, {"images": image[None]})
        sizes: dict[str, int] = {name: output.shape[2] for name, output in zip(names, outputs, strict=True)}
        found = []
        for node, output in zip(self._nodes, outputs, strict=True):
            size = sizes.get(node.input[0], len(image))
            found.append(Layer(self._name(node), _KINDS[node.op_type], _formula(node, size), output[0]))
        return found

    def _name(self, node: "onnx.NodeProto") -> str:
        weights = next((name for name in node.input[1:] if name in self._weights), "")
        return weights.removeprefix("network.features.").rpartition(".")[0].replace(".", "_") if "." in weights else ""


def _is_map(value: "onnx.ValueInfoProto") -> bool:
    """Whether a value is a batch of feature maps, and no number that shapes are computed with."""
    kind = value.type.tensor_type
    return kind.elem_type == 1 and len(kind.shape.dim) == 4  # 1 stands for float32


def _formula(node: "onnx.NodeProto", size: int) -> str:
    from pipeline.model.arithmetic import output_formula

    numbers = {each.name: each.ints[0] for each in node.attribute if each.ints}
    if "kernel_shape" not in numbers:
        return ""
    stride, padding, dilation = numbers.get("strides", 1), numbers.get("pads", 0), numbers.get("dilations", 1)
    return output_formula(size, numbers["kernel_shape"], stride, padding, dilation)
