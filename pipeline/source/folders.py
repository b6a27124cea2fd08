"""Images in folders named by class, also within train, val and test."""

from collections import Counter
from collections.abc import Sequence

from pipeline.config.errors import DataError
from pipeline.source.files import Skipped, Tree
from pipeline.source.found import (
    SPLITS,
    Found,
    Row,
    class_name,
    counted,
    ending,
    has_image_names,
    is_image,
    may_be_image,
)


def _unwrapped(paths: Sequence[str], depth: int) -> str:
    """The folder, with its slash, around all the `paths`, as long as `depth` more levels are below it."""
    wrapper = ""
    while paths and all(path.count("/") >= wrapper.count("/") + depth + 1 for path in paths):
        first = paths[0][len(wrapper) :].split("/")[0]
        if first.lower() in SPLITS or not all(path.startswith(f"{wrapper}{first}/") for path in paths):
            break
        wrapper += f"{first}/"
    return wrapper


def by_class(tree: Tree) -> Found | None:
    entries = tree.listing.entries
    if not has_image_names(entries):
        return None
    rows, skipped = [], []
    wrapper = _unwrapped([entry.path for entry in entries if may_be_image(entry.path)], 1)
    for entry in entries:
        parts = entry.path.removeprefix(wrapper).split("/")
        if not is_image(tree, entry):
            skipped.append(Skipped(entry.path, "not_an_image", f"a .{ending(entry.path)} file by name and content"))
        elif len(parts) < 2 or not entry.path.startswith(wrapper):
            skipped.append(Skipped(entry.path, "unlisted", "it lies beside the folders of the classes"))
        else:
            rows.append(Row(entry, class_name(parts[0])))
    names = {row.label for row in rows}
    if len(names) < 2 or {name.lower() for name in names} <= SPLITS.keys():
        return None
    return Found("folders", f"image folder with {counted(rows)}, no test split", rows, skipped)


def by_split(tree: Tree) -> Found | None:
    entries = tree.listing.entries
    if not has_image_names(entries):
        return None
    images = [entry for entry in entries if may_be_image(entry.path)]
    wrapper = _unwrapped([entry.path for entry in images], 2)
    rows, skipped = [], []
    for entry in entries:
        parts = entry.path.removeprefix(wrapper).split("/")
        split = SPLITS.get(parts[0].lower())
        if not is_image(tree, entry):
            skipped.append(Skipped(entry.path, "not_an_image", f"a .{ending(entry.path)} file by name and content"))
        elif split is None or len(parts) < 3:
            skipped.append(Skipped(entry.path, "unlisted", "it lies in no class of train, val or test"))
        else:
            rows.append(Row(entry, class_name(parts[1]), split))
    if not rows or len({row.label for row in rows}) < 2:
        return None
    counts = Counter(row.split for row in rows)
    if "train" not in counts:
        raise DataError(f"data.source must hold a train folder beside {', '.join(sorted(counts))}; it has none.")
    sizes = ", ".join(f"{name} {counts[name]:,}" for name in ("train", "val", "test") if name in counts)
    return Found("splits", f"image folder with splits, {counted(rows)} ({sizes})", rows, skipped)
