"""What Lightning has to know of several processes that compute one training together."""

import signal
import threading
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from pipeline.training.processes import Place


def settings(place: Place) -> dict[str, Any]:
    """Of the trainer, for the process at `place`."""
    if place.size == 1:
        return {"devices": 1}
    # Each process keeps the statistics of its normalisations during an epoch; see `average_statistics`.
    strategy = DDPStrategy(cluster_environment=_Started(place), broadcast_buffers=False)
    return {"devices": place.local_size, "num_nodes": place.size // place.local_size, "strategy": strategy}


class OwnStop(pl.Callback):
    """Keeps what SIGTERM did before the training: Lightning's own handler starts a collective, in the middle of another."""

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


def average_statistics(network: nn.Module, strategy: Any) -> None:
    """Give the batch normalisations of all processes the mean of what each has gathered from its share of the batches."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            for statistic in (layer.running_mean, layer.running_var):
                statistic.copy_(strategy.reduce(statistic.clone(), reduce_op="mean"))


class _Started(ClusterEnvironment):
    """Tells Lightning that its processes are there already, and joined."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        raise NotImplementedError("the processes are joined already")

    @property
    def main_port(self) -> int:
        raise NotImplementedError("the processes are joined already")

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.place.size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self.place.local_rank

    def node_rank(self) -> int:
        return self.place.rank // self.place.local_size
