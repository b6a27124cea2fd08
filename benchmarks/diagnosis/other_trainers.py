"""Trains a setting of `outside.py` with Keras or fastai, and returns what their loggers write for each epoch.

Both are in an environment of their own, beside the packages of this project; neither needs TensorFlow or torchvision here:

    pip install keras fastai 'fastprogress<1.1' 'plum-dispatch<2.10'
    KERAS_BACKEND=torch python benchmarks/diagnosis/outside.py PICTURES --trainer keras

Their training accuracy is measured while learning; fastai's needs `learn.recorder.train_metrics`. fastai writes no learning
rate, and its training loss is smoothed over the steps.
"""

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from outside import Setting, Split

KERAS = {"loss": "train/loss", "accuracy": "train/accuracy", "val_loss": "val/loss", "val_accuracy": "val/accuracy"}
FASTAI = {
    "train_loss": "train/loss", "train_accuracy": "train/accuracy", "valid_loss": "val/loss",
    "valid_accuracy": "val/accuracy",
}  # fmt: skip
Rows = list[dict[str, float]]


def train_keras(setting: "Setting", drawn: "Split", num_classes: int, seed: int) -> Rows:
    """The rows of `CSVLogger` after `model.fit`; the network is that of Keras' first examples, without batch normalisation."""
    import keras
    from outside import BATCH

    keras.utils.set_random_seed(seed)
    layers: list[Any] = [keras.layers.Rescaling(1 / 127.5, -1.0)]
    if setting.augmented:
        layers += [keras.layers.RandomFlip("horizontal"), keras.layers.RandomTranslation(0.125, 0.125, "nearest")]
    for block in range(setting.blocks):
        width = setting.width * 2**block
        layers += [keras.layers.Conv2D(width, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Flatten(), keras.layers.Dropout(setting.dropout), keras.layers.Dense(num_classes)]
    model = keras.Sequential(layers)
    model.compile(
        keras.optimizers.AdamW(setting.rate, weight_decay=setting.decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        model.fit(
            drawn.train.astype(np.float32), drawn.train_labels, batch_size=BATCH, epochs=setting.epochs, verbose=0,
            validation_data=(drawn.val.astype(np.float32), drawn.val_labels), callbacks=[keras.callbacks.CSVLogger(log)],
        )  # fmt: skip
        return _read(log, KERAS)


class Images(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Images and labels, augmented as in `outside.py` where a generator is given."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, generator: np.random.Generator | None) -> None:
        self.images, self.labels, self.generator = images, labels, generator

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        import outside

        image = self.images[index : index + 1]
        if self.generator is not None:
            image = outside.augmented(image, self.generator)
        return outside.tensors(image)[0], int(self.labels[index])


def train_fastai(setting: "Setting", drawn: "Split", num_classes: int, seed: int) -> Rows:
    """The rows of `CSVLogger` after `fit_one_cycle`, or after `fine_tune` with one frozen epoch."""
    from fastai.callback import schedule  # noqa: F401 - gives Learner its ways to fit
    from fastai.callback.progress import CSVLogger
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.metrics import accuracy
    from outside import BATCH, network

    random.seed(seed)
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed) if setting.augmented else None
    loaders = DataLoaders(
        DataLoader(Images(drawn.train, drawn.train_labels, generator), bs=BATCH, shuffle=True, num_workers=0),
        DataLoader(Images(drawn.val, drawn.val_labels, None), bs=250, num_workers=0),
        device=torch.device("cpu"),
    )
    with TemporaryDirectory() as folder:
        learn = Learner(
            loaders, network(setting, drawn.train.shape[-1], num_classes), loss_func=F.cross_entropy, lr=setting.rate,
            metrics=accuracy, wd=setting.decay, path=folder, splitter=_body_and_head,
        )  # fmt: skip
        learn.recorder.train_metrics = True
        log = CSVLogger(fname="log.csv", append=True)
        with learn.no_bar(), learn.no_logging():
            if setting.schedule == "fine_tune":
                learn.fine_tune(setting.epochs - 1, setting.rate, cbs=log)
            else:
                learn.fit_one_cycle(setting.epochs, setting.rate, cbs=log)
        return _read(Path(folder) / "log.csv", FASTAI)


def _body_and_head(net: torch.nn.Sequential) -> list[list[torch.nn.Parameter]]:
    layers = list(net.children())
    return [[each for layer in layers[:-1] for each in layer.parameters()], list(layers[-1].parameters())]


def _read(log: Path, names: Mapping[str, str]) -> Rows:
    """The named columns; a header that stands again in the midst, as of a second fit, is passed over."""
    with log.open(newline="") as file:
        return list(_rows(list(csv.reader(file)), names))


def _rows(lines: Sequence[Sequence[str]], names: Mapping[str, str]) -> Iterator[dict[str, float]]:
    header = lines[0]
    for line in lines[1:]:
        if line and line != header:
            values = dict(zip(header, line, strict=True))
            yield {ours: float(values[theirs]) for theirs, ours in names.items()}
