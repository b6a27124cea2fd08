"""Reads the outputs of the earlier stages for the report, and checks that they belong together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import Concern, DiagnosisRecord
from pipeline.artefacts.evaluation import EvaluationRecord
from pipeline.artefacts.mistakes import Mistakes
from pipeline.artefacts.outputs import EVALUATED, NetworkOutputs
from pipeline.artefacts.run import RunRecord, read_rows
from pipeline.artefacts.signals import SignalsRecord
from pipeline.artefacts.source import LEFT_OUT
from pipeline.data.problems import PROBLEMS
from pipeline.errors import DataError
from pipeline.page.in_use import InUse, in_use
from pipeline.page.mistakes import Shown, shown
from pipeline.page.originals import originals
from pipeline.stage.inputs import check_input
from pipeline.storage.checksums import read_bytes
from pipeline.storage.places import PROJECT
from pipeline.storage.tables import harmless, read_csv

TRAINING_KEY, EVALUATION_KEY, DIAGNOSIS_KEY = "report.training", "report.evaluation", "report.diagnosis"

NUM_EXAMPLES = 5
"""Largest number of files that the page names for a problem of the data."""


@dataclass(frozen=True)
class ClassScores:
    """Recall and precision of one class in the evaluation, in [0, 1], with 95 % intervals.

    Attributes:
        name: Name of the class.
        count: Number of its images.
        predicted: Number of images that were predicted as this class.
        recall: Share of its images that were predicted as this class.
        precision: Share of the predictions of this class that are right.
        f1: Harmonic mean of recall and precision.
    """

    name: str
    count: int
    recall: float
    recall_low: float
    recall_high: float
    predicted: int
    precision: float
    precision_low: float
    precision_high: float
    f1: float


@dataclass(frozen=True)
class LayerWeights:
    """The weights of a layer that penalties act on: their number, the number of zeros, and their Euclidean norm."""

    layer: str
    weights: int
    zeros: int
    norm: float


@dataclass(frozen=True)
class Problem:
    """One problem of the data: what was done with the images or classes that have it, and the first paths and evidence."""

    name: str
    meaning: str
    count: int
    action: str
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class ReportInputs:
    """The content of the folders of five stages.

    Attributes:
        run: Record of the training.
        folder: Folder of the training, as a command takes it in the project's folder.
        rows: Rows of its history.
        best: Row of the epoch whose weights were kept.
        signals: Measures from before the training.
        dataset: Record of the prepared images.
        augmentation: Record of the augmentation.
        evaluation: Record of the evaluation.
        matrix: Counts of its images by true class (row) and predicted class (column).
        per_class: Scores of each class, in the order of the labels.
        mistakes: Some wrongly classified images, the most confident first.
        outputs: Outputs of the network for the images of the evaluation.
        use: What the decisions of the package are worth on these; None without a package.
        diagnosis: Record of the diagnosis.
        weights: Weights of each layer that penalties act on.
        lr_range: Steps of the learning rate range test, with `lr`, `loss` and `smoothed`; empty where there was none.
        problems: Problems of the data.
        pictures: PNG files of the earlier stages: `overview` and `preview`; and `issues`, where some images with a
            problem can be shown.
    """

    run: RunRecord
    folder: str
    rows: list[dict[str, float]]
    best: dict[str, float]
    signals: SignalsRecord
    dataset: DatasetRecord
    augmentation: AugmentRecord
    evaluation: EvaluationRecord
    matrix: list[list[int]]
    per_class: list[ClassScores]
    mistakes: list[Shown]
    outputs: NetworkOutputs
    use: InUse | None
    diagnosis: DiagnosisRecord
    weights: list[LayerWeights]
    lr_range: list[dict[str, float]]
    problems: list[Problem]
    pictures: Mapping[str, bytes]

    @property
    def concerns(self) -> list[Concern]:
        """What should worry a reader beside the verdict, with what the evaluation adds."""
        if "val_accuracy" not in self.diagnosis.evidence:  # it diverged
            return self.diagnosis.concerns
        return self.diagnosis.concerns + _of_evaluation(self.evaluation, self.diagnosis.interval("val_accuracy"))

    @property
    def num_evaluated(self) -> int:
        """The number of images of the evaluation."""
        return sum(map(sum, self.matrix))


def read(
    *, training: Path, evaluation: Path, diagnosis: Path, prepared: Path, augmented: Path, package: Path | None = None,
    named_package: Path | None = None, raw: Iterable[Path] = (),
) -> ReportInputs:  # fmt: skip
    """Read the folders of a training; see `pipeline.report.report`.

    Raises:
        DataError: A folder is not whole, or they are not of one training.
    """
    run = RunRecord.read(training, TRAINING_KEY)
    check_input(run, "prepare", prepared, TRAINING_KEY)
    check_input(run, "augment", augmented, TRAINING_KEY)
    rows = read_rows(training)
    best = next(row for row in rows if row["epoch"] == run.best_epoch)
    measured = EvaluationRecord.read(evaluation, EVALUATION_KEY)
    if measured.kept_epoch != run.at_kept_epoch(rows):
        raise DataError(
            f"{EVALUATION_KEY} must be an evaluation of the training in {str(training)!r}; got {str(evaluation)!r}, made of "
            f"another one. Run: python -m pipeline.evaluate evaluate.training={training}"
        )
    verdict = DiagnosisRecord.read(diagnosis, DIAGNOSIS_KEY)
    if verdict.training != run.id:
        raise DataError(
            f"{DIAGNOSIS_KEY} must be a diagnosis of the training in {str(training)!r}; got {str(diagnosis)!r}, made of "
            f"another one. Run: python -m pipeline.diagnose --training {training} --out FOLDER"
        )
    dataset = DatasetRecord.read(prepared)
    named = {str(harmless(name)): name for name in dataset.classes}
    files = {
        "overview": prepared / "overview.png",
        "preview": augmented / "preview.png",
    }
    files |= {"issues": prepared / "issues.png"} if (prepared / "issues.png").exists() else {}
    mistakes, outputs = Mistakes.read(evaluation), NetworkOutputs.read(evaluation, EVALUATED)
    sources = originals(raw, mistakes, dataset, run.config["prepare"]["max_pixels"])
    return ReportInputs(
        run=run, folder=_in_project(training), rows=rows, best=best, signals=SignalsRecord.read(training), dataset=dataset,
        augmentation=AugmentRecord.read(augmented), evaluation=measured,
        matrix=_matrix(evaluation / "confusion.csv", list(named)),
        per_class=[_class_scores(row, named) for row in read_csv(evaluation / "per_class.csv")],
        mistakes=shown(mistakes, sources, dataset.classes), outputs=outputs, diagnosis=verdict,
        use=None if package is None else in_use(package, run, outputs, dataset.classes, named_package),
        weights=[_layer_weights(row) for row in read_csv(training / "weights.csv")],
        lr_range=_lr_range(training / "lr_range.csv") if run.config["optimizer"]["lr"] == "auto" else [],
        problems=problems(read_csv(prepared / "issues.csv")),
        pictures={name: read_bytes(file) for name, file in files.items()},
    )  # fmt: skip


def _of_evaluation(evaluation: EvaluationRecord, val: Interval) -> list[Concern]:
    """A concern for each of test and confirm on which the accuracy is surely below that of validation."""
    measured = {
        "test": evaluation.scores.accuracy if evaluation.split == "test" else None,
        "confirm": evaluation.confirm,
    }
    return [
        Concern(
            name=f"{split}_below_validation",
            evidence=f"the {split} accuracy is {accuracy}, and that of validation {val}",
            interval=Interval(
                value=accuracy.value - val.value, low=accuracy.low - val.high, high=accuracy.high - val.low
            ),
            step=f"trust the {split} accuracy, and look whether its images come from elsewhere, or whether much was chosen by "
            "validation",
        )
        for split, accuracy in measured.items()
        if accuracy is not None and accuracy.high < val.low
    ]


def problems(rows: Iterable[Mapping[str, str]]) -> list[Problem]:
    """Group the rows of `issues.csv` by problem and action, in their order.

    >>> [blank] = problems([{"path": "a.png", "problem": "blank", "evidence": "all white", "action": "kept"}])
    >>> blank.name, blank.meaning, blank.count, blank.action, blank.examples
    ('blank', 'one colour, or nearly so', 1, 'kept', [('a.png', 'all white')])
    """
    meanings = LEFT_OUT | PROBLEMS
    grouped = defaultdict(list)
    for row in rows:
        grouped[row["problem"], row["action"]].append((row["path"], row["evidence"]))
    return [
        Problem(name.replace("_", " "), meanings[name], len(files), action, files[:NUM_EXAMPLES])
        for (name, action), files in grouped.items()
    ]


def _matrix(path: Path, classes: list[str]) -> list[list[int]]:
    counts = Counter((row["actual"], row["predicted"]) for row in read_csv(path))
    return [[counts[actual, predicted] for predicted in classes] for actual in classes]


def _class_scores(row: Mapping[str, str], named: Mapping[str, str]) -> ClassScores:
    return ClassScores(
        name=named[row["class"]], count=int(row["count"]), predicted=int(row["predicted"]), f1=float(row["f1"]),
        recall=float(row["recall"]), recall_low=float(row["recall_low"]), recall_high=float(row["recall_high"]),
        precision=float(row["precision"]), precision_low=float(row["precision_low"]),
        precision_high=float(row["precision_high"]),
    )  # fmt: skip


def _in_project(folder: Path) -> str:
    folder = folder.absolute()
    return str(folder.relative_to(PROJECT) if folder.is_relative_to(PROJECT) else folder)


def _layer_weights(row: Mapping[str, str]) -> LayerWeights:
    return LayerWeights(row["layer"], int(row["weights"]), int(row["zeros"]), float(row["norm"]))


def _lr_range(path: Path) -> list[dict[str, float]]:
    return [{key: float(text) for key, text in row.items()} for row in read_csv(path)]
