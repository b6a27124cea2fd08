"""Holds the proposal of `python -m pipeline.suggest` against a short list of other starts, on the same images.

    python benchmarks/suggest.py CLASS_FOLDERS [--per-class 50] [--test 100] [--draws 2] [--only lenet,head]

For each draw, `per-class` images of each class become the training set and up to `test` further ones the test set; both are
the same for all starts. The starts are the proposal for these images; `lenet`, what `params.yaml` holds; `convnet` at 64
pixels; `head` and `gradual` of EfficientNet-Lite0. Each line shows the accuracy on the test set, the mean of the accuracies of
the classes, and the seconds of training with the stages before it.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from pipeline.config.grammar import quote
from pipeline.config.schema import OPTIONS
from pipeline.source.layout import IMAGES, extension

ROOT = Path(__file__).resolve().parents[1]

HEAD = ["model=efficientnet", "augment=standard", "train.max_epochs=40", "train.batch_size=32"]
STARTS = {
    "lenet": [],
    "convnet": ["model=convnet", "prepare.size=64", "augment=standard", "train.max_epochs=40", "train.batch_size=32"],
    "head": HEAD,
    "gradual": [
        "model=efficientnet", "model.train_layers=gradual", "augment=standard", "optimizer.lr=5e-4",
        "optimizer.layer_decay=0.8", "train.max_epochs=16", "train.batch_size=32",
    ],
}  # fmt: skip
QUIET = ["tracking.enabled=false", "train.early_stopping.patience=10"]


def draw(source: Path, out: Path, per_class: int, test: int, seed: int) -> str:
    """Copy a training set and a test set into `out`; gives a description of both. Links to other files are left out."""
    generator = np.random.default_rng(seed)
    sizes = []
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        files = sorted(path for path in folder.iterdir() if extension(path.name) in IMAGES and not path.is_symlink())
        if len(files) < 20:
            continue  # too few to train on and to test on
        files = [files[place] for place in generator.permutation(len(files))]
        count = min(per_class, len(files) // 2)
        for split, chosen in (("train", files[:count]), ("test", files[count : count + test])):
            target = out / split / folder.name
            target.mkdir(parents=True)
            for path in chosen:
                shutil.copyfile(path, target / path.name)
        sizes.append((count, len(files[count : count + test])))
    train, tested = zip(*sizes, strict=True)
    each = f"{min(train)} to {max(train)} a class"
    return f"{len(sizes)} classes, {sum(train)} training images ({each}), {sum(tested)} test images"


def proposal(photos: Path) -> list[str]:
    """The proposal for these images, as overrides."""
    text = command("suggest", str(photos))
    print(re.sub("^", "    ", text, flags=re.MULTILINE))
    overrides = []
    for section, values in YAML(typ="safe").load(text).items():
        values = dict(values) if isinstance(values, dict) else values
        if section in ("data", "experiment"):
            continue
        if section in (*OPTIONS, "augment") and isinstance(values, dict):
            overrides.append(f"{section}={values.pop('name')}")
        overrides += flat(section, values)
    return overrides


def flat(key: str, value: object) -> list[str]:
    if isinstance(value, dict) and not key.startswith("augment.veto"):
        return [override for name, item in value.items() for override in flat(f"{key}.{name}", item)]
    return [f"{key}={quote(value)}"]


def command(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"pipeline.{name}", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{name} {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with a folder of images for each class")
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--only", default=",".join(["proposal", *STARTS]), help="names of the starts")
    options = parser.parse_args()
    results: dict[str, list[float]] = {}
    for number in range(options.draws):
        with tempfile.TemporaryDirectory() as scratch:
            photos = Path(scratch) / "photos"
            print(f"draw {number}: {draw(options.source, photos, options.per_class, options.test, number)}", flush=True)
            for name in options.only.split(","):
                overrides = proposal(photos) if name == "proposal" else [*STARTS[name], *QUIET[1:]]
                mine = [*overrides, QUIET[0], "data=folder", f"data.source={quote(str(photos))}"]
                begin = time.perf_counter()
                command("train", *mine, f"hydra.run.dir={scratch}/{name}/train")
                seconds = time.perf_counter() - begin
                where = f"evaluate.training={scratch}/{name}/train", f"hydra.run.dir={scratch}/{name}/evaluate"
                command("evaluate", *mine, *where)
                metrics = json.loads((Path(scratch) / name / "evaluate" / "metrics.json").read_text())
                accuracy, balanced = metrics["test/accuracy"], metrics["test/balanced_accuracy"]
                results.setdefault(name, []).append(accuracy)
                print(f"  {name:<9} {accuracy:.3f}   balanced {balanced:.3f}   {seconds:.0f} s", flush=True)
    for name, accuracies in results.items():
        print(f"{name:<9} mean {np.mean(accuracies):.3f}   {', '.join(f'{value:.3f}' for value in accuracies)}")


if __name__ == "__main__":
    main()
