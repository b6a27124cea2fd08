"""`build/package/`: names of its files, and its records: preprocessing, classes, thresholds, and a manifest."""

from typing import Any, Literal

from pydantic import Field

from pipeline.artefacts.artefact import Artefact, Interval, Record
from pipeline.artefacts.evaluation import Calibration, Scores

MODEL, WEIGHTS, CLUSTERS, DRIFT, IMAGES, CARD = (
    "model.onnx", "weights.safetensors", "clusters.npz", "drift.npz", "images.npz", "card.md",
)  # fmt: skip
"""Names of the files that are no JSON: the network, from uint8 images of shape (n, size, size, channels) to logits and last
features; its weights alone; the clusters of the training images' features; a sample to compare new images with; digests of the
images that it has seen, and what it answered on the test split; and the model card."""


OutlierScore = Literal["energy", "distance"]


class PreprocessingRecord(Artefact, file="preprocessing.json", stage="package"):
    """The steps from an image to the input of the network; see `pipeline.data.preparation.Preprocessing`.

    Attributes:
        size: Height and width afterwards, in pixels.
        channels: 1 for grey, 3 for red, green and blue.
        fit: `pad`, `crop` or `stretch`.
        fill: `auto`, `edge` or a grey level.
        white_level: Value that is white in images of more than 8 bits; None: the largest of 16 bits.
        white_level_given: Whether it holds for files that tell another one too.
        max_pixels: Limit for the height × width of a file.
        orientation: Source of the orientation by which an image is turned upright: its file (EXIF, TIFF).
        transparency: Replacement of transparent pixels: the grey level `fill`, or where that is none, white, and black under
            white drawings.
        mean: Mean of each channel, for values in [0, 1]; the network's first layer takes it off.
        std: Standard deviation of each channel, likewise; that layer divides by it.
    """

    size: int
    channels: int
    fit: str
    fill: int | Literal["auto", "edge"]
    white_level: float | None
    white_level_given: bool
    max_pixels: int
    orientation: Literal["as the file tells"] = "as the file tells"
    transparency: Literal["fill, else white"] = "fill, else white"
    mean: list[float]
    std: list[float]

    def mean_colour(self) -> list[int]:
        """The mean of each channel of an image, from 0 to 255; grey images can have a mean for each of three channels."""
        means = self.mean if len(self.mean) == self.channels else [sum(self.mean) / len(self.mean)] * self.channels
        return [round(255 * value) for value in means]


class ClassesRecord(Artefact, file="classes.json", stage="package"):
    """The names of the classes, in the order of the network's outputs."""

    classes: list[str]


class Cost(Record):
    """The cost of a threshold on images that it was not set on.

    Attributes:
        split: Split that these images are of.
        recall: Share of the class's images that reach the threshold.
        precision: Share of the images that reach it that are of the class; None where no image reaches it.
        false_alarms: Share of the other images that reach it.
    """

    split: str
    recall: Interval
    precision: Interval | None
    false_alarms: Interval


class OperatingPoint(Record):
    """A class that is named as soon as its probability reaches a threshold.

    Attributes:
        label: Name of the class.
        recall: Share of its images that was asked for.
        threshold: Probability, chosen on the images that the calibration was fitted on.
        cost: Its cost on other images; None where nothing was evaluated.
    """

    label: str
    recall: float
    threshold: float
    cost: Cost | None


class ThresholdsRecord(Artefact, file="calibration.json", stage="package"):
    """What turns the network's outputs into decisions.

    Attributes:
        calibration: Calibration of the probabilities.
        coverage: Share of the images whose set shall hold the true class; None where there are no sets.
        by_class: Whether each class has a threshold of its own.
        set_thresholds: Least probability with which each class is in an image's set; empty where there are no sets.
        outlier_score: `energy` or `distance`; None where no image is called unknown.
        outlier_threshold: Score above which an image is unknown.
        outlier_kept: Share of known images that are not called unknown.
        operating_point: Class with a threshold of its own; None where the most probable class is named.
        note: Why there are no sets and no unknown images; empty where there are.
    """

    calibration: Calibration
    coverage: float | None
    by_class: bool
    set_thresholds: list[float]
    outlier_score: OutlierScore | None
    outlier_threshold: float | None
    outlier_kept: float
    operating_point: OperatingPoint | None
    note: str


class Signature(Record):
    """SHA-256 and size in bytes of a file."""

    sha256: str
    num_bytes: int


class ManifestRecord(Artefact, file="manifest.json", stage="package"):
    """The list of a package's files, and its origin.

    Attributes:
        files: Signature of every other file, by name.
        name: Name of the dataset.
        model: Name of the network.
        training: Our own id of the training.
        run_name: Name of its run.
        mlflow_run_id: Id of its run in MLflow; None where no store has answered.
        git_commit: Commit of the checkout; None without git.
        git_dirty: Whether files differed from the commit.
        data_hash: Hash of `data/` as `data.dvc` pinned it.
        fingerprints: Fingerprints of the training's recipe, of the prepared and of the augmented images, by stage.
        opset: Version of ONNX's operators.
        split: Split that the scores are of; None where nothing was evaluated.
        scores: Scores on it.
        verdict: Verdict of the diagnosis; None where there is none.
        concerns: Names of its concerns.
        network: Arguments of `pipeline.model.build`, with which the weights can be loaded; empty in packages that do not tell.
    """

    files: dict[str, Signature]
    name: str
    model: str
    training: str
    run_name: str
    mlflow_run_id: str | None
    git_commit: str | None
    git_dirty: bool
    data_hash: str | None
    fingerprints: dict[str, str]
    opset: int
    split: str | None
    scores: Scores | None
    verdict: str | None
    concerns: list[str]
    network: dict[str, Any] = Field(default_factory=dict)


FILES = (
    MODEL, WEIGHTS, CLUSTERS, DRIFT, IMAGES, CARD,
    PreprocessingRecord.FILE, ClassesRecord.FILE, ThresholdsRecord.FILE, ManifestRecord.FILE,
)  # fmt: skip
"""Names of all files that a package may hold."""
