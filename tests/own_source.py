"""The section `data` for a user's own images, with small limits, as tests ask for it."""

from typing import Any

from ruamel.yaml import YAML

from pipeline.config.schema_data import Folder
from tests.conftest import ROOT


def folder(source: object, **changed: Any) -> Folder:
    """The defaults of `conf/data/folder.yaml`, with limits of a megabyte a file and ten together, and all files optional."""
    values = YAML(typ="safe").load(ROOT / "conf" / "data" / "folder.yaml") | {"licence": "none"}
    limits = {"max_file_megabytes": 1.0, "max_gigabytes": 0.01, "max_left_out": 1.0}
    return Folder(**(values | limits | {"source": str(source)} | changed))
