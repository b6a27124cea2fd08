"""Finds the images to classify: files, folders, archives, tables, files of many images, buckets and addresses.

No label is needed. What holds no image is left out and counted; what should be an image and cannot be read is kept with the
reason, so that no image is lost silently.
"""

import glob
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Condition
from typing import IO

from pipeline.config.secrets import masked
from pipeline.delivery import containers
from pipeline.delivery.classifier import GROUP
from pipeline.delivery.images import Image, broken
from pipeline.errors import DataError, UserError
from pipeline.image_formats import HEAD, WEAK_SIGNATURES, has_signature
from pipeline.source.files import DamagedError, Entry, FileTree, FolderTree, Tree, read
from pipeline.source.layout import IMAGES, WITH_EXTRA, extension, is_image
from pipeline.source.tables import FORMATS
from pipeline.terminal import printable

Named = tuple[str, Image]

MAX_FILE_BYTES = 200_000_000
"""Limit for an image file; a larger one is told as one that cannot be read."""

AHEAD_BYTES = 64 << 20
"""Limit for the bytes that wait to be decoded."""

RUN = 1000
"""Number of files of a bucket that are listed for its readers at once; an archive is read from its beginning to its end."""

STDIN = "-"
"""PATH that stands for a list of paths on the standard input."""


class Inputs:
    """The images that paths name, in the order of the paths, each with the name under which its user finds it again.

    Attributes:
        total: Number of files and images to look at; None where it is not known before.
        left_out: Number of files that are left out, by the reason and the ending of their names.
    """

    def __init__(
        self, paths: Sequence[str], stack: ExitStack, scratch: Path, *, stdin: IO[bytes] | None = None,
        separator: bytes = b"\n", max_bytes: int = 10**11,
    ) -> None:  # fmt: skip
        """Open what the paths name; nothing is decoded yet.

        Args:
            paths: Paths, patterns that a shell would expand, addresses, or `STDIN`.
            stack: Closes what was opened.
            scratch: Folder for what is downloaded or unpacked.
            stdin: Standard input.
            separator: What ends a path there.
            max_bytes: Limit for what an archive unpacks to, and for a download.

        Raises:
            DataError: A path is not there, or cannot be opened.
            ConfigError: The package for an address is not installed.
        """
        self.total: int | None = 0
        self.left_out: Counter[tuple[str, str]] = Counter()
        self._sources: list[Callable[[], Iterable[Named]]] = []
        self._stack, self._scratch, self._max_bytes = stack, scratch, max_bytes
        self._budget = _Budget(AHEAD_BYTES)
        for text in paths:
            if text == STDIN and stdin is not None:
                self._add(None, partial(_listed, stdin, separator))
                continue
            for path in _expanded(text):
                self._open(path)

    def __iter__(self) -> Iterator[Named]:
        """The images, each as what `Classifier.stream` takes; each must be used before many more are asked for."""
        for source in self._sources:
            yield from source()

    def summary(self) -> str:
        """One line on what was left out; empty where nothing was.

        >>> inputs = Inputs([], ExitStack(), Path())
        >>> inputs.left_out.update({("no image", "txt"): 2, ("no image", ""): 1, ("it leads to no file", "png"): 1})
        >>> inputs.summary()
        'left out: 2 .txt (no image), 1 without ending (no image), 1 .png (it leads to no file)'
        """
        parts = [
            f"{number:,} {f'.{kind}' if kind else 'without ending'} ({why})"
            for (why, kind), number in self.left_out.most_common()
        ]
        return printable(f"left out: {', '.join(parts[:6])}{', …' if len(parts) > 6 else ''}") if parts else ""

    def _add(self, number: int | None, source: Callable[[], Iterable[Named]]) -> None:
        self.total = None if self.total is None or number is None else self.total + number
        self._sources.append(source)

    def _open(self, text: str) -> None:
        if "://" not in text:
            path = Path(text).expanduser()
            if path.is_dir():
                tree = FolderTree(path, follow_links=True)
                self._add(len(tree.listing.entries), partial(self._of_tree, tree, _prefix(text)))
                return
            if path.is_file() and extension(text) in (*IMAGES, *WITH_EXTRA):
                self._add(1, partial(iter, [(text, partial(_content, path))]))
                return
        with _as_path(text):
            from pipeline.source import user_source

            folder = self._scratch / str(len(self._sources))
            local = user_source.local_copy(text, {}, Path(), folder, self._max_bytes)
            tree_ = self._stack.enter_context(user_source.opened(local, {}, self._max_bytes))
        if isinstance(tree_, FileTree):
            self._add(None if is_table(text) else 1, partial(self._of_file, Path(local), tree_, masked(text)))
            return
        entries = tree_.listing.entries
        is_object = "://" in text and len(entries) == 1 and text.endswith(entries[0].path)
        prefix = masked(text).removesuffix(entries[0].path) if is_object else _prefix(masked(text))
        self._add(len(entries), partial(self._of_tree, tree_, prefix))

    def _of_file(self, path: Path, tree: FileTree, name: str) -> Iterator[Named]:
        """The images of a file of its own: those it holds, those it lists, or itself, whatever its name."""
        [entry] = tree.listing.entries
        if is_picture(path):
            yield name, partial(_content, path)
        elif containers.holds_images(tree, entry):
            yield from containers.images(tree, entry, path, name, self._scratch, self._max_bytes, self._leave_out)
        elif is_table(entry.path):
            yield from containers.listed(tree, entry, path, name)
        else:
            yield name, partial(_content, path)

    def _of_tree(self, tree: Tree, prefix: str) -> Iterator[Named]:
        for file in tree.listing.skipped:
            self._leave_out(file.path, file.evidence)
        local = Path(tree.root) if tree.root else None
        run: list[Entry] = []
        for entry in tree.listing.entries:
            if containers.may_hold_images(entry.path):
                yield from self._images(tree, run, prefix)
                run = []
                path = local / entry.path if local else None
                arguments = (tree, entry, path, prefix + entry.path, self._scratch, self._max_bytes, self._leave_out)
                yield from containers.images(*arguments)
            elif is_image(tree, entry):
                run.append(entry)
                if len(run) == (RUN if tree.num_readers > 1 else 1):
                    yield from self._images(tree, run, prefix)
                    run = []
            else:
                self._leave_out(entry.path, "no image")
        yield from self._images(tree, run, prefix)

    def _images(self, tree: Tree, entries: Sequence[Entry], prefix: str) -> Iterator[Named]:
        if tree.root:  # threads read the files while others are decoded
            for entry in entries:
                yield prefix + entry.path, partial(read, tree, entry, MAX_FILE_BYTES)
            return
        for entry, content in _read_ahead(tree, entries):  # an archive is read from its beginning to its end
            yield prefix + entry.path, self._budget.lend(content) if isinstance(content, bytes) else broken(content)

    def _leave_out(self, path: str, why: str) -> None:
        self.left_out[why.split(", to ")[0], extension(path)] += 1


def is_table(path: str) -> bool:
    """Whether a file that a user names is a table or a list that names images, going by its own name."""
    return extension(path) in FORMATS


def is_picture(path: Path) -> bool:
    """Whether a file is an image by its first bytes, and no text that begins alike, since texts hold no zeros."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return b"\0" in head and (has_signature(head) or head.startswith(WEAK_SIGNATURES))


class _Budget:
    """Holds back the reader of an archive while many bytes wait to be decoded, and more files than a thread takes at a time."""

    def __init__(self, num_bytes: int) -> None:
        self._left = num_bytes
        self._num_lent = 0
        self._change = Condition()

    def lend(self, content: bytes) -> Callable[[], bytes]:
        """Wait until there is room for `content`, and give a function that takes it out once."""
        with self._change:
            self._change.wait_for(lambda: self._left >= len(content) or self._num_lent < GROUP)
            self._left -= len(content)
            self._num_lent += 1

        def take() -> bytes:
            with self._change:
                self._left += len(content)
                self._num_lent -= 1
                self._change.notify_all()
            return content

        return take


def _read_ahead(tree: Tree, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes | str]]:
    """The bytes of each file in order, or why it cannot be read; `tree.num_readers` files are read at once."""

    def content(entry: Entry) -> bytes | str:
        try:
            return read(tree, entry, MAX_FILE_BYTES)
        except DataError as error:
            return str(error)

    if tree.num_readers == 1:
        yield from ((entry, content(entry)) for entry in entries)
        return
    waiting: deque[tuple[Entry, Future[bytes | str]]] = deque()
    readers = ThreadPoolExecutor(tree.num_readers)
    try:
        for entry in entries:
            waiting.append((entry, readers.submit(content, entry)))
            while len(waiting) > 2 * tree.num_readers or sum(each.size for each, _ in waiting) > AHEAD_BYTES:
                first, future = waiting.popleft()
                yield first, future.result()
        yield from ((first, future.result()) for first, future in waiting)
    finally:
        readers.shutdown(wait=False, cancel_futures=True)


def _content(path: Path) -> bytes:
    """The bytes of a file, up to the limit."""
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise DamagedError(f"it holds more than {MAX_FILE_BYTES:,} bytes")
    return data


def _listed(stdin: IO[bytes], separator: bytes) -> Iterator[Named]:
    """The files that a stream names, as it names them."""
    rest = b""
    while chunk := stdin.read1(1 << 16) if hasattr(stdin, "read1") else stdin.read(1 << 16):
        *lines, rest = (rest + chunk).split(separator)
        yield from map(_named, filter(None, map(_without_return, lines)))
    if rest := _without_return(rest):
        yield _named(rest)


def _without_return(line: bytes) -> bytes:
    return line.removesuffix(b"\r")


def _named(line: bytes) -> Named:
    text = os.fsdecode(line)
    return text, partial(_content, Path(text).expanduser())


def _expanded(text: str) -> list[str]:
    """The path itself, or the paths that a pattern fits."""
    if "://" in text or os.path.lexists(Path(text).expanduser()):
        return [text]
    if glob.has_magic(text) and (found := sorted(glob.glob(os.path.expanduser(text), recursive=True))):
        return [path for path in found if "**" not in text or os.path.isfile(path)]
    kind = "pattern that fits a file" if glob.has_magic(text) else "file, a folder, an archive or an address"
    raise DataError(f"PATH must be a {kind}; got {text!r}, which is not there.")


def _prefix(text: str) -> str:
    """
    >>> _prefix("photos/"), _prefix("photos.zip"), _prefix("."), _prefix("/")
    ('photos/', 'photos.zip/', '', '/')
    """
    return "" if text.rstrip("/") == "." else text.rstrip("/") + "/"


@contextmanager
def _as_path(text: str) -> Iterator[None]:
    """Say PATH where the source room speaks of the configuration's keys."""
    try:
        yield
    except UserError as error:
        message = str(error)
        for key, name in (
            ("data.source", "PATH"), ("data.max_gigabytes", "--max-gigabytes"),
            ("in data.storage_options or in the environment", "in the environment"),
        ):  # fmt: skip
            message = message.replace(key, name)
        raise type(error)(message) from None
