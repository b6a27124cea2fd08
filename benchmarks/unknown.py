"""How often the sets of a package hold the true class, and how well it tells images that it does not know.

    make run && python benchmarks/unknown.py

Reads build/package and build/evaluate (Fashion-MNIST, the default), trains and evaluates digits by hand for the second row, and
prints a Markdown table. Known images are those of the test split. Unknown ones are scikit-learn's handwritten digits, enlarged
from 8 to 28 pixels, for Fashion-MNIST; and uniform noise for both.
"""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from pipeline.artefacts.outputs import EVALUATED, NetworkOutputs
from pipeline.delivery import Classifier
from pipeline.delivery.decisions import decide, outlier_scores
from pipeline.metrics.intervals import wilson
from pipeline.stage import lineage


def main() -> None:
    print("| data | test images | asked | sets that hold the class | classes in a set | called unknown | AUROC |")
    print("|---|---|---|---|---|---|---|")
    build = lineage.PROJECT / "build"
    _row("Fashion-MNIST", build / "package", build / "evaluate", {"digits": _digits(), "noise": _noise()})
    training = _run("train", "data=digits", "train.max_epochs=30")
    evaluation = _run("evaluate", "data=digits", f"evaluate.training={training}")
    package = _run("package", f"package.training={training}", f"package.evaluation={evaluation}")
    _row("digits", package, evaluation, {"noise": _noise()})


def _row(title: str, package: Path, evaluation: Path, unknown: dict[str, list[NDArray[np.uint8]]]) -> None:
    classifier, known = Classifier.load(package), NetworkOutputs.read(evaluation, EVALUATED)
    content = classifier.package
    decided = decide(
        known.logits, known.features, known.log_probabilities, content.thresholds, content.clusters, classifier.classes
    )
    assert decided.sets is not None and decided.unknown is not None
    held = decided.sets[np.arange(len(known)), known.labels]
    low, high = wilson(int(held.sum()), len(held))
    kind = content.thresholds.outlier_score
    assert kind is not None
    scores = outlier_scores(kind, known.logits, known.features, content.clusters)
    areas = []
    for name, images in unknown.items():
        pixels = np.concatenate([batch.pixels for batch in classifier.stream(("", image) for image in images)])
        other = outlier_scores(kind, *classifier.outputs(pixels), content.clusters)
        area = roc_auc_score(np.repeat([0, 1], [len(scores), len(other)]), np.concatenate([scores, other]))
        caught = (other > content.thresholds.outlier_threshold).mean()
        areas.append(f"{name} {area:.3f} ({caught:.0%} called unknown)")
    print(
        f"| {title} | {len(known):,} | {content.thresholds.coverage:.0%} | {held.mean():.3f} [{low:.3f}, {high:.3f}] "
        f"| {decided.sets.sum(axis=1).mean():.2f} | {decided.unknown.mean():.1%} by {kind} | {'; '.join(areas)} |"
    )


def _digits() -> list[NDArray[np.uint8]]:
    images = (load_digits().images * (255 / 16)).astype(np.uint8)
    return [np.asarray(cv2.resize(image, (28, 28), interpolation=cv2.INTER_CUBIC), np.uint8) for image in images]


def _noise() -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 256, (1000, 28, 28), np.uint8))


def _run(stage: str, *overrides: str) -> Path:
    """Run a stage by hand; gives the folder that it names."""
    command = [sys.executable, "-m", f"pipeline.{stage}", "tracking.enabled=false", *overrides]
    done = subprocess.run(command, cwd=lineage.PROJECT, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("written to "))
    return lineage.PROJECT / line.removeprefix("written to ")


if __name__ == "__main__":
    main()
