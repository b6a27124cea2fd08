"""Withholds transforms from the images of some classes: the mirror image of a 2 is no 2."""

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.augmentation.transforms import Transforms, augment_batch, build, name_and_arguments
from pipeline.config.section import nearest
from pipeline.errors import ConfigError
from pipeline.seeds import derive_seed

if TYPE_CHECKING:
    import albumentations as A


@dataclass(frozen=True)
class Augmentation:
    """Augments batches of labelled images; classes with a veto have reduced pipelines, by label."""

    pipeline: "A.Compose"
    reduced: Mapping[int, "A.Compose"]

    def __call__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
        """Each image augmented once, as a function of the batch and the seed alone.

        Images of classes with a veto are augmented twice, and the first result is discarded: so a veto changes no image of
        another class. The images, uint8 of shape (n, height, width, channels), stay as they are.
        """
        augmented = augment_batch(self.pipeline, images, seed)
        for label, pipeline in self.reduced.items():
            chosen = labels == label
            if chosen.any():
                augmented[chosen] = augment_batch(pipeline, images[chosen], derive_seed(seed, f"veto/{label}"))
        return augmented


def augmentation(
    transforms: Transforms, veto: Mapping[str, Sequence[Any]], size: int, channels: int, classes: Sequence[str]
) -> Augmentation:
    """The augmentation that `augment.transforms` and `augment.veto` describe, for images of that size and these classes.

    `veto` holds the names of transforms, each with the classes on whose images it is never used. Where `transforms` is empty,
    any transform may be vetoed.

    Raises:
        ConfigError: The transforms are not valid, with or without those that are vetoed, or the veto names a class or a
            transform that is not there.
    """
    pipeline = build(transforms, size, channels)
    names = [name_and_arguments(f"augment.transforms[{index}]", entry)[0] for index, entry in enumerate(transforms)]
    vetoed_by_label: dict[int, set[str]] = defaultdict(set)
    for name, chosen in veto.items():
        if names and name not in names:
            raise ConfigError(
                f"augment.veto must name transforms of augment.transforms; got {name!r}.{nearest(name, names)} "
                f"They are {', '.join(names)}."
            )
        for class_name in map(str, chosen):
            if class_name not in classes:
                raise ConfigError(
                    f"augment.veto.{name} must name classes of the dataset; got {class_name!r}."
                    f"{nearest(class_name, classes)} They are {textwrap.shorten(', '.join(classes), 300)}."
                )
            vetoed_by_label[classes.index(class_name)].add(name)
    pipelines: dict[frozenset[str], A.Compose] = {}  # to try one out takes up to half a second
    for vetoed in map(frozenset, vetoed_by_label.values()):
        if vetoed not in pipelines:
            rest = [entry for entry, name in zip(transforms, names, strict=True) if name not in vetoed]
            try:
                pipelines[vetoed] = build(rest, size, channels)
            except ConfigError as error:
                cause = f"got {', '.join(sorted(vetoed))}, without which {error}"
                raise ConfigError(f"augment.veto must leave transforms that work; {cause}") from None
    reduced = {label: pipelines[frozenset(vetoed)] for label, vetoed in sorted(vetoed_by_label.items())}
    return Augmentation(pipeline, reduced)
