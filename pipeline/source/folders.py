"""Layouts of images in folders named by class, also within train, val and test."""

from collections import Counter
from collections.abc import Sequence

from pipeline.artefacts.source import SPLIT_NAMES, SPLITS
from pipeline.source import layout
from pipeline.source.files import Skipped, Tree
from pipeline.source.layout import LabelledFile, Layout, UnfitError, counted


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
    images, skipped = _in_folders(tree, False, "it lies beside the folders of the classes")
    if {image.label.lower() for image in images} <= SPLIT_NAMES.keys():
        return None
    _check_classes(images)
    return Layout("folders", f"image folder with {counted(images)}, no test split", images, skipped)


def by_split(tree: Tree) -> Layout | None:
    """A folder for each split, with a folder for each class."""
    images, skipped = _in_folders(tree, True, "it lies in no class of train, val or test")
    if not images:
        return None
    counts = Counter(image.split for image in images)
    if "train" not in counts:
        raise UnfitError(
            f"data.source must hold a train folder, with a folder for each class, beside {', '.join(sorted(counts))}; it has "
            "none."
        )
    _check_classes(images)
    sizes = ", ".join(f"{name} {counts[name]:,}" for name in SPLITS if name in counts)
    return Layout("splits", f"image folder with splits, {counted(images)} ({sizes})", images, skipped)


def _in_folders(tree: Tree, has_splits: bool, beside: str) -> tuple[list[LabelledFile], list[Skipped]]:
    """The images in the folders of classes, and the files that are left out.

    With `has_splits`, the folders of classes lie in folders of splits. `beside` is the evidence for an image elsewhere.
    """
    entries = tree.listing.entries
    images: list[LabelledFile] = []
    skipped: list[Skipped] = []
    if not layout.has_image_names(entries):
        return images, skipped
    wrapper = _unwrapped([entry.path for entry in entries if layout.may_be_image(entry.path)])
    for entry in entries:
        path = entry.path.removeprefix(wrapper)
        *folders, _ = path.split("/")
        split = _split_of(path) if has_splits else ""
        if not layout.is_image(tree, entry):
            evidence = f"a .{layout.extension(entry.path)} file by name and content"
            skipped.append(Skipped(entry.path, "not_an_image", evidence))
        elif split is None or len(folders) < 1 + has_splits or not entry.path.startswith(wrapper):
            skipped.append(Skipped(entry.path, "unlisted", beside))
        else:
            images.append(LabelledFile(entry, layout.class_name(folders[has_splits]), split))
    return images, skipped


def _check_classes(images: Sequence[LabelledFile]) -> None:
    classes = {image.label for image in images}
    if len(classes) == 1:
        raise UnfitError(
            f"data.source must hold images of at least two classes, each in a folder of its name; it has {classes.pop()!r} "
            "alone."
        )
