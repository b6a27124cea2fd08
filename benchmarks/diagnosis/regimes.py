"""Defines the regimes of the study: trainings that are made to fit well or badly, in known ways.

The intended verdict of a regime is only a claim. `variants` gives the trainings that certify it: the same seeds with one
change, which must raise the validation accuracy, or must not if the claim is a good fit.
"""

from dataclasses import dataclass, field, replace

FOUR_TIMES = -4
"""Number of images that stands for four times the usual number of the data set."""

MORE_DATA, REGULARISED, LARGER, LONGER, CALMER = "more data", "regularised", "larger", "longer", "calmer"


@dataclass(frozen=True)
class Regime:
    """One way to train.

    Attributes:
        name: Name of the regime.
        verdict: Intended verdict.
        epochs: Number of epochs.
        overrides: Overrides of `params.yaml` beside this file.
        images: Number of training images, equally many of each class; 0: the usual number of the data set.
        change: Name of a function of `drawing.py` that changes images or labels; empty: none.
        flaw: Name of a function of `flaws.py` that changes the network; empty: none.
        larger: Overrides that restore the capacity of the network; empty: twice the width.
    """

    name: str
    verdict: str
    epochs: int
    overrides: tuple[str, ...] = ()
    images: int = 0
    change: str = ""
    flaw: str = ""
    larger: tuple[str, ...] = field(default=())


EARLY = ("train.early_stopping.patience=5", "train.early_stopping.restore_best=true")
SMALL = "train.batch_size=30"
CONVNET = ("model=convnet", "model.width=8")

REGIMES = (
    Regime("base", "good_fit", 12, ("model.width=0.7",)),
    Regime("dropout", "good_fit", 12, ("model.dropout=0.3",)),
    Regime("augmented", "good_fit", 12, ("augment=light",)),
    Regime("stopped early", "good_fit", 40,
           (*EARLY, "scheduler=constant", "optimizer.lr=0.001")),
    Regime("decayed", "good_fit", 12, ("regularization.l2=0.3", "scheduler=cosine")),
    Regime("convnet", "good_fit", 10, (*CONVNET, "regularization.label_smoothing=0.05")),
    Regime("60 images", "overfitting", 40, (SMALL,), 60),
    Regime("120 images", "overfitting", 40, (SMALL,), 120),
    Regime("200 images, stopped early", "overfitting", 40, (SMALL, *EARLY), 200),
    Regime("150 images, regularised", "overfitting", 80, (SMALL, "model.dropout=0.5", "augment=standard"), 150),
    Regime("noise learned by heart", "overfitting", 60, ("model.width=3", SMALL), 400, "noisy_training_labels"),
    Regime("wide, no decay", "overfitting", 40, ("model.width=4", SMALL), 100),
    Regime("tiny", "underfitting", 15, ("model.width=0.06",), larger=("model.width=1",)),
    Regime("decay too high", "underfitting", 15, ("regularization.l2=0.2", "regularization.l2_as=penalty"),
           larger=("regularization.l2=0",)),
    Regime("dropout too high", "underfitting", 25, ("model.dropout=0.8", "model.conv_dropout=0.35"),
           larger=("model.dropout=0", "model.conv_dropout=0")),
    Regime("images too small", "underfitting", 15, (), 0, "coarse"),
    Regime("4 epochs", "still_learning", 4, ("optimizer.lr=0.0003", "scheduler=constant"), 2000),
    Regime("rate / 100", "still_learning", 20, ("optimizer.lr=0.00003", "scheduler=constant"), 2000),
    Regime("rate / 30", "still_learning", 14, ("optimizer.lr=0.0001", "scheduler=constant"), 1000),
    Regime("rate to NaN", "diverged", 10, ("optimizer.lr=1e30", SMALL), 500),
    Regime("decay to NaN", "diverged", 40,
           ("optimizer=sgd", "optimizer.lr=0.05", "scheduler=constant", "regularization.l2=60"), 1000),
    Regime("dead ReLU", "not_learning", 12, (), 1000, flaw="dead"),
    Regime("blank images", "not_learning", 12, (), 1000, "blank"),
    Regime("random labels", "no_signal", 60, ("model.width=3", SMALL), 300, "random_labels"),
    Regime("labels of validation permuted", "no_signal", 15, (), 1000, "permuted_validation_labels"),
    Regime("10 % duplicates", "leak_suspected", 15, (), 1000, "duplicates"),
    Regime("noise not learned", "split_mismatch", 8, (), 0, "noisy_training_labels"),
    Regime("easy validation", "split_mismatch", 5, ("train.batch_size=128",), 1000, "easy_validation"),
    Regime("rate too high", "unstable", 30, ("optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false",
                                             "optimizer.lr=0.4", "scheduler=constant"), 1000),
    Regime("tiny batches", "unstable", 20, ("train.batch_size=2", "optimizer.lr=0.008", "scheduler=constant"), 300),
    Regime("stale statistics", "eval_mismatch", 15, CONVNET, 1000, flaw="stale"),
    Regime("inverted in evaluation", "eval_mismatch", 15, (), 1000, flaw="inverted"),
)  # fmt: skip
"""At least two for each verdict."""


def variants(regime: Regime) -> dict[str, Regime]:
    """The trainings that certify the intended verdict, by name; none for a fault that is built in."""
    available = {
        MORE_DATA: replace(regime, images=4 * regime.images or FOUR_TIMES),
        REGULARISED: replace(
            regime, overrides=(*regime.overrides, "augment=light", "model.dropout=0.4", "regularization.l2=0.3")
        ),
        LARGER: replace(
            regime,
            change="" if regime.change == "coarse" else regime.change,
            overrides=(*regime.overrides, *(regime.larger or _wider(regime))),
        ),
        LONGER: replace(regime, epochs=3 * regime.epochs),
        CALMER: replace(regime, overrides=tuple(map(_calmer, regime.overrides))),
    }
    wanted = {
        "good_fit": (MORE_DATA, REGULARISED, LARGER, LONGER),
        "overfitting": (MORE_DATA, REGULARISED),
        "underfitting": (LARGER,),
        "still_learning": (LONGER,),
        "unstable": (CALMER,),
    }.get(regime.verdict, ())
    return {name: available[name] for name in wanted}


def _calmer(override: str) -> str:
    """A tenth of the learning rate; other overrides stay as they are."""
    key, value = override.split("=", 1)
    return f"{key}={float(value) / 10:g}" if key == "optimizer.lr" else override


def _wider(regime: Regime) -> tuple[str, ...]:
    if regime.change == "coarse":
        return ()
    return ("model.width=16",) if regime.overrides[:2] == CONVNET else ("model.width=2",)
