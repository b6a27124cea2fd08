"""Images per second of each preset in one process and in one for each core, and when more than one process pays off.

    python benchmarks/augmentation.py [--images 8000] [--size 32] [--channels 1] [--rounds 3] [--stage]

The rates are of processes that have already started; both ways take turns, and the median of the rounds counts. What a
process costs to start is shown apart. `--stage` then times the whole stage on 48,000 images with 4 copies of each, as a
process of its own with its imports: in one process, with one for each core, and with the default (`workers: null`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor

from pipeline.augment import IMAGES_PER_CHUNK
from pipeline.augmentation.transforms import augment_batch, build
from pipeline.config import validation

ROOT = Path(__file__).resolve().parents[1]
PRESETS = ("light", "standard", "strong")
STAGE = """
import json, sys
from pathlib import Path
from pipeline.augment import augment
from pipeline.config.schema import Augment
augment(Path(sys.argv[1]), Path(sys.argv[2]), Augment(**json.loads(sys.argv[3])))
"""


def preset(name: str) -> dict[str, Any]:
    return validation.read_yaml(ROOT / "conf" / "augment" / f"{name}.yaml")


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def rates(name: str, images: np.ndarray, workers: int, rounds: int) -> tuple[float, float]:
    """Images per second in this process, and in `workers` processes that have started."""
    pipeline = build(preset(name)["transforms"], images.shape[1], images.shape[3])
    chunks = np.array_split(images, max(1, len(images) // IMAGES_PER_CHUNK))
    parallel = Parallel(n_jobs=workers)
    parallel(delayed(augment_batch)(pipeline, chunk, 0) for chunk in chunks[:workers])
    alone, together = [], []
    for _ in range(rounds):
        alone.append(seconds(lambda: [augment_batch(pipeline, chunk, 0) for chunk in chunks]))
        together.append(seconds(lambda: parallel(delayed(augment_batch)(pipeline, chunk, 0) for chunk in chunks)))
    return len(images) / statistics.median(alone), len(images) / statistics.median(together)


def start_seconds(workers: int) -> float:
    """Seconds until each of `workers` new processes has made its first image."""
    get_reusable_executor().shutdown(wait=True)
    pipeline, image = build(["HorizontalFlip"], 8, 1), np.zeros((1, 8, 8, 1), np.uint8)
    return seconds(
        lambda: Parallel(n_jobs=workers, batch_size=1)([delayed(augment_batch)(pipeline, image, 0)] * workers)
    )


def stage_seconds(name: str, workers: int | None, prepared: Path, folder: Path) -> float:
    out = folder / f"{name}-{workers}"
    out.mkdir()
    choice = json.dumps({**preset(name), "workers": workers})
    command = [sys.executable, "-c", STAGE, str(prepared), str(out), choice]
    return seconds(lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stage", action="store_true", help="also time the whole stage; takes minutes")
    options = parser.parse_args()
    cores = cpu_count()
    shape = (options.images, options.size, options.size, options.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    print(
        f"starting {cores} processes takes {start_seconds(cores):.1f} s, nearly all of it the import of albumentations\n"
    )
    print(f"{'preset':10}{'1 process':>14}{f'{cores} processes':>16}{'ratio':>8}    ({'×'.join(map(str, shape[1:]))})")
    for name in PRESETS:
        alone, together = rates(name, images, cores, options.rounds)
        print(f"{name:10}{alone:10,.0f}/s {together:13,.0f}/s {together / alone:7.2f}")
    if options.stage:
        with tempfile.TemporaryDirectory() as folder:
            time_stage(Path(folder), cores)


def time_stage(folder: Path, cores: int) -> None:
    prepared = folder / "prepare"
    (prepared / "train").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (48_000, 32, 32, 1), dtype=np.uint8)
    np.save(prepared / "train" / "images.npy", images)
    np.save(prepared / "train" / "labels.npy", np.arange(48_000) % 10)
    record = {"classes": [str(label) for label in range(10)], "size": 32, "channels": 1}
    (prepared / "dataset.json").write_text(json.dumps(record))
    print(
        f"\n{'stage':10}{'1 process':>12}{f'{cores} processes':>14}{'default':>12}    (48,000 images, 4 copies, 32×32×1)"
    )
    for name in ("none", *PRESETS[:2]):
        times = [stage_seconds(name, workers, prepared, folder) for workers in (1, cores, None)]
        print(f"{name:10}{times[0]:10.1f} s{times[1]:12.1f} s{times[2]:10.1f} s", flush=True)


if __name__ == "__main__":
    main()
