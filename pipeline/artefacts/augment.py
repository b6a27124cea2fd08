"""`augment.json`: the augmentation that training follows."""

from typing import Any

from pipeline.artefacts.artefact import Artefact


class AugmentRecord(Artefact, file="augment.json", stage="augment"):
    """The copies in `build/augment/`, or the transforms that training is to draw itself.

    Attributes:
        name: Name of the preset.
        mode: `materialized`, with the copies in `images.npy`, or `online`, with copies drawn in training.
        asked: Mode that the configuration asks for; also `auto`.
        reason: Why `mode` was chosen, as a clause that follows "as".
        copies: Number of copies of each image in `images.npy`.
        strength: Factor by which the preset's transforms were scaled.
        seed: Seed of everything random.
        transforms: Transforms after scaling, as `pipeline.augmentation.transforms.build` takes them.
        veto: Classes whose images a transform spares, by transform.
        images_sha256: SHA-256 of `images.npy`.
    """

    name: str
    mode: str
    asked: str
    reason: str
    copies: int
    strength: float
    seed: int
    transforms: list[Any]
    veto: dict[str, list[Any]]
    images_sha256: str
