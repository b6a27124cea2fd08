"""Whether choosing the images to label next by uncertainty and coverage beats choosing them at random.

    PYTHONPATH=. python benchmarks/selection.py FOLDER [--rounds 5] [--images 100] [--draws 10]

FOLDER holds a folder of image files for each class. A logistic regression on features of EfficientNet-Lite0 learns from
`images` random images of the training split; then, in each round, so many more are chosen and their labels told. The accuracy
is that on validation, confirm and test images. All ways of choosing begin with the same images, and the differences are paired
by draw.

- random
- margin: the images whose two likeliest classes are closest
- covered: as `python -m pipeline.predict --select` chooses, by uncertainty and k-means on the features
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.composition import compose
from pipeline.delivery import selection
from pipeline.evaluation.probe import probe, regression
from pipeline.metrics.paired import difference
from pipeline.stage import lineage


def chosen_by(
    way: str, probabilities: NDArray[np.float64], features: NDArray[np.float32], count: int, seed: int
) -> NDArray[np.int64]:
    """Places of the images to label next among those without labels."""
    if way == "random":
        return np.random.default_rng(seed).permutation(len(features))[:count]
    unsure = selection.uncertainty(probabilities)
    if way == "margin":
        return np.argsort(-unsure, kind="stable")[:count]
    return selection.choose(unsure, features, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    config = compose(
        lineage.PROJECT / "conf",
        Path("params.yaml"),
        ["data=folder", f"data.source={options.source}", "model=efficientnet"],
    )
    found = probe(config, ("train", "val", "confirm", "test"))
    pool, tested = np.flatnonzero(found.splits == "train"), np.flatnonzero(found.splits != "train")
    print(f"{len(pool):,} images to choose from, {len(tested):,} to test on")
    accuracies: dict[str, list[list[float]]] = {}
    for way in ("random", "margin", "covered"):
        accuracies[way] = []
        for draw in range(options.draws):
            labelled = np.random.default_rng(draw).permutation(pool)[: options.images]
            course = []
            for step in range(options.rounds + 1):
                fitted = regression().fit(found.features[labelled], found.labels[labelled])
                course.append(float((fitted.predict(found.features[tested]) == found.labels[tested]).mean()))
                rest = np.setdiff1d(pool, labelled)
                chosen = chosen_by(
                    way,
                    fitted.predict_proba(found.features[rest]),
                    found.features[rest],
                    options.images,
                    100 * draw + step,
                )
                labelled = np.concatenate([labelled, rest[chosen]])
            accuracies[way].append(course)
        print(way, " ".join(f"{value:.3f}" for value in np.mean(accuracies[way], axis=0)), flush=True)
    for way in ("margin", "covered"):
        for step in (1, options.rounds):
            gain = difference([each[step] for each in accuracies[way]], [each[step] for each in accuracies["random"]])
            print(f"{way} after {step} rounds: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] above random")


if __name__ == "__main__":
    main()
