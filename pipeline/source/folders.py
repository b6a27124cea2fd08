"""Layouts of images in folders named by class, also within train, val and test."""

from collections import Counter
from collections.abc import Sequence

from pipeline.artefacts.source import SPLIT_NAMES, SPLITS
from pipeline.source.files import Skipped, Tree
from pipeline.source.layout import (
    LabelledFile,
    Layout,
    UnfitError,
    class_name,
    counted,
    extension,
    has_image_names,
    is_image,
    may_be_image,
)


def _unwrapped(paths: Sequence[str]) -> str:
    """The folder, with its slash, that contains the folders of classes or splits.

    >>> _unwrapped(["set/cats/1.png", "set/dogs/2.png", "preview.png"]), _unwrapped(["cats/1.png"])
    ('set/', '')
    """
    wrapper = ""
    while True:
        below = [path[len(wrapper) :].split("/") for path in paths if path.startswith(wrapper)]
        names = {parts[0] for parts in below if len(parts) > 1}
        if len(names) != 1 or not any(len(parts) > 2 for parts in below):
            return wrapper
        [name] = names
        if _split_of(f"{name}/"):
            return wrapper
        wrapper += f"{name}/"


def _split_of(path: str) -> str | None:
    """The split that the first folder of a path names.

    >>> _split_of("Validation/cats/1.png"), _split_of("cats/1.png"), _split_of("test")
    ('val', None, None)
    """
    folder, slash, _ = path.partition("/")
    return SPLIT_NAMES.get(folder.strip().lower()) if slash else None


def by_class(tree: Tree) -> Layout | None:
    """A folder for each class."""
    entries = tree.listing.entries
    if not has_image_names(entries):
        return None
    images, skipped = [], []
    wrapper = _unwrapped([entry.path for entry in entries if may_be_image(entry.path)])
    for entry in entries:
        parts = entry.path.removeprefix(wrapper).split("/")
        if not is_image(tree, entry):
            skipped.append(Skipped(entry.path, "not_an_image", f"a .{extension(entry.path)} file by name and content"))
        elif len(parts) < 2 or not entry.path.startswith(wrapper):
            skipped.append(Skipped(entry.path, "unlisted", "it lies beside the folders of the classes"))
        else:
            images.append(LabelledFile(entry, class_name(parts[0])))
    classes = {image.label for image in images}
    if {name.lower() for name in classes} <= SPLIT_NAMES.keys():
        return None
    if len(classes) == 1:
        raise UnfitError(
            "data.source must hold images of at least two classes, each in a folder of its name; it has "
            f"{classes.pop()!r} alone."
        )
    return Layout("folders", f"image folder with {counted(images)}, no test split", images, skipped)


def by_split(tree: Tree) -> Layout | None:
    """A folder for each split, with a folder for each class."""
    entries = tree.listing.entries
    if not has_image_names(entries):
        return None
    wrapper = _unwrapped([entry.path for entry in entries if may_be_image(entry.path)])
    images, skipped = [], []
    for entry in entries:
        parts = entry.path.removeprefix(wrapper).split("/")
        split = _split_of(entry.path.removeprefix(wrapper))
        if not is_image(tree, entry):
            skipped.append(Skipped(entry.path, "not_an_image", f"a .{extension(entry.path)} file by name and content"))
        elif split is None or len(parts) < 3 or not entry.path.startswith(wrapper):
            skipped.append(Skipped(entry.path, "unlisted", "it lies in no class of train, val or test"))
        else:
            images.append(LabelledFile(entry, class_name(parts[1]), split))
    if not images:
        return None
    counts = Counter(image.split for image in images)
    if "train" not in counts:
        raise UnfitError(
            "data.source must hold a train folder, with a folder for each class, beside "
            f"{', '.join(sorted(counts))}; it has none."
        )
    classes = {image.label for image in images}
    if len(classes) == 1:
        raise UnfitError(
            "data.source must hold images of at least two classes, each in a folder of its name; it has "
            f"{classes.pop()!r} alone."
        )
    sizes = ", ".join(f"{name} {counts[name]:,}" for name in SPLITS if name in counts)
    return Layout("splits", f"image folder with splits, {counted(images)} ({sizes})", images, skipped)
