"""Writes and reads `model.ckpt`: a network's description, its weights and the names of its classes, without any code."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

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
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    torch.save({"network": dict(network), "state_dict": weights, "classes": list(classes)}, path)


def read(path: Path, build: Callable[..., Network]) -> tuple[Network, list[str]]:
    """The network in evaluation mode, made by `build`, and the names of its classes.

    Raises:
        DataError: There is no such file, or it is truncated, or is not a checkpoint that `save` wrote. One that would
            run code when it is read is refused, unread.
    """
    if not path.is_file():
        raise DataError(f"a model must be a file; got {str(path)!r}. Train one first: python -m pipeline.train")
    if not is_zipfile(path):  # torch.load would also take older formats, which save never wrote
        raise _refusal(path, "it is cut short or of another format")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        network = build(**content["network"])
        network.load_state_dict(content["state_dict"])
        classes = [str(name) for name in content["classes"]]
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, KeyError) as error:
        raise _refusal(path, str(error).splitlines()[0]) from error
    return network.eval(), classes


def _refusal(path: Path, reason: str) -> DataError:
    return DataError(
        f"a model must be a model.ckpt that python -m pipeline.train wrote, whole; got {str(path)!r}: "
        f"{reason.rstrip('.')}. Train again, or copy the file again"
    )
