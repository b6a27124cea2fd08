"""The model that MLflow loads and serves: a package behind MLflow's interface. MLflow copies this file into the logged model.

A row of the input has one of three columns: `image`, the content of an image file (base64 in JSON); `array`, its pixels as
nested lists of whole numbers from 0 to 255, (height, width) or (height, width, channels); or `path`, a file on this machine,
which a server does not read. A row of the output has `label`, `probability`, `probabilities` by class, `set`, `unknown` and
`error`; see `pipeline.delivery.Classifier.predict`.
"""

import base64
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from pipeline.delivery import Classifier
from pipeline.errors import DataError

COLUMNS = ("image", "array", "path")


class ServedClassifier(PythonModel):
    """Classifies the images of a table."""

    def load_context(self, context: Any) -> None:
        self.classifier = Classifier.load(context.artifacts["package"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        classes = self.classifier.classes
        given: list[dict[Any, Any]] = model_input.to_dict("records") or [{}] * len(
            model_input
        )  # without a known column
        frame = self.classifier.predict([_reader(row) for row in given])
        rows = frame[[f"p_{name}" for name in classes]].to_numpy(np.float64)
        readable = frame["error"].isna()
        probabilities = [
            dict(zip(classes, row.tolist(), strict=True)) if is_readable else None
            for row, is_readable in zip(rows, readable, strict=True)
        ]
        answer = frame[["label", "probability", "set", "unknown", "error"]].astype(object)
        answer.insert(2, "probabilities", probabilities)
        return answer.where(answer.notna(), None)


def _reader(row: Mapping[str, Any]) -> Any:
    """The function that gives the image of a row, in which problems become that row's error."""
    given = {name: row[name] for name in COLUMNS if name in row and not _is_missing(row[name])}

    def read() -> Any:
        if len(given) != 1:
            raise DataError(f"a row must have one of image, array and path; got {', '.join(given) or 'none of them'}")
        [(name, value)] = given.items()
        if name == "path":
            if "__pyfunc_model_path__" in os.environ:  # MLflow's server sets it
                raise DataError("a server reads no files; send the content of the file as image, in base64")
            return str(value)
        return _pixels(value) if name == "array" else _content(value)

    return read


def _content(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):  # binascii's error is one
        raise DataError("an image must be the content of a file, in base64; got something else") from None


def _pixels(value: Any) -> Any:
    try:
        array = np.array(value.tolist() if isinstance(value, np.ndarray) else value)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "iu" or not array.size or array.min() < 0 or array.max() > 255:
        raise DataError(
            "an array must hold whole numbers from 0 to 255, in rows of equal length; got "
            f"{'numbers outside of these' if array.dtype.kind in 'iuf' and array.size else 'other values'}"
        )
    return array.astype(np.uint8)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


set_model(ServedClassifier())
