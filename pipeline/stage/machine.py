"""Tells what of this machine weights depend on: versions of libraries, processor, GPU and threads."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.artefacts.run import Machine

LIBRARIES = (
    "torch", "pytorch-lightning", "numpy", "albumentations", "opencv-python-headless", "pillow", "scikit-learn", "scipy",
    "timm",
)  # fmt: skip
"""Libraries that the images or the weights depend on."""


def versions() -> dict[str, str]:
    """Version of Python and of each library that is installed; on a GPU's build of torch also CUDA's and cuDNN's."""
    import torch

    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
        found["cudnn"] = str(torch.backends.cudnn.version())
    return found


def machine(accelerator: str, threads: int | None) -> Machine:
    """This machine, as a training with these values of `train.accelerator` and `train.threads` uses it."""
    import torch

    return Machine(
        architecture=platform.machine(),
        processor=_processor(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        accelerator=_accelerator() if accelerator != "cpu" else None,
        threads=threads or torch.get_num_threads(),
    )


def _accelerator() -> str | None:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "Apple's GPU" if torch.backends.mps.is_available() else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
