"""The sections of the schema that describe the images and their preparation: `data` and `prepare`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Count, Fraction, Natural, Positive, Probability, Section, refused


class Published(Section):
    """A dataset as its authors published it: files with known SHA-256, and mirrors that serve them."""

    name: Literal["fashion_mnist", "cifar10"]
    layout: Literal["idx", "cifar"]
    source: str | None
    mirrors: list[str]
    files: dict[str, str]
    classes: list[str]
    licence: str
    origin: str


class Folder(Section):
    """The user's own images: a folder, an archive, a table or a bucket."""

    name: Literal["folder"]
    source: str = Field(min_length=1, description="the path or the address of your images")
    layout: Literal["folders", "splits", "table", "parquet", "idx", "cifar", "arrays"] | None
    table: str | None
    columns: dict[str, str]
    drop_unlabelled: bool
    relabel: str | None
    classes: list[str] | None
    title: str | None
    licence: str
    follow_links: bool
    max_left_out: Probability
    max_file_megabytes: Positive
    max_gigabytes: Positive
    storage_options: dict[str, Any]

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        if not set(self.columns) <= set(COLUMNS):
            raise refused("data.columns", "a mapping of " + ", ".join(COLUMNS), self.columns, COLUMNS)
        return self


COLUMNS = ("path", "label", "split", "group", "image")
"""Columns of a table of images that `data.columns` may name."""


class Digits(Section):
    """scikit-learn's 1,797 images of digits, 8×8 grey, 10 classes; needs no network."""

    name: Literal["digits"]
    source: None = Field(
        description="null with data=digits, which reads scikit-learn's images; data=folder reads yours"
    )


Data = Annotated[Published | Digits | Folder, Field(discriminator="name")]

DropOrFail = Literal["drop", "fail"]
DropKeepOrFail = Literal["drop", "keep", "fail"]
KeepOrFail = Literal["keep", "fail"]


class OnIssue(Section):
    """Action for each problem of the images; `pipeline.data.problems` explains the problems."""

    unreadable: DropOrFail
    not_an_image: DropOrFail
    bomb: DropOrFail
    tiny: DropKeepOrFail
    aspect: DropKeepOrFail
    blank: DropKeepOrFail
    low_range: DropKeepOrFail
    inverted: DropKeepOrFail
    white_drawing: DropKeepOrFail
    duplicate: DropKeepOrFail
    near_duplicate: DropKeepOrFail
    conflicting_labels: DropKeepOrFail
    leak: DropKeepOrFail
    rare_class: KeepOrFail
    imbalance: KeepOrFail
    one_split: KeepOrFail
    large_group: KeepOrFail
    split_shift: KeepOrFail
    shortcut: KeepOrFail


class Prepare(Section):
    size: int = Field(ge=4)
    channels: int | None = Field(description="1 or 3 or null")
    fit: Literal["pad", "crop", "stretch"]
    max_pixels: Count
    white_level: Literal["auto"] | Positive
    fill: Literal["auto", "edge"] | Annotated[int, Field(ge=0, le=255)]
    val_fraction: float = Field(gt=0, le=0.5)
    confirm_fraction: Fraction
    test_fraction: Fraction
    folds: Annotated[int, Field(ge=2)] | None
    fold: Natural | None
    repeat: Natural
    group: str | None
    limit: Count | None
    random_labels: Probability
    seed: Natural
    near_duplicates: bool
    min_side: Count
    max_aspect: float = Field(ge=1)
    min_per_class: Count
    max_imbalance: float = Field(ge=1)
    on_issue: OnIssue
    workers: Count | None
    backend: Literal["loky", "ray", "dask"]

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: int | None) -> int | None:  # Literal[1, 3] would accept true as 1
        if channels not in (None, 1, 3):
            raise refused("prepare.channels", "1 or 3 or null", channels)
        return channels

    @model_validator(mode="after")
    def _check_fractions(self) -> Self:
        held_out = self.val_fraction + self.confirm_fraction
        if held_out >= 1:
            raise refused("prepare.val_fraction + prepare.confirm_fraction", "a number < 1", held_out)
        return self

    @model_validator(mode="after")
    def _check_folds(self) -> Self:
        folds, fold = self.folds, self.fold
        if folds is None and fold is not None:
            raise refused("prepare.fold", "null without prepare.folds", fold)
        if folds is None and self.repeat:
            raise refused("prepare.repeat", "0 without prepare.folds", self.repeat)
        if folds is not None and fold is not None and fold >= folds:  # a sweep over `fold` composes without `fold`, too
            raise refused("prepare.fold", f"a whole number in 0..{folds - 1}, as prepare.folds={folds}", fold)
        return self
