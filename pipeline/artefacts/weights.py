"""`build/weights/`: the weights that a training starts from, and where they come from."""

from pydantic import Field

from pipeline.artefacts.artefact import Artefact

TENSORS = "weights.safetensors"
"""Name of the file with the tensors, by their names in our network; there is none without `model.weights`."""


class WeightsRecord(Artefact, file="weights.json", stage="weights"):
    """The weights in `build/weights/`; every field is empty where a training starts from random ones.

    Attributes:
        source: Where they come from, as `model.weights` says, without secrets.
        sha256: SHA-256 of the file that was read there.
        network: Name of the network that they are for.
        channels: Number of channels of the images that they are for; grey ones are shown in each of three.
        mean: Mean of each channel that they expect, for pixels in [0, 1]; empty where they expect none.
        std: Standard deviation of each channel that they expect, likewise.
        classes: Names of the classes that the last layer was trained for; empty where nobody tells.
        num_parameters: Number of weights that are taken, without the last layer.
        left_out: Names of tensors of the file that the network has no place for.
        files: SHA-256 of the file with the tensors, by its name.
    """

    source: str | None = None
    sha256: str | None = None
    network: str | None = None
    channels: int = 0
    mean: list[float] = Field(default_factory=list)
    std: list[float] = Field(default_factory=list)
    classes: list[str] = Field(default_factory=list)
    num_parameters: int = 0
    left_out: list[str] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict)
