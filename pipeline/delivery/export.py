"""Exports a network to ONNX and to safetensors, neither of which can hold code."""

import logging
import warnings
from collections.abc import Iterable
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artefacts.package import MODEL, WEIGHTS
from pipeline.errors import DataError

if TYPE_CHECKING:
    import onnx
    import torch

    from pipeline.model import Network

OPSET = 18
"""Version of ONNX's operators; ONNX Runtime 1.14 and later read it."""


def export(network: "Network", image_shape: tuple[int, int, int], folder: Path) -> None:
    """Write `model.onnx` and `weights.safetensors`.

    Args:
        network: Network in evaluation mode.
        image_shape: Height, width and channels of its images.
        folder: Folder to fill.

    Raises:
        DataError: The network has a layer that ONNX does not know.
    """
    import torch
    from safetensors.torch import save_file

    network = network.cpu().eval()
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)
    example = torch.zeros((2, *image_shape), dtype=torch.uint8)
    model = _traced(_with_features(network), example)
    _strip(model)
    (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))


def _traced(network: Any, example: "torch.Tensor") -> "onnx.ModelProto":
    """The network as an ONNX model, by torch's quick exporter where that gives the same network, else by its new one.

    The quick one takes 0.2 s for a LeNet, the new one 6 s. It is deprecated; the new one takes over where it is gone.

    Raises:
        DataError: Neither gives the same network.
    """
    import onnx
    import torch

    exported: Any = partial(
        torch.onnx.export, network, (example,), opset_version=OPSET, input_names=["images"],
        output_names=["logits", "features"],
    )  # fmt: skip

    def quick() -> bytes:
        written = BytesIO()
        mode = torch.onnx.TrainingMode.PRESERVE  # of evaluation; leaves each layer its name
        axes = {key: {0: "num_images"} for key in ("images", "logits", "features")}
        exported(f=written, dynamic_axes=axes, training=mode, dynamo=False)
        return written.getvalue()

    def new() -> bytes:
        shapes = ({0: torch.export.Dim("num_images")},)
        return bytes(exported(dynamic_shapes=shapes, dynamo=True, verbose=False).model_proto.SerializeToString())

    with _quiet(), torch.no_grad():
        for exporter in (quick, new):
            try:
                _check(model := exporter(), network, example)
            except Exception as error:  # torch raises nearly anything
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            else:
                return onnx.load_model_from_string(model)
    raise DataError(f"the network must be one that torch exports to ONNX; got {reason}")


def _check(model: bytes, network: Any, example: "torch.Tensor") -> None:
    """Check the answers for another number of images: an exporter may take for a constant what depends on it.

    Raises:
        ValueError: They differ from the network's.
    """
    import onnxruntime
    import torch

    shape, generator = (len(example) + 1, *example.shape[1:]), torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    found = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(
        None, {"images": images.numpy()}
    )
    for mine, its in zip(found, network(images), strict=True):
        if not torch.allclose(torch.from_numpy(mine), its, rtol=1e-4, atol=1e-4):
            raise ValueError("its ONNX model answers otherwise than the network")


def _with_features(network: "Network") -> Any:
    from torch import nn

    class LogitsAndFeatures(nn.Module):
        """The network as ONNX holds it; a network's own forward gives the logits alone."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            logits, features = self.network.logits_and_features(images)
            return logits, features.flatten(1)

    return LogitsAndFeatures().eval()


def _strip(model: Any) -> None:
    """Remove what the exporter notes about this machine's files and calls."""
    model.graph.doc_string = ""
    parts: Iterable[Any] = (
        model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output,
        *model.graph.value_info,
    )  # fmt: skip
    for part in parts:
        for field in ("metadata_props", "doc_string"):
            part.ClearField(field)


@contextmanager
def _quiet() -> Any:
    """Keep the exporter from printing what it does."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
