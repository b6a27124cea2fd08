"""Measures the recall and the precision of the search for near duplicates on two sets of real images with a planted leak.

    python benchmarks/near_duplicates.py [--data data] [--seeds 5] [--picture pairs.png]
    python benchmarks/near_duplicates.py --scale 1000000

Each seed draws 20 images for each kind of change, and appends the changed ones to the whole dataset, as if they had slipped
into its test split. `precision` counts a pair as right if it is an image and its own changed copy. The other pairs are
the dataset's own: wrong, except in the last row, where those whose pixels differ by a root mean square of 5 of 255 or
less (half of what JPEG of quality 50 changes) count as the same picture. `--picture` draws the dataset's own pairs, to
judge them by eye.

The rival is the 64-bit perceptual hash of Zauner (2010) that imagehash and imagededup compute: equal hashes, as
cleanvision compares them, and up to 10 bits apart, imagededup's default.

`the leak of 60` is the part of the planted images that was re-encoded at quality 75, flipped or shifted.

`--scale` times the search on random pictures, and shows the memory it takes beyond that of the imports.
"""

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.data import raw_dataset
from pipeline.data.near_duplicates import SIDE, SIGNATURE_BYTES, VARIANTS, near_duplicates, signature
from pipeline.metrics.intervals import wilson

PLANTED = 20
SAME_RMS = 5.0


def jpeg(quality: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def encode(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return encode


def resized(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    sides = [round(0.9 * side) for side in image.shape]
    return np.asarray(Image.fromarray(image).resize(sides[::-1], Image.Resampling.BICUBIC))


def shifted(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """By two pixels in one of the four directions; black enters."""
    axis, back = generator.integers(2), generator.integers(2)
    moved = np.roll(image, -2 if back else 2, axis=axis)
    np.moveaxis(moved, axis, 0)[slice(-2, None) if back else slice(2)] = 0
    return moved


KINDS = {
    "identical copy": lambda image, generator: image.copy(),
    "re-encoded, quality 95": jpeg(95),
    "re-encoded, quality 75": jpeg(75),
    "re-encoded, quality 60": jpeg(60),
    "re-encoded, quality 50": jpeg(50),
    "resized to 90 %": resized,
    "flipped": lambda image, generator: image[:, ::-1],
    "shifted by 2 pixels": shifted,
}


def fashion_mnist(folder: Path) -> np.ndarray:
    return np.concatenate([block.read() for block in raw_dataset.read(folder).blocks])[..., 0]


def digits() -> np.ndarray:
    return (load_digits().images * 255 // 16).astype(np.uint8)


def perceptual_hash(image: np.ndarray) -> np.uint64:
    """A bit for each of the 8×8 lowest frequencies of the 32×32 thumbnail: whether it is above their median."""
    waves = cv2.dct(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32))[:8, :8].ravel()
    return np.packbits(waves > np.median(waves)).view(np.uint64)[0]


def hash_pairs(natural: np.ndarray, planted: np.ndarray, most_bits: int) -> np.ndarray:
    """Pairs that involve a planted image, whose hashes are at most so many bits apart."""
    hashes = np.concatenate([natural, planted])
    pairs = []
    for number in range(len(natural), len(hashes)):
        others = np.flatnonzero(np.bitwise_count(hashes[:number] ^ hashes[number]) <= most_bits)
        pairs.append(np.stack([others, np.full(len(others), number)], axis=1))
    return np.concatenate(pairs)


def show(label: str, right: int, total: int) -> None:
    low, high = wilson(right, total) if total else (0.0, 1.0)
    print(f"  {label:44s} {right:6,} of {total:9,}  {right / max(1, total):6.3f}  [{low:.3f}, {high:.3f}]", flush=True)


def measure(name: str, images: np.ndarray, seeds: int, picture: Path | None) -> None:
    begin = time.perf_counter()
    signatures = np.stack([signature(image[..., None]) for image in images])
    searched = time.perf_counter()
    own = near_duplicates(signatures)
    done = time.perf_counter()
    hashes = np.array([perceptual_hash(image) for image in images])
    print(
        f"\n{name}: {len(images):,} images of {'×'.join(map(str, images.shape[1:]))}; signatures in "
        f"{searched - begin:.1f} s, search in {done - searched:.1f} s"
    )
    methods = ("goodfit", "equal hashes", "hashes 10 bits apart")
    recall = {method: dict.fromkeys(KINDS, 0) for method in methods}
    involved, num_pairs = dict.fromkeys(methods, 0), 0
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        origins = generator.choice(len(images), PLANTED * len(KINDS), replace=False)
        kinds = np.repeat(list(KINDS), PLANTED)
        changed = [KINDS[kind](images[origin], generator) for kind, origin in zip(kinds, origins, strict=True)]
        planted_signatures = np.stack([signature(np.ascontiguousarray(image)[..., None]) for image in changed])
        planted_hashes = np.array([perceptual_hash(np.ascontiguousarray(image)) for image in changed])
        pairs = near_duplicates(np.concatenate([signatures, planted_signatures]))
        num_pairs += len(pairs)
        for method, its in {
            "goodfit": pairs[pairs[:, 1] >= len(images)],
            "equal hashes": hash_pairs(hashes, planted_hashes, 0),
            "hashes 10 bits apart": hash_pairs(hashes, planted_hashes, 10),
        }.items():
            involved[method] += len(its)
            planted = its[:, 1] - len(images)
            for kind in kinds[planted[origins[planted] == its[:, 0]]]:
                recall[method][kind] += 1
    for method in methods:
        print(f" {method}")
        for kind in KINDS:
            show(f"recall, {kind}", recall[method][kind], seeds * PLANTED)
        show("precision, pairs that involve a planted image", sum(recall[method].values()), involved[method])
    print(" goodfit, all pairs found")
    same = sum(rms(images[first], images[second]) <= SAME_RMS for first, second in own)
    right, wrong = sum(recall["goodfit"].values()), num_pairs - sum(recall["goodfit"].values())
    leak = sum(recall["goodfit"][kind] for kind in ("re-encoded, quality 75", "flipped", "shifted by 2 pixels"))
    for name_of_leak, its in (("all", right), ("the leak of 60", leak)):
        show(f"precision, {name_of_leak}, own pairs wrong", its, its + wrong)
        show(f"precision, {name_of_leak}, {same} of {len(own)} own right", its + seeds * same, its + wrong)
    _, counts = np.unique(hashes, return_counts=True)
    print(f" equal hashes: {(counts * (counts - 1) // 2).sum():,} of the dataset's own pairs")
    if picture and len(own):
        draw(images, own, picture.with_stem(f"{picture.stem}-{name}"))


def rms(first: np.ndarray, second: np.ndarray) -> float:
    """Root of the mean squared difference of the pixels of two images, one of them mirrored where that is less."""
    return min(float(np.sqrt(np.square(first.astype(float) - each).mean())) for each in (second, second[:, ::-1]))


def draw(images: np.ndarray, pairs: np.ndarray, path: Path, columns: int = 6) -> None:
    """Each pair side by side, enlarged, with its indices and how much the pixels differ."""
    scale = max(1, 112 // images.shape[2])
    height, width = scale * images.shape[1] + 16, 2 * scale * images.shape[2] + 12
    sheet = np.full((height * -(-len(pairs) // columns), width * columns), 255, np.uint8)
    for number, (first, second) in enumerate(pairs):
        top, left = height * (number // columns), width * (number % columns)
        both = np.hstack([images[first], images[second]]).repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[top + 14 : top + 14 + both.shape[0], left : left + both.shape[1]] = both
        text = f"{first} {second}  rms {rms(images[first], images[second]):.1f}"
        cv2.putText(sheet, text, (left, top + 11), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0,), 1, cv2.LINE_AA)
    Image.fromarray(sheet).save(path)


def time_search(num_images: int) -> None:
    """On random pictures whose contrast falls with the frequency, as that of photographs does.

    White noise, which has no low frequencies to search by, is the worst case, and of no use: a tenth must do.
    """
    imports = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        for name, number, spots in (
            ("pictures", num_images, {2: 40, 4: 20, 8: 10, 16: 5}),
            ("noises", num_images // 10, {16: 60}),
        ):
            write_signatures(Path(folder) / name, number, spots)
            signatures = np.lib.format.open_memmap(Path(folder) / name, "r")
            for variants in (VARIANTS[:1], VARIANTS):
                begin = time.perf_counter()
                pairs = near_duplicates(signatures, variants)
                seconds = time.perf_counter() - begin
                memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imports) / 2**20
                print(
                    f"{number:,} {name}, {', '.join(variants)}: {seconds:.1f} s, {memory:.2f} GiB, {len(pairs)} pairs",
                    flush=True,
                )


def write_signatures(path: Path, num_images: int, spots: dict[int, int]) -> None:
    """Sums of random spots: so many along a side, with this standard deviation of their brightness."""
    generator = np.random.default_rng(0)
    signatures = np.lib.format.open_memmap(path, "w+", np.uint8, (num_images, SIGNATURE_BYTES))
    for start in range(0, num_images, 10_000):
        count = min(10_000, num_images - start)
        pixels = np.full((count, SIDE, SIDE), 128.0)
        for side, std in spots.items():
            layer = generator.normal(0, std, (count, side, side))
            pixels += layer.repeat(SIDE // side, axis=1).repeat(SIDE // side, axis=2)
        signatures[start : start + count, :-4] = pixels.clip(0, 255).reshape(count, -1)
        signatures[start : start + count, -4:].view("<u2")[:] = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="holds Fashion-MNIST, as fetch leaves it")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--scale", type=int, help="time the search on so many random signatures instead")
    options = parser.parse_args()
    if options.scale:
        time_search(options.scale)
        return
    measure("fashion_mnist", fashion_mnist(options.data), options.seeds, options.picture)
    measure("digits", digits(), options.seeds, options.picture)


if __name__ == "__main__":
    main()
