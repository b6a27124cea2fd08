"""Look at images and propose the `params.yaml` to begin with, a reason beside each line.

Reads:   the images: all names, and some hundred of the files
Writes:  nothing; with --apply params.yaml, if git has its present content
Command: python -m pipeline.suggest photos                          a folder, an archive or an address, as data.source takes it
         python -m pipeline.suggest photos data.table=labels.csv    with further keys of data
         python -m pipeline.suggest                                 the source that params.yaml names
         python -m pipeline.suggest photos --apply                  write params.yaml
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.composition import compose
from pipeline.config.grammar import quote
from pipeline.config.schema_data import Folder
from pipeline.config.secrets import masked
from pipeline.config.validation import read_yaml
from pipeline.errors import ConfigError
from pipeline.stage.program import as_program
from pipeline.storage import atomic, git
from pipeline.storage.places import PROJECT, ROOT
from pipeline.suggestion import params_file
from pipeline.suggestion.rules import suggest
from pipeline.suggestion.survey import Survey, survey
from pipeline.terminal import printable

COMMAND = "suggest"


def proposed(asked: Folder, conf: Path, params: Path, root: Path) -> str:
    """The text of a `params.yaml` for the images of `asked`, which composes with `conf`.

    Raises:
        DataError: The source cannot be read.
        ConfigError: The package for the source's address is not installed, or the source holds a secret.
    """
    found = survey(asked, root)
    defaults = read_yaml(conf / "data" / "folder.yaml")
    options = {key: value for key, value in asked.model_dump().items() if key not in ("name", "source")}
    options = {key: value for key, value in options.items() if value != defaults[key]}
    present = params.read_text() if params.exists() else ""
    content = params_file.text(_head(asked, found), suggest(found, asked.source, options), present)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / params.name
        path.write_text(content)
        compose(conf, path, [])
    return content


def _head(asked: Folder, found: Survey) -> list[str]:
    counts = found.counts.values()
    each = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    colour = "grey" if found.is_grey else "grey, in colour files" if found.looks_grey else "colour"
    return [
        f"python -m pipeline.{COMMAND} {masked(asked.source)}",
        f"{found.num_images:,} images of {len(counts):,} classes, {each} each; {colour}. {found.num_seen:,} were looked at.",
    ]


def asked_for(source: str | None, overrides: Sequence[str], conf: Path, params: Path) -> Folder:
    """The section `data` for a source of the command line, or for that of `params.yaml`.

    Raises:
        ConfigError: There is no source, or an override is none of `data`.
    """
    foreign = [override for override in overrides if not override.startswith("data.")]
    if foreign:
        raise ConfigError(
            f"{COMMAND} must be given a source, and keys of data alone; got {foreign[0]!r}. Leave it out."
        )
    own = [] if source is None else ["data=folder", f"data.source={quote(source)}"]
    data = compose(conf, params, [*own, *overrides]).data
    if not isinstance(data, Folder):
        raise ConfigError(
            f"{COMMAND} must be given your images, or params.yaml must name them; it has data={data.name}. Run "
            f"`python -m pipeline.{COMMAND} photos`, for example."
        )
    return data


def check_kept(params: Path) -> None:
    """Refuse to replace a file whose content git does not have.

    Raises:
        ConfigError: It has changes that are not committed, or git cannot tell.
    """
    try:
        changed = git.line(params.parent, "status", "--porcelain", "--ignored", "--", params.name)
    except git.GitError as error:
        changed = str(error)
    if changed:
        raise ConfigError(
            f"{params.name} must be as it was committed, so that git keeps what --apply replaces; it is not ({changed}). "
            f"Commit it, or run `python -m pipeline.{COMMAND}` without --apply and take from it what you like."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(f"python -m pipeline.{COMMAND}", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", nargs="?", help="your images; default: those that params.yaml names")
    parser.add_argument("overrides", nargs="*", metavar="data.KEY=VALUE", help="further keys of data")
    parser.add_argument("--apply", action="store_true", help="write params.yaml")
    options = parser.parse_intermixed_args(arguments)
    conf, params = PROJECT / "conf", ROOT / "params.yaml"
    if options.source is not None and options.source.startswith("data."):
        options.overrides.insert(0, options.source)
        options.source = None
    if options.apply:
        check_kept(params)
    content = proposed(asked_for(options.source, options.overrides, conf, params), conf, params, ROOT)
    print(printable(content), end="")
    if options.apply:
        atomic.write_text(params, content)
        print("written into params.yaml; `dvc repro` runs it, `git checkout params.yaml` takes it back")


if __name__ == "__main__":
    with as_program():
        main()
