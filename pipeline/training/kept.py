"""Measures the weights that a training kept on its training images, on more of them than each epoch's probe can afford."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.artefacts.run import KeptTraining
from pipeline.seeds import derive_seed
from pipeline.training.batches import ImageBatches, MeasuredImages, probe_indices

MOST = 20_000
"""Largest number of training images: a third of the time that an epoch of them takes."""


@torch.inference_mode()
def measure_kept(
    network: nn.Module, state: Mapping[str, Tensor], batches: ImageBatches, *, seed: int, accelerator: str
) -> KeptTraining:
    """The accuracy of the kept weights in evaluation mode on training images without augmentation.

    Args:
        network: Network that was trained; it gets the weights.
        state: The kept weights, by name.
        batches: Batches of the training.
        seed: Seed of the training, which draws the images where there are more than `MOST`.
        accelerator: Accelerator of the training, as `train.accelerator` names it.
    """
    images, labels = batches.train.images, batches.train.labels
    chosen = probe_indices(len(labels), MOST, derive_seed(seed, "probe"))
    measured = MeasuredImages(images, labels, chosen=chosen)
    device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    network.load_state_dict(state)
    network.to(device).eval()
    correct = 0
    for number in range(len(measured)):
        batch, truth = measured[number]
        correct += int((network(batch.to(device)).argmax(1).cpu() == truth).sum())
    network.cpu()
    return KeptTraining(accuracy=correct / len(chosen), num_images=len(chosen))
