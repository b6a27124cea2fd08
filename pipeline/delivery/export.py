"""Exports a network to ONNX and to safetensors, neither of which can hold code."""

import logging
import warnings
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artefacts.package import MODEL, WEIGHTS
from pipeline.errors import DataError

if TYPE_CHECKING:
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
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                _with_features(network), (example,), input_names=["images"], output_names=["logits", "features"],
                dynamic_shapes=({0: torch.export.Dim("num_images")},), opset_version=OPSET, dynamo=True, verbose=False,
            )  # fmt: skip
        except Exception as error:  # torch raises nearly anything
            reason = " ".join(str(error).split())[:300]
            raise DataError(
                f"the network must be one that torch exports to ONNX; got {type(error).__name__}: {reason}"
            ) from error
    assert program is not None  # only the old exporter gives none
    model = program.model_proto
    _strip(model)
    (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))


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
