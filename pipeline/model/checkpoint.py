"""`model.ckpt`: a network's description, its weights and the names of its classes, without any code."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.config.errors import DataError
from pipeline.model.classifier import Classifier


def save(path: Path, network: Mapping[str, Any], state_dict: Mapping[str, Tensor], classes: Sequence[str]) -> None:
    """Write a checkpoint that does not depend on the device or the memory layout that the weights were trained in.

    Args:
        path: To write.
        network: What `build` takes, as plain numbers, strings and lists.
        state_dict: The weights, of the network itself or the best of its training.
        classes: The name of each output.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    torch.save({"network": dict(network), "state_dict": weights, "classes": list(classes)}, path)


def read(path: Path, build: Callable[..., Classifier]) -> tuple[Classifier, list[str]]:
    """The network in evaluation mode, made by `build`, and the names of its classes.

    Raises:
        DataError: There is no such file, or it is truncated, or is not a checkpoint that `save` wrote. One that would
            run code when it is read is refused, unread.
    """
    if not path.is_file():
        raise DataError(f"a model must be a file; got {str(path)!r}. Train one first: python -m pipeline.train")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        classifier = build(**content["network"])
        classifier.load_state_dict(content["state_dict"])
        classes = [str(name) for name in content["classes"]]
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"a model must be a model.ckpt that python -m pipeline.train wrote, whole; got {str(path)!r}: {reason}. "
            "Train again, or copy the file again"
        ) from error
    return classifier.eval(), classes
