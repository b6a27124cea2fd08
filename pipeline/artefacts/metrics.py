"""`metrics.json`: scores of the test split beside those of the best epoch."""

from pydantic import Field

from pipeline.artefacts.artefact import Artefact


class MetricsRecord(Artefact, file="metrics.json", stage="evaluate", shows_version=False):
    """Scores of the weights that were kept. DVC and MLflow show them under the names that the file has.

    Accuracies, precisions, F1 and calibration errors lie in [0, 1]; losses are cross-entropies in nats; `_low` and `_high` are
    the ends of 95 % intervals. Balanced accuracy, macro precision and macro F1 are means over the classes; `ece` is the
    expected calibration error. The clean training probe and the validation split are measured at the best epoch; `gap` is the
    accuracy on the probe less that on the validation split.
    """

    test_accuracy: float = Field(alias="test/accuracy")
    test_accuracy_low: float = Field(alias="test/accuracy_low")
    test_accuracy_high: float = Field(alias="test/accuracy_high")
    test_balanced_accuracy: float = Field(alias="test/balanced_accuracy")
    test_balanced_accuracy_low: float = Field(alias="test/balanced_accuracy_low")
    test_balanced_accuracy_high: float = Field(alias="test/balanced_accuracy_high")
    test_precision_macro: float = Field(alias="test/precision_macro")
    test_f1_macro: float = Field(alias="test/f1_macro")
    test_loss: float = Field(alias="test/loss")
    test_ece: float = Field(alias="test/ece")
    train_clean_accuracy: float = Field(alias="train_clean/accuracy")
    train_clean_loss: float = Field(alias="train_clean/loss")
    val_accuracy: float = Field(alias="val/accuracy")
    val_loss: float = Field(alias="val/loss")
    gap: float
    gap_low: float
    gap_high: float

    def by_name(self) -> dict[str, float]:
        """The scores by the names that the file has."""
        return self.model_dump(by_alias=True)
