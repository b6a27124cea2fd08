"""Writes and reads `model.ckpt`: a network's description, its weights and the names of its classes, without any code."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.model.network import Network


def save(path: Path, network: Mapping[str, Any], state_dict: Mapping[str, Tensor], classes: Sequence[str]) -> None:
    """Write a checkpoint that does not depend on the device or the memory layout that the weights were trained in.

    Args:
        path: File to write.
        network: Arguments of `build`, as plain numbers, strings and lists.
        state_dict: Weights of the network, its own or the best of its training.
        classes: Name of each output.

    Raises:
        DataError: The disk is full.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    try:
        torch.save({"network": dict(network), "state_dict": weights, "classes": list(classes)}, path)
    except RuntimeError as error:  # which does not tell why the file could not be written
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} must be written whole; torch could not: {reason}. Free some space, and train again."
        ) from None


def read(path: Path, build: Callable[..., Network]) -> tuple[Network, list[str]]:
    """The network in evaluation mode, made by `build`, and the names of its classes.

    Raises:
        DataError: There is no such file, or it is truncated, or is not a checkpoint that `save` wrote. One that would
            run code when it is read is refused, unread.
    """
    if not path.is_file():
        raise DataError(f"a model must be a file; got {str(path)!r}. Train one first: python -m pipeline.train")
    try:
        content = load_content(path)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        network = build(**content["network"])
        network.load_state_dict(content["state_dict"])
        classes = [str(name) for name in content["classes"]]
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise _refusal(path, str(error).splitlines()[0]) from error
    return network.eval(), classes


def load_content(path: Path, *, older: bool = False) -> Any:
    """The content of a file that torch saved: tensors, numbers, texts, lists and mappings, and never code.

    Args:
        path: File to read.
        older: Whether to take also the format of torch before 1.6, which has no checksums.

    Raises:
        ValueError: The file is damaged, of another format, or holds something else; the message is a clause.
    """
    damaged = None
    try:
        if not older or is_zipfile(path):  # torch compares no checksums, and also takes the older format
            with ZipFile(path) as file:
                damaged = file.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except UnpicklingError:  # its message advises to run the code
        raise ValueError("it holds something else than tensors, numbers and texts, which would run code") from None
    except Exception:  # of noise, torch and zipfile raise nearly anything
        raise ValueError("it is cut short or of another format") from None
    if damaged:
        raise ValueError(f"its part {damaged} does not fit its checksum")
    return content


def _refusal(path: Path, reason: str) -> DataError:
    return DataError(
        f"a model must be a model.ckpt that python -m pipeline.train wrote, whole; got {str(path)!r}: "
        f"{reason.rstrip('.')}. Train again, or copy the file again"
    )
