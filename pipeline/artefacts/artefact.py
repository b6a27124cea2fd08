"""Reads and writes the records of stages as JSON files with a version."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import DataError
from pipeline.storage import atomic, checksums, places
from pipeline.storage.digests import digest

DIGEST = "digest"
"""Key of a record's digest of its other keys. Records of earlier versions of goodfit lack it."""


class Record(BaseModel):
    """A part of an artefact: its fields cannot be changed, and unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True, defer_build=True)


class Interval(Record):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """The number and its interval with three decimals.

        >>> str(Interval(value=0.5, low=0.25, high=0.75))
        '0.500 [0.250, 0.750]'
        """
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Artefact(Record):
    """A record in a file of its own, which one stage writes and others read.

    Attributes:
        FILE: Name of the file in the stage's folder.
        STAGE: Name of the stage that writes it.
        VERSION: Number that grows when the fields change.
    """

    FILE: ClassVar[str]
    STAGE: ClassVar[str]
    VERSION: ClassVar[int] = 1

    def __init_subclass__(cls, file: str = "", stage: str = "") -> None:
        if file:
            cls.FILE, cls.STAGE = file, stage

    @classmethod
    def read(cls, folder: Path, key: str | None = None) -> Self:
        """Read the file in `folder`; `key` is the configuration key that names another folder, for the message.

        Raises:
            DataError: The file is missing, cut off, changed since it was written, of another version or of another type.
        """
        checksums.check(folder / cls.FILE)
        return cls.read_alone(folder, key)

    @classmethod
    def read_alone(cls, folder: Path, key: str | None = None) -> Self:
        """Read the file as `read` does, but trust its own digest, and write no note of the check into the project's cache."""
        try:
            return cls.from_json((folder / cls.FILE).read_text(encoding="utf-8"))
        except PermissionError:
            raise
        except (OSError, ValueError) as error:
            raise cls._refusal(folder, key, error) from None

    @classmethod
    def _refusal(cls, folder: Path, key: str | None, error: Exception) -> DataError:
        if places.CACHE in folder.absolute().parents:
            return checksums.damaged(folder / cls.FILE, _reason(error))
        another = f", or name another folder with {key}=…" if key else ""
        return DataError(
            f"{key or repr(str(folder))} must be a folder that {cls.STAGE} finished; got {str(folder)!r}, whose {cls.FILE} "
            f"cannot be read: {_reason(error)}. Run `dvc repro {cls.STAGE}`{another}."
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record from the content of its file.

        Raises:
            ValueError: The content is no JSON, of another version or of another type, or has changed since it was written.
        """
        content = json.loads(text)
        if isinstance(content, dict):
            own_digest = content.pop(DIGEST, None)
            if own_digest is not None and own_digest != digest(content):
                raise ValueError("it has changed since it was written, as its own digest tells")
        version = content.pop("version", None) if isinstance(content, dict) else None
        if version != cls.VERSION:
            raise ValueError(f"its version must be {cls.VERSION}; got {version!r}")
        return cls.model_validate_json(json.dumps(content))

    def to_json(self) -> str:
        """The content of the file."""
        content = {"version": self.VERSION, **self.model_dump()}
        content[DIGEST] = digest(json.loads(json.dumps(content)))
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> None:
        """Write the file into `folder`, whole or not at all."""
        atomic.write_text(folder / self.FILE, self.to_json())


def write_metrics(folder: Path, values: Mapping[str, str | float]) -> None:
    """Write `metrics.json`, each key of which is a column of `dvc exp show`, beside a record that holds more."""
    atomic.write_text(folder / "metrics.json", json.dumps(values, indent=2) + "\n")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON ({error})"
    return str(error)
