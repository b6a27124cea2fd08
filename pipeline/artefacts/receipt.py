"""`receipt.json`: what became of a package in MLflow's registry, and why."""

from typing import Literal

from pipeline.artefacts.artefact import Artefact, Interval, Record


class Comparison(Record):
    """A candidate against the champion, on test images that neither was trained on.

    Attributes:
        champion: Version of the champion.
        num_images: Number of images.
        only_candidate: Number of images that the candidate alone classified rightly.
        only_champion: Number of images that the champion alone classified rightly.
        difference: Accuracy of the candidate less that of the champion, with a 95 % interval for paired proportions.
        p_value: Two-sided p value of the exact McNemar test.
        run_again: Whether the champion was run on the candidate's images, as it had been tested on others.
    """

    champion: str
    num_images: int
    only_candidate: int
    only_champion: int
    difference: Interval
    p_value: float
    run_again: bool


class Measured(Record):
    """What limits are set on.

    Attributes:
        accuracy: Accuracy on the test split; None where it was not evaluated.
        size_mb: Size of the package in megabytes.
        latency_ms: Median time to classify one image file on this machine, in milliseconds.
    """

    accuracy: float | None
    size_mb: float
    latency_ms: float


class ReceiptRecord(Artefact, file="receipt.json", stage="register"):
    """The decision about a package.

    Attributes:
        decision: `champion`, `challenger`, or `off` where registering is not enabled.
        reason: Why, as a sentence.
        name: Name of the registered model; None where nothing was registered.
        model_version: Number of its version.
        package: Digest of the package.
        training: Our own id of the training.
        measured: What limits are set on.
        comparison: Comparison with the champion; None where there was none, or none could be made.
        candidates: Number of packages that this test split has judged under this name, this one among them.
    """

    decision: Literal["champion", "challenger", "off"]
    reason: str
    name: str | None
    model_version: str | None
    package: str
    training: str
    measured: Measured | None
    comparison: Comparison | None
    candidates: int
