"""Answers of the server, as JSON."""

import numpy as np
from pydantic import BaseModel, Field

from pipeline.delivery.decisions import Decisions

DECIMALS = 7
"""Decimals of a probability: those that a float32 below 1 has."""


class Prediction(BaseModel):
    """The answer for one image; where it could not be read, the field error alone is told."""

    name: str | None = Field(description="Name that the client gave the file.")
    label: str | None = Field(default=None, description="Name of the class.")
    probability: float | None = Field(default=None, description="Calibrated probability of this class.")
    probabilities: dict[str, float] | None = Field(default=None, description="Calibrated probability of each class.")
    set: list[str] | None = Field(
        default=None, description="Classes that may be meant at the package's coverage; null where it has no sets."
    )
    unknown: bool | None = Field(
        default=None,
        description="Whether the image is unlike those of the training; null where the package cannot tell.",
    )
    error: str | None = Field(default=None, description="Why the image could not be read; null where it could.")


class Predictions(BaseModel):
    """The answer for the images of a request, in their order."""

    predictions: list[Prediction]


class Problem(BaseModel):
    """The answer to a request that cannot be met."""

    detail: str = Field(description="One sentence: what was expected, and what was found.")


class Health(BaseModel):
    """What the server serves."""

    status: str = Field(description="The word ok.")
    data: str = Field(description="Name of the dataset.")
    model: str = Field(description="Name of the network.")
    run: str = Field(description="Name of the training's run.")
    classes: list[str] = Field(description="Names of the classes.")


def rows(decided: Decisions, classes: list[str]) -> list[Prediction]:
    """The answers for images that were read, without their names."""
    found = []
    for index, label in enumerate(decided.labels):
        probabilities = decided.probabilities[index].astype(np.float64).round(DECIMALS).tolist()
        inside = None if decided.sets is None else decided.sets[index]
        prediction = Prediction(
            name=None, label=classes[label], probability=probabilities[label],
            probabilities=dict(zip(classes, probabilities, strict=True)),
            set=None if inside is None else [name for name, is_in in zip(classes, inside, strict=True) if is_in],
            unknown=None if decided.unknown is None else bool(decided.unknown[index]),
        )  # fmt: skip
        found.append(prediction)
    return found
