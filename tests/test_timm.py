"""Tests networks of timm with the package itself, which the environment of the tests does not have.

timm needs torchvision, and an index may offer it for torch with CUDA alone, while torch here is for CPUs. So the tests make an
environment with the torch, the torchvision and the timm that `constraints.txt` names; the other packages are those of this one.
Where timm can be imported here, this environment is taken.
"""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment

NEEDED_GIGABYTES = 8
"""Room for torch with CUDA's libraries, 5 GB, and for the files that pip unpacks."""

ARCHITECTURE = "test_resnet"
"""A network of timm with 0.5 million weights."""

MAKE_WEIGHTS = f"""
import timm, torch
from safetensors.torch import save_file
torch.manual_seed(0)
state = timm.create_model("{ARCHITECTURE}").state_dict()
save_file(state, "weights.safetensors")
torch.save(state, "weights.pth")
"""


def pinned(name: str) -> str:
    """The version of a package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{name}=="))


@pytest.fixture(scope="session")
def with_timm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python of an environment in which timm can be imported."""
    if imports_timm(sys.executable):
        yield Path(sys.executable)
        return
    folder = tmp_path_factory.mktemp("timm") / "venv"
    free = shutil.disk_usage(folder.parent).free / 1e9
    if free < NEEDED_GIGABYTES:
        pytest.skip(f"an environment with timm needs {NEEDED_GIGABYTES} GB of disk; {free:.1f} GB are free")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    # === means this build of torch and none for CPUs alone, such as 2.13.0+cpu, which torchvision may not fit
    wanted = [f"torch==={pinned('torch')}", f"torchvision=={pinned('torchvision')}", f"timm=={pinned('timm')}"]
    pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "-c", ROOT / "constraints.txt", *wanted]
    try:
        done = subprocess.run(pip, capture_output=True, text=True, timeout=1800)
        if done.returncode:
            pytest.skip(f"pip cannot install {', '.join(wanted)}: {done.stderr.strip().splitlines()[-1]}")
        packages = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        (Path(packages) / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # searched last
        assert imports_timm(python), "a torchvision that was built for this torch, and timm, which needs it"
        yield python
    finally:
        shutil.rmtree(folder)


def imports_timm(python: str | Path) -> bool:
    return subprocess.run([python, "-c", "import timm"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_network_of_timm_starts_from_weights_in_its_names_and_learns(with_timm: Path, project: Path) -> None:
    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([with_timm, *arguments], cwd=project, env=environment(), capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    run("-c", MAKE_WEIGHTS)
    chosen = ["model=timm", f"model.architecture={ARCHITECTURE}", "tracking.enabled=false"]
    records = {}
    for kind in ("safetensors", "pth"):
        run("-m", "pipeline.weights", *chosen, f"model.weights=weights.{kind}", f"hydra.run.dir={kind}")
        records[kind] = json.loads((project / kind / "weights.json").read_text())
    safe, torch_ = records["safetensors"], records["pth"]
    assert safe["files"] == torch_["files"], "the same tensors, whatever they are read from"
    assert (safe["network"], safe["channels"], safe["mean"], safe["std"]) == ("timm", 3, [0.5] * 3, [0.5] * 3)
    assert sorted(safe["left_out"]) == ["features.backbone.fc.bias", "features.backbone.fc.weight"]

    other = run(
        "-m", "pipeline.weights", "model=timm", "model.architecture=test_vit", "model.weights=weights.pth", check=False
    )
    assert "model.weights must be weights that timm can start from" in other.stderr and "Traceback" not in other.stderr
    unknown = run("-m", "pipeline.weights", "model=timm", "model.architecture=resnet81", check=False)
    assert unknown.stderr.startswith(
        "error: model.architecture must be a network of timm; got 'resnet81'. Did you mean"
    )

    fit = ["data=digits", "prepare.size=32", "augment=none", "train.max_epochs=6", "train.batch_size=32"]
    run("-m", "pipeline.train", *chosen, *fit, "model.weights=weights.safetensors", "hydra.run.dir=trained")
    run("-m", "pipeline.evaluate", *chosen, *fit, "evaluate.training=trained", "hydra.run.dir=evaluated")
    assert json.loads((project / "evaluated" / "metrics.json").read_text())["test/accuracy"] > 0.6
    assert (project / "trained" / "package" / "model.onnx").is_file()
    again = run("-m", "pipeline.predict", "build/cache", "--model", "trained/package", check=False)
    assert "Traceback" not in again.stderr
