"""The last layer of a network, trained on features that are computed once for all images and copies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline.evaluation.features import KeptFeatures
from pipeline.model.network import Network
from pipeline.storage.arrays import read_array


class LastLayer(nn.Module):
    """The last layer of a network, with the dropout before it, as a network from features (batch, features) to logits.

    Its weights are those of `network`, under the same names.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.head = nn.Sequential()
        for name, layer in list(network.head.named_children())[-network.num_last_layers :]:
            self.head.add_module(name, layer)

    def forward(self, features: Tensor) -> Tensor:
        """The logits (batch, classes)."""
        logits: Tensor = self.head(features)
        return logits


def training_features(
    network: Network, description: Mapping[str, Any], inputs: Mapping[str, Path], cache: Path
) -> dict[str, Path]:
    """Files with the features of `train` (n, features), `val` and `copies` (copies, n, features), float32; made if missing.

    Args:
        network: Network with the weights that the training starts from.
        description: Arguments of `pipeline.model.build` that made it.
        inputs: Output folders of the stages prepare and augment, by stage.
        cache: The project's `build/cache`.
    """
    kept, prepared = KeptFeatures(network, description, cache), {"prepare": inputs["prepare"]}
    files = {
        split: kept.file(prepared, split, read_array(inputs["prepare"] / split / "images.npy"))
        for split in ("train", "val")
    }
    of_copies = prepared | {"augment": inputs["augment"]}
    return files | {"copies": kept.file(of_copies, "copies", read_array(inputs["augment"] / "images.npy"))}
