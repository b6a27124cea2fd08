"""Builds a package from a training: its network, its thresholds, and its card."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import DiagnosisRecord
from pipeline.artefacts.evaluation import Calibration, EvaluationRecord
from pipeline.artefacts.outputs import CALIBRATION, EVALUATED, SHUFFLED, TRAINING, NetworkOutputs
from pipeline.artefacts.package import (
    CARD,
    CLUSTERS,
    DRIFT,
    FILES,
    IMAGES,
    ClassesRecord,
    Cost,
    ManifestRecord,
    OperatingPoint,
    OutlierScore,
    PreprocessingRecord,
    Signature,
    ThresholdsRecord,
)
from pipeline.artefacts.rounds import RoundsRecord
from pipeline.artefacts.run import RunRecord
from pipeline.config.schema import Config
from pipeline.config.schema import Package as Settings
from pipeline.config.section import nearest
from pipeline.delivery import card
from pipeline.delivery.decisions import answers_of, outlier_scores
from pipeline.delivery.export import OPSET, export
from pipeline.delivery.sample import write_sample
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation import outputs
from pipeline.evaluation.accuracy import best_weights
from pipeline.evaluation.outputs import FEWEST, Reference
from pipeline.metrics import conformal
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.intervals import wilson
from pipeline.metrics.outliers import Clusters, fit_clusters
from pipeline.stage.inputs import check_input, input_folder
from pipeline.storage import atomic
from pipeline.storage.digests import sha256
from pipeline.storage.places import CACHE
from pipeline.storage.tables import read_parquet_column

TRAINING_KEY, EVALUATION_KEY, DIAGNOSIS_KEY = "package.training", "package.evaluation", "package.diagnosis"

KEPT = 0.99
"""Share of known images that are not called unknown."""


@dataclass(frozen=True)
class Sources:
    """The folders that a package is made from.

    Attributes:
        training: Output of the train stage.
        prepared: Output of the prepare stage that it was made from.
        evaluation: Output of the evaluate stage for that training; None: the test split is not looked at.
        diagnosis: Output of the diagnose stage for that training, or None.
    """

    training: Path
    prepared: Path
    evaluation: Path | None
    diagnosis: Path | None


def build(sources: Sources, settings: Settings, out: Path, *, tta: str, batch_size: int) -> ManifestRecord:
    """Write a package into `out`.

    Args:
        sources: The folders that it is made from.
        settings: Section `package` of the configuration.
        out: Folder to fill.
        tta: Views of each image to average over, where no evaluation tells.
        batch_size: Number of images at a time.

    Raises:
        DataError: A folder is not whole, or they are not of one training.
        ConfigError: The operating point names no class, or asks for what no threshold reaches.
    """
    run = RunRecord.read(sources.training, TRAINING_KEY)
    check_input(run, "prepare", sources.prepared, TRAINING_KEY)
    dataset = DatasetRecord.read(sources.prepared)
    from pipeline.evaluation.features import KeptFeatures
    from pipeline.model.checkpoint import load_content

    network = best_weights(sources.training, run, dataset.classes)
    description = load_content(sources.training / "model.ckpt")["network"]
    evaluation = _evaluation(sources, run)
    diagnosis = _diagnosis(sources, run)
    if evaluation is not None and sources.evaluation is not None:
        folder = sources.evaluation
        names = (CALIBRATION, *((SHUFFLED, TRAINING) if evaluation.calibration.num_images >= FEWEST else ()))
        known = Reference(evaluation.calibration, {name: NetworkOutputs.read(folder, name) for name in names})
        measured = NetworkOutputs.read(folder, EVALUATED)
    else:
        kept = KeptFeatures(network, description, CACHE)
        known = outputs.reference(
            network, sources.prepared, tta=tta, batch_size=batch_size, kept=kept if kept.exist() else None
        )
        measured = None
    export(network, (dataset.size, dataset.size, dataset.channels), out)
    thresholds, clusters = _thresholds(known, measured, evaluation, settings, dataset.classes)
    if clusters is not None:
        np.savez(out / CLUSTERS, **clusters._asdict())
    found, folders = known.outputs[CALIBRATION], [sources.prepared / split for split in known.calibration.splits]
    write_sample(out / DRIFT, found, answers_of(found, thresholds, dataset.classes), folders)
    _preprocessing(run, dataset, description).write(out)
    ClassesRecord(classes=dataset.classes).write(out)
    thresholds.write(out)
    tested = measured if evaluation is not None and evaluation.split == "test" else None
    _write_images(out / IMAGES, sources.prepared, tested, thresholds, dataset.classes)
    used = settings.confirm_chose or _is_of_a_cure(sources.training)
    facts = card.Facts(run, dataset, evaluation, diagnosis, thresholds, sources.evaluation, confirm_chose=used)
    atomic.write_text(out / CARD, card.markdown(facts))
    files = {path.name: Signature(sha256=sha256(path), num_bytes=path.stat().st_size) for path in sorted(out.iterdir())}
    manifest = ManifestRecord(
        files={name: signature for name, signature in files.items() if name in FILES}, name=dataset.name,
        model=run.config["model"]["name"], training=run.id, run_name=run.name, mlflow_run_id=run.mlflow_run_id,
        git_commit=run.git_commit, git_dirty=run.git_dirty, data_hash=run.data_hash,
        fingerprints={"train": run.fingerprint, "prepare": run.prepare_fingerprint, "augment": run.augment_fingerprint},
        opset=OPSET, split=evaluation.split if evaluation else None, scores=evaluation.scores if evaluation else None,
        verdict=diagnosis.verdict if diagnosis else None,
        concerns=[each.name for each in diagnosis.concerns] if diagnosis else [],
        network=description,
    )  # fmt: skip
    manifest.write(out)
    return manifest


def build_alone(training: Path, out: Path, config: Config) -> ManifestRecord:
    """Write the package of a training that was neither evaluated nor diagnosed into `out`; see `build`."""
    run = RunRecord.read(training, TRAINING_KEY)
    if not (training / "model.ckpt").is_file():  # before images are looked for, which may be made again
        raise DataError(f"{training} must hold the weights of its training, model.ckpt; it does not. Train again.")
    sources = Sources(training=training, prepared=input_folder(run, "prepare"), evaluation=None, diagnosis=None)
    return build(sources, config.package, out, tta=config.evaluate.tta, batch_size=config.evaluate.batch_size)


def _evaluation(sources: Sources, run: RunRecord) -> EvaluationRecord | None:
    if sources.evaluation is None:
        return None
    record = EvaluationRecord.read(sources.evaluation, EVALUATION_KEY)
    if record.training != run.id:
        raise _of_another(EVALUATION_KEY, "an evaluation", sources.training, sources.evaluation)
    return record


def _diagnosis(sources: Sources, run: RunRecord) -> DiagnosisRecord | None:
    if sources.diagnosis is None:
        return None
    record = DiagnosisRecord.read(sources.diagnosis, DIAGNOSIS_KEY)
    if record.training != run.id:
        raise _of_another(DIAGNOSIS_KEY, "a diagnosis", sources.training, sources.diagnosis)
    return record


def _of_another(key: str, what: str, training: Path, folder: Path) -> DataError:
    return DataError(
        f"{key} must be {what} of the training in {str(training)!r}; got {str(folder)!r}, made of another one. Run "
        f"`dvc repro`, or name another folder with {key}=…."
    )


def _is_of_a_cure(training: Path) -> bool:
    """Whether a cure, which chooses on the confirm split, has made the training."""
    return any((folder / RoundsRecord.FILE).exists() for folder in training.absolute().parents[:4])


def _preprocessing(run: RunRecord, dataset: DatasetRecord, network: Mapping[str, Any]) -> PreprocessingRecord:
    return PreprocessingRecord(
        size=dataset.size, channels=dataset.channels, fit=dataset.fit, fill=dataset.fill, white_level=dataset.white_level,
        white_level_given=dataset.white_level_given, max_pixels=run.config["prepare"]["max_pixels"], mean=network["mean"],
        std=network["std"],
    )  # fmt: skip


def _thresholds(
    known: Reference, measured: NetworkOutputs | None, evaluation: EvaluationRecord | None, settings: Settings,
    classes: list[str],
) -> tuple[ThresholdsRecord, Clusters | None]:  # fmt: skip
    """The thresholds, and the clusters that one of them needs."""
    calibration, found = known.calibration, known.outputs[CALIBRATION]
    if calibration.num_images < FEWEST:
        note = (
            f"There are {calibration.num_images} images of {' and '.join(calibration.splits)}, and {FEWEST} are needed: "
            "nothing is calibrated, there are no sets, and no image is called unknown."
        )
        if settings.operating_point:
            raise ConfigError(
                f"package.operating_point must be null where fewer than {FEWEST} images can set a threshold; got "
                f"{settings.operating_point['class']!r}, and {calibration.num_images} images."
            )
        nothing = ThresholdsRecord(
            calibration=calibration, coverage=None, by_class=False, set_thresholds=[], outlier_score=None,
            outlier_threshold=None, outlier_kept=KEPT, operating_point=None, note=note,
        )  # fmt: skip
        return nothing, None
    probabilities = calibrated(found.log_probabilities, calibration.temperature)
    clusters = fit_clusters(known.outputs[TRAINING].features, known.outputs[TRAINING].labels)
    kind = _surer_score(found, known.outputs[SHUFFLED], clusters)
    scores = outlier_scores(kind, found.logits, found.features, clusters)
    record = ThresholdsRecord(
        calibration=calibration, coverage=settings.coverage,
        by_class=conformal.is_by_class(found.labels, len(classes)),
        set_thresholds=conformal.thresholds(found.labels, probabilities, settings.coverage), outlier_score=kind,
        outlier_threshold=-conformal.lower_quantile(-scores, KEPT) if len(scores) >= 1 / (1 - KEPT) else float(scores.max()),
        outlier_kept=KEPT, note="",
        operating_point=_operating_point(settings, found, probabilities, classes, calibration, measured, evaluation),
    )  # fmt: skip
    return record, clusters if kind == "distance" else None


def _surer_score(known: NetworkOutputs, shuffled: NetworkOutputs, clusters: Clusters) -> OutlierScore:
    """The score that tells images from the same with their tiles shuffled more surely, by the area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    is_outlier = np.repeat([0, 1], [len(known), len(shuffled)])

    def area(kind: OutlierScore) -> float:
        scores = [outlier_scores(kind, each.logits, each.features, clusters) for each in (known, shuffled)]
        return float(roc_auc_score(is_outlier, np.concatenate(scores)))

    kinds: tuple[OutlierScore, ...] = ("energy", "distance")
    return max(kinds, key=area)


def _operating_point(
    settings: Settings, found: NetworkOutputs, probabilities: NDArray[np.float32], classes: list[str],
    calibration: Calibration, measured: NetworkOutputs | None, evaluation: EvaluationRecord | None,
) -> OperatingPoint | None:  # fmt: skip
    if not settings.operating_point:
        return None
    label, recall = settings.operating_point["class"], settings.operating_point["recall"]
    if label not in classes:
        raise ConfigError(
            f"package.operating_point.class must be a class of the data; got {label!r}.{nearest(label, classes)}"
        )
    column = classes.index(label)
    threshold = conformal.lower_quantile(probabilities[found.labels == column, column], recall)
    if threshold == 0:
        raise ConfigError(
            f"package.operating_point.recall must be within reach of the images that set the threshold; got {recall}, and "
            f"{int((found.labels == column).sum())} images of {label!r} in {' and '.join(calibration.splits)}."
        )
    cost = None
    if measured is not None and evaluation is not None:
        cost = _cost(evaluation, measured, column, threshold)
    return OperatingPoint(label=label, recall=recall, threshold=threshold, cost=cost)


def _cost(evaluation: EvaluationRecord, measured: NetworkOutputs, column: int, threshold: float) -> Cost:
    reached = calibrated(measured.log_probabilities, evaluation.calibration.temperature)[:, column] >= np.float32(
        threshold
    )
    is_class = measured.labels == column
    return Cost(
        split=evaluation.split, recall=_share(reached[is_class]),
        precision=_share(is_class[reached]) if reached.any() else None, false_alarms=_share(reached[~is_class]),
    )  # fmt: skip


def _share(hits: NDArray[np.bool_]) -> Interval:
    if not len(hits):
        return Interval(value=0.0, low=0.0, high=1.0)
    low, high = wilson(int(hits.sum()), len(hits))
    return Interval(value=float(hits.mean()), low=low, high=high)


def _write_images(
    path: Path, prepared: Path, tested: NetworkOutputs | None, thresholds: ThresholdsRecord, classes: list[str]
) -> None:
    """Write digests of the images that trained and chose the weights, and of the tested ones with label and prediction."""
    used = [_digests(prepared / split) for split in ("train", "val", "confirm")]
    test, labels, predicted = (np.empty(0, kind) for kind in (np.uint64, np.int64, np.int64))
    if tested is not None:
        test, labels = _digests(prepared / "test"), tested.labels
        predicted = answers_of(tested, thresholds, classes)
    content = BytesIO()
    np.savez(content, used=np.unique(np.concatenate(used)), test=test, labels=labels, predicted=predicted)
    atomic.write_bytes(path, content.getvalue())


def _digests(split: Path) -> NDArray[np.uint64]:
    """The first 64 bits of each image's SHA-256."""
    texts = read_parquet_column(split / "ids.parquet", "sha256")
    return np.array([int(text[:16], 16) for text in texts], np.uint64)
