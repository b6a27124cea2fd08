"""Computes which parts of an image speak for the class that was named: by occlusion from ONNX alone, or by Grad-CAM."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.delivery.classifier import Batch, Classifier
from pipeline.errors import DataError
from pipeline.metrics.calibration import calibrated
from pipeline.storage import atomic

if TYPE_CHECKING:
    from torch.nn import Module

    from pipeline.model import Network

Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]

METHODS = ("occlusion", "gradcam")

PATCHES = 8
"""Number of steps of the patch along a side of an image; it is two steps wide."""

AT_ONCE = 256
"""Number of occluded images that the network takes at a time."""


class HeatMaps:
    """Collects the first images that can be read, and draws their heat maps afterwards."""

    def __init__(self, classifier: Classifier, number: int, method: str, out: Path) -> None:
        """Take the first `number` images; `method` is one of `METHODS`, and `out` the PNG file to write.

        Raises:
            DataError: What the method needs is not here.
        """
        self._classifier, self._number, self._out = classifier, number, out
        self._maps = occlusion if method == "occlusion" else grad_cam(classifier)
        self._names: list[str] = []
        self._pixels: list[Pixels] = []
        self._labels: list[int] = []
        self._chosen: list[float] = []

    def add(self, batch: Batch) -> None:
        if batch.decisions is None or len(self._names) >= self._number:
            return
        names = [name for name, error in zip(batch.names, batch.errors, strict=True) if error is None]
        for row, name in enumerate(names[: self._number - len(self._names)]):
            label = int(batch.decisions.labels[row])
            self._names.append(name)
            self._pixels.append(batch.pixels[row])
            self._labels.append(label)
            self._chosen.append(float(batch.decisions.probabilities[row, label]))

    def finish(self) -> None:
        """Compute and draw the maps."""
        from pipeline.plotting import heat_maps

        if not self._names:
            return
        pixels, labels = np.stack(self._pixels), np.array(self._labels)
        maps = self._maps(self._classifier, pixels, labels)
        titles = [
            f"{self._classifier.classes[label]} {chosen:.2f}"
            for label, chosen in zip(self._labels, self._chosen, strict=True)
        ]
        atomic.write_bytes(self._out, heat_maps.sheet(pixels, maps, self._names, titles))
        print(f"heat maps of {len(self._names)} images: {self._out}", file=sys.stderr)


def occlusion(classifier: Classifier, pixels: Pixels, labels: NDArray[np.integer]) -> Maps:
    """How much the probability of a class falls where a patch of the mean colour covers a place (Zeiler and Fergus 2014).

    Args:
        classifier: The network.
        pixels: Prepared images, uint8 of shape (n, size, size, channels).
        labels: Class of each image that is explained, of shape (n,).

    Returns:
        The mean fall over the patches that cover a pixel, float32 of shape (n, size, size); below 0 where the place speaks
        against the class.
    """
    size = pixels.shape[1]
    step = max(1, round(size / PATCHES))
    starts = range(-step, size, step)  # so that the border is covered as often as the middle
    places = [(top, left) for top in starts for left in starts]
    grey = np.array(classifier.package.preprocessing.mean_colour(), np.uint8)
    whole = _probabilities(classifier, pixels)[np.arange(len(labels)), labels]
    maps = np.zeros(pixels.shape[:3], np.float32)
    for image, label, before, heat in zip(pixels, labels, whole, maps, strict=True):
        times = np.zeros(image.shape[:2], np.float32)
        for first in range(0, len(places), AT_ONCE):
            part = places[first : first + AT_ONCE]
            covered = np.repeat(image[None], len(part), axis=0)
            areas = [np.s_[max(0, top) : top + 2 * step, max(0, left) : left + 2 * step] for top, left in part]
            for copy, area in zip(covered, areas, strict=True):
                copy[area] = grey
            falls = before - _probabilities(classifier, covered)[:, label]
            for fall, area in zip(falls, areas, strict=True):
                heat[area] += fall
                times[area] += 1
        heat /= times
    return maps


def _probabilities(classifier: Classifier, pixels: Pixels) -> NDArray[np.float32]:
    return calibrated(classifier.outputs(pixels)[0], classifier.package.thresholds.calibration.temperature)


def grad_cam(classifier: Classifier) -> Callable[[Classifier, Pixels, NDArray[np.integer]], Maps]:
    """A function like `occlusion` that weighs the last convolution's feature maps by gradients (Selvaraju et al. 2017).

    Raises:
        DataError: captum or torch is not installed, or the package tells neither the network nor its weights.
    """
    try:
        import torch
        from captum.attr import LayerAttribution, LayerGradCam
    except ImportError as error:
        raise DataError(
            f"--explain-with gradcam needs the extra explain ({error}). Run `pip install -e '.[explain]'`, or use occlusion."
        ) from None
    from safetensors.torch import load

    from pipeline import model

    description, weights = classifier.package.manifest.network, classifier.package.weights
    if not description or weights is None:
        raise DataError(
            f"--explain-with gradcam needs a package that describes its network; {classifier.package.place} was made before "
            "they did. Make it again (`dvc repro package`), or use occlusion."
        )
    network = model.build(**description | ({"pretrained": False} if "pretrained" in description else {})).eval()
    network.load_state_dict(load(weights))
    layers = [layer for layer in network.features.modules() if isinstance(layer, torch.nn.Conv2d)]
    if not layers:
        raise DataError("--explain-with gradcam needs a network of convolutions; this one has none. Use occlusion.")

    def maps(_: Classifier, pixels: Pixels, labels: NDArray[np.integer]) -> Maps:
        method = LayerGradCam(network, layers[_last_with_places(network, layers, pixels)])
        found = method.attribute(torch.from_numpy(pixels).float(), torch.from_numpy(np.asarray(labels, np.int64)))
        heat: Maps = LayerAttribution.interpolate(found, pixels.shape[1:3], "bilinear")[:, 0].detach().numpy()
        return heat

    return maps


def _last_with_places(network: "Network", layers: "Sequence[Module]", pixels: Pixels) -> int:
    """Index of the last convolution whose output has more than one place: LeNet's last one has none to point at."""
    import torch

    sides: list[int] = []
    hooks = [layer.register_forward_hook(lambda _, __, output: sides.append(min(output.shape[2:]))) for layer in layers]
    with torch.no_grad():
        network(torch.from_numpy(pixels[:1]).float())
    for hook in hooks:
        hook.remove()
    return max((index for index, side in enumerate(sides) if side > 1), default=len(layers) - 1)
