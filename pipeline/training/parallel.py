"""Adapts Lightning to a training that several processes share."""

import os
import signal
import threading
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed, nn


def rank() -> int:
    """The number of this process among those of the training; 0 leads."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def trainer_settings() -> dict[str, Any]:
    """Arguments of Lightning's trainer for the processes that exist."""
    if not distributed.is_initialized():
        return {"devices": 1}
    devices = int(os.environ["LOCAL_WORLD_SIZE"])
    # Each process keeps the statistics of its normalisations during an epoch; see `average_statistics`.
    strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment(), broadcast_buffers=False)
    return {"devices": devices, "num_nodes": distributed.get_world_size() // devices, "strategy": strategy}


class KeepSignalHandler(pl.Callback):
    """Keeps the handler of SIGTERM; Lightning's own starts a collective, in the middle of another."""

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


def average_statistics(network: nn.Module, strategy: Any) -> None:
    """Average the running statistics of batch normalisation over all processes, each of which saw its part of the batches."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            for statistic in (layer.running_mean, layer.running_var):
                statistic.copy_(strategy.reduce(statistic.clone(), reduce_op="mean"))
