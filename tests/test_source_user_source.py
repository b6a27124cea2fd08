"""Files below a source, listed and opened: a folder, archives, hostile ones among them."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.source.files import DamagedError, Entry, hidden, read
from pipeline.source.user_source import asked, connecting, opened, version
from tests.own_source import folder

FILES = {"cats/1.png": b"one", "cats/two words.png": b"two", "größe/3.png": b"three"}


def as_folder(root: Path) -> Path:
    for name, data in FILES.items():
        (root / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "source" / name).write_bytes(data)
    return root / "source"


def as_zip(root: Path) -> Path:
    with zipfile.ZipFile(root / "source.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("cats")
        for name, data in FILES.items():
            archive.writestr(name, data)
    return root / "source.zip"


def tarred(path: Path, members: dict[str, bytes], mode: str = "w:gz", *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for each in more:
            archive.addfile(each)
    return path


def as_tar(root: Path) -> Path:
    return tarred(root / "source.tar.gz", {f"./{name}": data for name, data in FILES.items()})


@pytest.mark.parametrize("make", [as_folder, as_zip, as_tar])
def test_files_are_listed_and_read_alike(tmp_path: Path, make: object) -> None:
    source = make(tmp_path)  # type: ignore[operator]
    with opened(str(source), {}, 10**10) as tree:
        assert {entry.path: entry.size for entry in tree.listing.entries} == {name: len(d) for name, d in FILES.items()}
        assert {entry.path: read(tree, entry, 100) for entry in tree.listing.entries} == FILES
        assert tree.listing.skipped == []


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    source = as_folder(tmp_path)
    for name in (".ipynb_checkpoints/1.png", "__MACOSX/cats/1.png", "cats/.DS_Store", "cats/Thumbs.db", "@eaDir/1.png"):
        assert hidden(name)
        (source / name).parent.mkdir(exist_ok=True, parents=True)
        (source / name).write_bytes(b"x")
    with opened(str(source), {}, 10**10) as tree:
        assert {entry.path for entry in tree.listing.entries} == set(FILES) and tree.listing.skipped == []


def test_links_are_followed_within_the_source_only(tmp_path: Path) -> None:
    source = as_folder(tmp_path)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (source / "out.png").symlink_to(tmp_path / "secret.png")
    (source / "away").symlink_to(tmp_path)
    (source / "loop").symlink_to(source)
    (source / "again.png").symlink_to(source / "cats" / "1.png")
    (source / "dead.png").symlink_to(source / "nothing.png")
    with opened(str(source), {}, 10**10) as tree:
        assert {entry.path for entry in tree.listing.entries} == {*FILES, "again.png"}
        told = {each.path: (each.problem, each.evidence) for each in tree.listing.skipped}
    assert told == {
        "out.png": ("link", f"it leads out of the source, to {tmp_path / 'secret.png'}"),
        "away": ("linked_folder", f"it leads out of the source, to {tmp_path}"),
        "loop": ("link", "it leads to a folder that it lies in"),
        "dead.png": ("link", "it leads to no file"),
    }


def test_links_out_of_the_source_are_followed_where_the_user_asks_for_it(tmp_path: Path) -> None:
    source, store = as_folder(tmp_path), tmp_path / "store"
    (store / "deep").mkdir(parents=True)
    (store / "deep" / "4.png").write_bytes(b"four")
    (store / "deep" / "up").symlink_to(store)
    (source / "birds").symlink_to(store)
    (source / "kittens").symlink_to(source / "cats")
    with opened(str(source), {}, 10**10, follow_links=True) as tree:
        listed = {entry.path: read(tree, entry, 100) for entry in tree.listing.entries}
        told = {each.path: each.evidence for each in tree.listing.skipped}
    linked = {"birds/deep/4.png": b"four", "kittens/1.png": b"one", "kittens/two words.png": b"two"}
    assert listed == {**FILES, **linked}
    assert told == {"birds/deep/up": "it leads to a folder that it lies in"}


def test_archives_never_lead_out_of_themselves(tmp_path: Path) -> None:
    hostile = ["../out.png", "cats/../../out.png", "/etc/out.png", "C:\\out.png"]
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name in (*hostile, "cats/1.png"):
            archive.writestr(name, b"x")
        link = zipfile.ZipInfo("cats/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    device, hard, symbolic = (tarfile.TarInfo(f"cats/{name}") for name in ("device", "hard", "symbolic"))
    device.type, hard.type, symbolic.type = tarfile.CHRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
    hard.linkname = symbolic.linkname = "../../etc/passwd"
    tarred(tmp_path / "bad.tar", {name: b"x" for name in (*hostile, "cats/1.png")}, "w", device, hard, symbolic)
    for name in ("bad.zip", "bad.tar"):
        with opened(str(tmp_path / name), {}, 10**10) as tree:
            assert [entry.path for entry in tree.listing.entries] == ["cats/1.png"]
            problems = [each.problem for each in tree.listing.skipped]
        assert problems.count("unsafe_name") == 4
        assert set(problems) - {"unsafe_name"} == ({"link"} if name == "bad.zip" else {"link", "no_file"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar", "bad.zip"]


def test_encrypted_member_is_told(tmp_path: Path) -> None:
    path = as_zip(tmp_path)
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature, content.index(b"1.png") - 60 if signature[2] == 1 else 0) + place] |= 1
    with zipfile.ZipFile(path) as archive:
        first = next(member.filename for member in archive.infolist() if not member.is_dir())
    place = content.index(b"PK\x01\x02")
    while first.encode() not in content[place : place + 46 + len(first)]:
        place = content.index(b"PK\x01\x02", place + 4)
    content[place + 8] |= 1
    path.write_bytes(content)
    with opened(str(path), {}, 10**10) as tree:
        assert (first, "encrypted") in [(each.path, each.problem) for each in tree.listing.skipped]


def test_member_with_wrong_bytes_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "source.zip", "w", zipfile.ZIP_STORED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data * 100)
    content = (tmp_path / "source.zip").read_bytes()
    (tmp_path / "source.zip").write_bytes(content.replace(b"one" * 100, b"one" * 99 + b"uno"))
    with opened(str(tmp_path / "source.zip"), {}, 10**10) as tree:
        with pytest.raises(DamagedError, match="Bad CRC-32"):
            read(tree, tree.listing.entries[0], 1000)
        assert read(tree, tree.listing.entries[1], 1000) == b"two" * 100


def test_no_more_is_read_than_allowed_whatever_was_announced(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cats/1.png", bytes(50_000_000))
    with opened(str(tmp_path / "bomb.zip"), {}, 10**10) as tree:
        [entry] = tree.listing.entries
        assert entry.size == 50_000_000
        with pytest.raises(DamagedError, match="it holds more than 1,000,000 bytes"):
            read(tree, entry, 1_000_000)


def test_file_that_is_gone_is_told(tmp_path: Path) -> None:
    source = as_folder(tmp_path)
    with opened(str(source), {}, 10**10) as tree:
        (source / "cats/1.png").unlink()
        with pytest.raises(DamagedError, match="No such file"):
            read(tree, Entry("cats/1.png", 3), 100)


@pytest.mark.parametrize("name", ["source.zip", "source.tar.gz"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_archive_is_told(tmp_path: Path, name: str, share: float) -> None:
    path = {"source.zip": as_zip, "source.tar.gz": as_tar}[name](tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=rf"{name} must be a whole archive; "), opened(str(path), {}, 10**10):
        pass


def test_missing_source_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(
            DataError, match=r"data\.source must be a folder, an archive or a file that is there; got .*nothing"
        ),
        opened(str(tmp_path / "nothing"), {}, 10**10),
    ):
        pass


def test_address_that_nothing_opens_is_told() -> None:
    match = r"data\.source=nope://x needs a package for nope:// .*Known are abfs, .* s3"
    with pytest.raises(ConfigError, match=match), opened("nope://x", {}, 10**10):
        pass


def test_bucket_is_a_tree_like_any_other(tmp_path: Path) -> None:
    as_folder(tmp_path)
    with opened((tmp_path / "source").as_uri(), {}, 10**10) as tree:
        assert {entry.path: read(tree, entry, 100) for entry in tree.listing.entries} == FILES


def test_empty_bucket_is_told(tmp_path: Path) -> None:
    match = r"data\.source must hold files; file://.* holds none"
    with pytest.raises(DataError, match=match), opened(tmp_path.as_uri(), {}, 10**10):
        pass


@pytest.mark.skipif(os.name != "posix", reason="names that are no UTF-8")
def test_name_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    source = as_folder(tmp_path)
    try:
        (source / os.fsdecode(b"cats/\xff.png")).write_bytes(b"four")
    except OSError:
        pytest.skip("this file system takes no such names")
    with opened(str(source), {}, 10**10) as tree:
        assert sorted(read(tree, entry, 100) for entry in tree.listing.entries) == [b"four", b"one", b"three", b"two"]


def test_a_variable_that_names_another_address_is_another_source_and_another_token_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder("${oc.env:PHOTOS}")
    versions = []
    for address in ("https://h/a.zip?token=1", "https://h/a.zip?token=2", "https://h/b.zip?token=2"):
        monkeypatch.setenv("PHOTOS", address)
        versions.append(version(data, tmp_path))
    assert versions[0] == versions[1] != versions[2]
    signed = [asked(folder(f"https://h/a.zip?token={token}")) for token in ("1", "2", "${oc.env:T}")]
    assert len(set(signed)) == 1 and asked(folder("https://h/b.zip?token=1")) != signed[0]
    monkeypatch.setenv("PHOTOS", "")
    with pytest.raises(
        ConfigError, match=r"data\.source must be the path or the address of your images; got '\$\{oc\.env:PHOTOS\}'"
    ):
        connecting(data)
    monkeypatch.delenv("PHOTOS")
    assert version(data, tmp_path) is None
