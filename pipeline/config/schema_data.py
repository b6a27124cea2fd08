"""The sections of the schema that say which images there are and what becomes of them: `data` and `prepare`."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline.config.ranges import above, at_least, checked, fraction, one_of


@dataclass
class Published:
    """Images as their authors published them: files that are known by their SHA-256, and where they can be had."""

    name: str = MISSING
    layout: str = one_of("idx", "cifar")
    source: str | None = MISSING
    mirrors: list[str] = MISSING
    files: dict[str, str] = MISSING
    classes: list[str] = MISSING
    licence: str = MISSING
    origin: str = MISSING


LAYOUTS = ("folders", "splits", "table", "parquet", "idx", "cifar", "arrays")


@dataclass
class Folder:
    """The user's own images: a folder, an archive, a table or a bucket."""

    name: str = MISSING
    source: str | None = MISSING
    layout: str | None = one_of(*LAYOUTS)
    table: str | None = MISSING
    columns: dict[str, str] = MISSING
    classes: list[str] | None = MISSING
    title: str | None = MISSING
    licence: str = MISSING
    max_file_megabytes: float = above(0)
    max_gigabytes: float = above(0)
    storage_options: dict[str, Any] = MISSING


@dataclass
class Digits:
    """scikit-learn's 1,797 images of digits, 8×8 grey, 10 classes; needs no network."""

    name: str = MISSING


def _drop_or_fail() -> Any:
    return one_of("drop", "fail")


def _drop_keep_or_fail() -> Any:
    return one_of("drop", "keep", "fail")


def _keep_or_fail() -> Any:
    return one_of("keep", "fail")


@dataclass
class OnIssue:
    """What becomes of images with a problem; `pipeline.data.checks` tells what each means."""

    unreadable: str = _drop_or_fail()
    not_an_image: str = _drop_or_fail()
    bomb: str = _drop_or_fail()
    tiny: str = _drop_keep_or_fail()
    aspect: str = _drop_keep_or_fail()
    blank: str = _drop_keep_or_fail()
    duplicate: str = _drop_keep_or_fail()
    near_duplicate: str = _drop_keep_or_fail()
    conflicting_labels: str = _drop_keep_or_fail()
    leak: str = _drop_keep_or_fail()
    rare_class: str = _keep_or_fail()
    imbalance: str = _keep_or_fail()
    one_split: str = _keep_or_fail()
    shortcut: str = _keep_or_fail()


@dataclass
class Prepare:
    size: int = at_least(4)
    channels: int | None = checked("1 or 3", lambda value: value in (1, 3))
    fit: str = one_of("pad", "crop", "stretch")
    max_pixels: int = at_least(1)
    val_fraction: float = checked("a number in (0, 0.5]", lambda value: 0 < value <= 0.5)
    confirm_fraction: float = fraction()
    test_fraction: float = fraction()
    folds: int | None = at_least(2)
    fold: int | None = at_least(0)
    group: str | None = MISSING
    limit: int | None = at_least(1)
    random_labels: float = checked("a number in [0, 1]", lambda value: 0 <= value <= 1)
    seed: int = at_least(0)
    near_duplicates: bool = MISSING
    min_side: int = at_least(1)
    max_aspect: float = at_least(1)
    min_per_class: int = at_least(1)
    max_imbalance: float = at_least(1)
    on_issue: OnIssue = field(default_factory=OnIssue)
    workers: int | None = at_least(1)
    backend: str = one_of("loky", "ray", "dask")
