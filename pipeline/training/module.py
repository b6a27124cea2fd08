"""Minimises cross-entropy and penalties, and measures each epoch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config.schema import SGD, AdamW, Cosine, WarmupScheduler
from pipeline.errors import TrainingError
from pipeline.metrics import history
from pipeline.model import penalties
from pipeline.model.network import Network
from pipeline.training.balance import weighted_cross_entropy
from pipeline.training.batches import Batch
from pipeline.training.optimizers import build_optimizer, build_scheduler, layer_groups, threshold
from pipeline.training.parallel import average_statistics

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Mixes images uint8 (batch, height, width, channels) and labels int64 (batch,) into images and targets (batch, classes)."""

SAMPLED_STEPS = 8
"""Steps of an epoch at which gradients and updates are measured."""


class TrainingModule(pl.LightningModule):
    """Minimises cross-entropy and penalties, and keeps the sums that make a row of the history.

    Args:
        network: Network from images uint8 (batch, height, width, channels) to logits (batch, classes).
        optimizer: Settings of the optimiser.
        scheduler: Settings of the learning rate schedule.
        lr: Highest learning rate of the schedule, in place of `optimizer.lr`.
        mix: Function applied to each training batch, such as mixup; None: images and labels stay as they are.
        l1: Weight λ of the penalty λ·Σ|w|.
        l1_as: `proximal` moves each weight towards 0 after each step, by λ times what a gradient of 1 would have moved it,
            and leaves it there once it arrives (Parikh and Boyd 2014, "Proximal algorithms", sections 4.2 and 6.5.2);
            `subgradient` adds to the loss, and makes no exact zeros.
        l2: Weight λ of the decay, or of the penalty λ/2·Σw².
        l2_as: `decay` shrinks each weight by lr·λ before each step, whatever the optimiser (Loshchilov and Hutter 2019,
            https://arxiv.org/abs/1711.05101); `penalty` adds to the loss.
        label_smoothing: Share of each label that is spread over all classes.
        frozen_epochs: Number of first epochs in which only the last layer learns.
        keep_statistics: Whether batch normalisation below the last layer keeps its statistics.
        start: Weights that parameters decay towards instead of 0, by parameter (L2-SP: Li et al. 2018,
            https://arxiv.org/abs/1802.01483).
        class_weights: Weight of each class in the training loss, of shape (classes,); None: all weigh the same. Losses in
            evaluation mode leave them out, so that curves of different weights, and the diagnosis, can be compared.
    """

    class_weights: Tensor | None

    def __init__(
        self, network: nn.Module, *, optimizer: SGD | AdamW, scheduler: WarmupScheduler | Cosine, lr: float,
        mix: Mix | None = None, l1: float = 0.0, l1_as: str = "proximal", l2: float = 0.0, l2_as: str = "decay",
        label_smoothing: float = 0.0, class_weights: Tensor | None = None, frozen_epochs: int = 0,
        keep_statistics: bool = False, start: Mapping[nn.Parameter, Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network = network
        self.optimizer_settings, self.scheduler_settings, self.lr = optimizer, scheduler, lr
        self.mix, self.label_smoothing = mix, label_smoothing
        self.l1, self.l2 = l1, l2
        self.l1_penalty, self.l1_threshold = (l1, 0.0) if l1_as == "subgradient" else (0.0, l1)
        self.l2_penalty, self.l2_decay = (l2, 0.0) if l2_as == "penalty" else (0.0, l2)
        self.frozen_epochs, self.keep_statistics, self.start = frozen_epochs, keep_statistics, dict(start or {})
        self.penalized = penalties.penalized(network)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.sums: dict[str, Tensor] = {}
        self.surplus: Tensor | None = None
        self.sampled: dict[str, list[Tensor]] = {}
        self.alive: Tensor | None = None
        self.weights_before: list[Tensor] = []

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        images, targets = batch if self.mix is None else self.mix(*batch)
        logits = self.network(images)
        if self.class_weights is None:
            loss, weight = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing), None
        else:
            loss, weight = weighted_cross_entropy(logits, targets, self.class_weights, self.label_smoothing)
        self._add("train", logits, targets, loss, weight)
        if self.trainer.world_size > 1:
            loss = loss * self._share(batch_index, weight)
        if self.l1_penalty:
            loss = loss + self.l1_penalty * penalties.l1(self.penalized)
        if self.l2_penalty:
            loss = loss + self.l2_penalty * penalties.l2(self.penalized)
        return loss

    def _share(self, batch_index: int, weight: Tensor | None) -> Tensor | float:
        """Factor of this process's loss in the mean over processes, such that this mean is the loss of the whole batch.

        With class weights the processes add up their weights, which mixtures decide, and which therefore differ by batch.
        """
        if weight is None:
            batches: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            share: float = batches.weight(batch_index)
            return share
        of_all = self.trainer.strategy.reduce(weight.detach().clone(), reduce_op="sum")
        return weight.detach() * self.trainer.world_size / of_all

    def optimizer_step(self, epoch: int, batch_index: int, optimizer: Any, closure: Any = None) -> None:
        super().optimizer_step(epoch, batch_index, optimizer, closure)
        if self.l1_threshold:
            unwrapped = self.trainer.optimizers[0]
            for parameter in self.penalized:
                penalties.soft_threshold_(parameter, threshold(unwrapped, parameter, self.l1_threshold))

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        images, labels = batch
        name = ("val", "train_clean")[dataloader_idx]
        with _watched_relus(self.network, watch=name == "train_clean" and batch_index == 0) as alive:
            logits = self.network(images)
        if alive:
            self.alive = torch.cat(alive)
        self._add(name, logits, labels, F.cross_entropy(logits, labels))
        if name == "val":
            surplus = _surplus_confidence(logits, labels)
            self.surplus = surplus if self.surplus is None else self.surplus + surplus

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.l2_decay:
            self._decay(optimizer)
        stride = max(1, int(self.trainer.num_training_batches) // SAMPLED_STEPS)
        if self.trainer.fit_loop.epoch_loop.batch_idx % stride == 0:
            gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            self.sampled.setdefault(history.GRADIENT_NORM, []).append(nn.utils.get_total_norm(gradients))
            self.weights_before = [parameter.detach().clone() for parameter in self.penalized]

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        if self.weights_before:
            steps = torch._foreach_sub(list(self.penalized), self.weights_before)
            ratio = nn.utils.get_total_norm(steps) / nn.utils.get_total_norm(self.weights_before).clamp_min(1e-30)
            self.sampled.setdefault(history.UPDATE_RATIO, []).append(ratio.detach())
            self.weights_before = []
        # On an accelerator this would wait for the device at every step.
        if self.device.type == "cpu" and not torch.isfinite(outputs["loss"]):
            raise TrainingError(
                f"the loss must be finite; it became {outputs['loss'].item()} at step {self.global_step}, "
                f"batch {batch_index + 1} of epoch {self.current_epoch + 1}."
            )

    def epoch_row(self) -> dict[str, float]:
        """The measurements of the epoch that ends, reduced over all processes; the next epoch starts from zero.

        Raises:
            TrainingError: A loss was not finite.
        """
        row = {}
        for name in ("train", "train_clean", "val"):
            sums = self.trainer.strategy.reduce(self.sums.pop(name), reduce_op="sum")
            total_loss, weight, correct, count = sums.tolist()
            row[f"{name}/loss"], row[f"{name}/accuracy"] = total_loss / weight, correct / count
        row[history.VAL_ECE] = float(self.trainer.strategy.reduce(self.surplus, reduce_op="sum").abs().sum()) / count
        self.surplus = None
        row |= self._weights_row()
        for key in (history.UPDATE_RATIO, history.GRADIENT_NORM):  # equal in all processes
            row[key] = float(torch.stack(self.sampled.pop(key)).mean())
        row[history.DEAD_RELU] = self._dead_share()
        for key in (history.TRAIN_LOSS, history.CLEAN_LOSS, history.VAL_LOSS, history.PENALTY):
            if not torch.isfinite(torch.tensor(row[key])):
                raise TrainingError(f"{key} must be finite; it became {row[key]} in epoch {self.current_epoch + 1}.")
        return row

    def configure_optimizers(self) -> Any:
        total_steps = int(self.trainer.estimated_stepping_batches)
        # Lightning cannot clip the gradients of a fused optimiser in mixed precision.
        fused = not (self.trainer.gradient_clip_val and "mixed" in str(self.trainer.precision))
        decay = self.optimizer_settings.layer_decay
        weights = self.parameters() if decay == 1 else layer_groups(self.network, self.lr, decay)
        optimizer = build_optimizer(weights, self.optimizer_settings, self.lr, fused=fused)
        scheduler = build_scheduler(optimizer, total_steps, self.scheduler_settings)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Freeze what does not learn in this epoch; a resumed training decides the same, as the epoch alone does."""
        if not isinstance(self.network, Network) or not (self.frozen_epochs or self.keep_statistics):
            return
        frozen = self.current_epoch < self.frozen_epochs
        for layer in self.network.body():
            layer.requires_grad_(not frozen)
            for part in layer.modules():
                part.train(not frozen and not (self.keep_statistics and isinstance(part, nn.BatchNorm2d)))
        self.penalized = [weight for weight in penalties.penalized(self.network) if weight.requires_grad]

    def _decay(self, optimizer: torch.optim.Optimizer) -> None:
        """Decoupled weight decay, by the learning rate of each layer."""
        learns = set(self.penalized)
        for group in optimizer.param_groups:
            mine = [weight for weight in group["params"] if weight in learns]
            penalties.decay_(mine, group["lr"] * self.l2_decay, [self.start.get(weight) for weight in mine])

    def on_validation_epoch_start(self) -> None:
        self._average_statistics()  # so that all processes measure one network; an average of weights is in its place by now

    def on_train_epoch_end(self) -> None:
        self._average_statistics()  # before the checkpoint, from which all processes may resume

    def _average_statistics(self) -> None:
        if self.trainer.world_size > 1:
            average_statistics(self.network, self.trainer.strategy)

    def _dead_share(self) -> float:
        """Share of units that are 0 for every image of the probe's first batch, of which each process has a part."""
        if self.alive is None:
            return 0.0
        alive = self.trainer.strategy.reduce(self.alive.double(), reduce_op="sum") > 0
        self.alive = None
        return float(1 - alive.double().mean())

    @torch.no_grad()
    def _weights_row(self) -> dict[str, float]:
        """The penalties, whether they act through the loss or apart from it, and the norm and sparsity of the weights."""
        l1, l2 = self.l1 * float(penalties.l1(self.penalized)), self.l2 * float(penalties.l2(self.penalized))
        num_zeros = sum(int((parameter == 0).sum()) for parameter in self.penalized)
        return {
            history.PENALTY: l1 + l2,
            history.PENALTY_L1: l1,
            history.PENALTY_L2: l2,
            history.WEIGHTS_NORM: float(nn.utils.get_total_norm(self.penalized)),
            history.WEIGHTS_SPARSITY: num_zeros / sum(parameter.numel() for parameter in self.penalized),
        }

    def _add(self, name: str, logits: Tensor, targets: Tensor, loss: Tensor, weight: Tensor | None = None) -> None:
        """Add one batch to the sums of (loss, weight, correct, images), without waiting for the device.

        For mixup, accuracy is the target weight of the predicted class. A batch's loss counts by the weight of its images,
        which is 1 each without class weights.
        """
        with torch.no_grad():
            predicted = logits.argmax(1)
            right = (predicted == targets) if targets.ndim == 1 else targets.gather(1, predicted[:, None])
            one = torch.ones((), dtype=torch.float64, device=loss.device)
            counted = len(targets) if weight is None else weight.detach()
            batch = torch.stack([loss.detach() * counted, one * counted, right.sum() * one, one * len(targets)])
            self.sums[name] = self.sums[name] + batch if name in self.sums else batch


def _surplus_confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Confidence minus correctness, summed over the images of each bin of confidence; shape (bins,).

    Summed over batches, its absolute values make the calibration error of `pipeline.metrics.scores`.
    """
    confidence, predicted = logits.float().softmax(dim=1).max(dim=1)
    bins = (confidence * history.CALIBRATION_BINS).ceil().long().clamp(1, history.CALIBRATION_BINS) - 1
    surplus = torch.zeros(history.CALIBRATION_BINS, dtype=torch.float64, device=logits.device)
    return surplus.index_add_(0, bins, confidence.double() - (predicted == labels).double())


@contextmanager
def _watched_relus(network: nn.Module, *, watch: bool) -> Iterator[list[Tensor]]:
    """Within the block, each ReLU adds bool (units,) to the list: false for a unit (a channel, or a feature of a linear
    layer) that is 0 for every image of the batch."""
    alive: list[Tensor] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        alive.append((output > 0).transpose(0, 1).flatten(1).any(1))

    layers = [layer for layer in network.modules() if isinstance(layer, nn.ReLU)] if watch else []
    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield alive
    finally:
        for hook in hooks:
            hook.remove()
