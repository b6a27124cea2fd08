"""What `predict` classifies: every image that a path, pattern, archive, table or list names, in order, and no other."""

import io
import tarfile
import time
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.delivery.inputs import Inputs
from pipeline.errors import ConfigError, DataError
from tests import cifar_files
from tests.idx_files import gzipped, idx_files
from tests.image_files import image_files
from tests.loopback import web_server
from tests.test_data_decoding import stored
from tests.test_source_buckets import in_memory
from tests.test_source_hostile import as_folder

PNG = {
    f"{label}/{place}.png": b"\x89PNG\r\n\x1a\n" + f"{label}{place}".encode() for label in "ab" for place in range(3)
}


def found(*paths: object, **options: Any) -> tuple[dict[str, Any], str]:
    """Names with what is read under them, or with the reason why it cannot be, and the line on what is left out."""
    images: dict[str, Any] = {}
    with ExitStack() as stack:
        scratch = Path(options.pop("scratch", "scratch"))
        inputs = Inputs(list(map(str, paths)), stack, scratch, **options)
        for name, image in inputs:
            assert name not in images
            try:
                images[name] = image() if callable(image) else image.read_bytes() if isinstance(image, Path) else image
            except (DataError, OSError) as error:
                images[name] = str(error)
        return images, inputs.summary()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def packed(kind: str, files: Mapping[str, bytes]) -> str:
    if kind == "zip":
        with zipfile.ZipFile("photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(f"photos.{kind}", f"w:{kind.partition('.')[2]}") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return f"photos.{kind}"


def test_a_folder_gives_its_images_in_order_and_counts_what_it_leaves_out(here: Path) -> None:
    as_folder(here / "photos", {**PNG, "notes.txt": b"x", "a/.hidden.png": b"x", ".git/1.png": b"x", "c/plain": b"y"})
    (here / "photos" / "notes.csv").write_bytes(PNG["a/0.png"])
    images, left_out = found("photos")
    assert list(images) == [*(f"photos/{name}" for name in PNG), "photos/c/plain", "photos/notes.csv"]
    assert images["photos/b/1.png"] == PNG["b/1.png"]
    assert left_out == "left out: 1 .txt (no image)"


def test_a_flat_folder_and_the_working_folder_need_no_classes(here: Path) -> None:
    as_folder(here / "flat", {"1.jpg": b"1", "2.jpg": b"2"})
    assert list(found("flat/")[0]) == ["flat/1.jpg", "flat/2.jpg"]
    assert list(found(".")[0]) == ["flat/1.jpg", "flat/2.jpg"]


def test_links_are_followed_and_circles_are_told(here: Path) -> None:
    as_folder(here / "store", {"1.png": b"1"})
    as_folder(here / "photos", {"0.png": b"0"})
    (here / "photos" / "linked.png").symlink_to(here / "store" / "1.png")
    (here / "photos" / "circle").symlink_to(here / "photos")
    images, left_out = found("photos")
    assert images == {"photos/0.png": b"0", "photos/linked.png": b"1"}
    assert "it leads to a folder that it lies in" in left_out


def test_patterns_that_the_shell_left_are_expanded(here: Path) -> None:
    as_folder(here / "photos", {**PNG, "a/[1].png": b"odd"})
    assert list(found("photos/a/?.png")[0]) == [f"photos/a/{place}.png" for place in range(3)]
    assert len(found("photos/**/*.png")[0]) == 7
    assert list(found("photos/a/[1].png")[0]) == ["photos/a/[1].png"], "a file of this name is no pattern"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone", "PATH must be a file, a folder, an archive or an address; got 'gone', which is not there."),
        ("*.png", "PATH must be a pattern that fits a file; got '*.png', which is not there."),
    ],
)
def test_what_is_not_there_is_refused(path: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        found(path)
    assert str(error.value) == message


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_members_of_an_archive_are_named_as_one_finds_them_again(kind: str) -> None:
    name = packed(kind, {**PNG, "notes.txt": b"x"})
    images, left_out = found(name)
    assert images == {f"{name}/{member}": data for member, data in PNG.items()}
    assert left_out == "left out: 1 .txt (no image)"


def test_a_cut_archive_and_one_that_unpacks_to_too_much_are_refused(here: Path) -> None:
    name = Path(packed("zip", PNG))
    name.write_bytes(name.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"photos\.zip must be a whole archive"):
        found(name)
    tar = packed("tar.gz", {"1.png": bytes(100_000)})
    with pytest.raises(DataError, match=r"PATH must unpack to at most 1e-05 GB; it holds more\. Raise --max-gigabytes"):
        found(tar, max_bytes=10_000)


def test_a_bomb_in_an_archive_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.delivery.inputs.MAX_FILE_BYTES", 1000)
    name = packed("zip", {"bomb.png": bytes(5_000_000), "good.png": b"x"})
    assert found(name)[0] == {f"{name}/bomb.png": "it holds more than 1,000 bytes", f"{name}/good.png": b"x"}


def test_an_archive_is_not_read_faster_than_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr("pipeline.delivery.inputs.AHEAD_BYTES", 1000)
    name = packed("zip", {f"{place}.png": bytes(400) for place in range(40)})
    waiting, most = 0, 0
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        inputs = Inputs([name], stack, Path("scratch"))

        def decode(image: Any) -> None:
            nonlocal waiting
            time.sleep(0.002)
            image()
            waiting -= 1

        for _, image in inputs:
            waiting += 1
            most = max(most, waiting)
            pool.submit(decode, image)
    assert most <= 8 + 1, "a thread takes eight at a time, and one is on its way"


def test_addresses_are_read_like_folders() -> None:
    address = in_memory({**PNG, "notes.txt": b"x"})
    images, left_out = found(address)
    assert images == {f"{address}/{name}": data for name, data in PNG.items()} and "1 .txt" in left_out
    assert list(found(f"{address}/a/1.png")[0]) == [f"{address}/a/1.png"]
    with pytest.raises(ConfigError, match=r"PATH=nowhere://x needs a package for nowhere://"):
        found("nowhere://x")


def test_the_web_gives_a_file_or_an_archive(here: Path) -> None:
    with web_server() as server:
        server.files = {"1.png": b"1", "photos.zip": Path(packed("zip", PNG)).read_bytes()}
        images, _ = found(f"{server.url}/1.png", f"{server.url}/photos.zip")
        assert list(images) == [f"{server.url}/1.png", *(f"{server.url}/photos.zip/{name}" for name in PNG)]
        with pytest.raises(DataError, match=r"PATH must be a file that can be downloaded; .*gone\.png cannot"):
            found(f"{server.url}/gone.png", scratch=here / "other")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "txt"])
def test_a_table_names_images_beside_it(here: Path, ending: str) -> None:
    as_folder(here / "photos", PNG)
    names = [*reversed(PNG), "a/gone.png"]
    path = here / "photos" / f"list.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"number": range(7), "file": names}), path)
    elif ending == "jsonl":
        path.write_text("".join(f'{{"file": "{name}"}}\n' for name in names))
    else:
        path.write_text(
            "\n".join(names) if ending == "txt" else "number,file\n" + "\n".join(f"1,{name}" for name in names)
        )
    images, _ = found(f"photos/list.{ending}")
    assert list(images) == [f"photos/{name}" for name in reversed(PNG)] + ["a/gone.png"]
    assert images["photos/b/2.png"] == PNG["b/2.png"] and images["a/gone.png"] == "there is no such file"


def test_a_list_may_hold_names_with_spaces_and_a_table_must_name_files(here: Path) -> None:
    as_folder(here, {"my photo.png": b"1", "empty.csv": b"a,b\n1,2\n"})
    (here / "list.txt").write_text("my photo.png\n\n")
    assert found("list.txt")[0] == {"my photo.png": b"1"}
    with pytest.raises(
        DataError, match=r"empty\.csv must name image files, relative to its folder, in a column such as"
    ):
        found("empty.csv")


def test_parquet_with_images_gives_each_row(here: Path) -> None:
    images = pa.array([{"bytes": data, "path": name if "a" in name else None} for name, data in PNG.items()])
    pq.write_table(pa.table({"image": images, "label": range(6)}), here / "x.parquet", row_group_size=2)
    expected = [f"x.parquet/a/{place}.png" for place in range(3)] + [f"x.parquet[{row}]" for row in range(3, 6)]
    assert list(found("x.parquet")[0]) == expected
    assert list(found(".")[0]) == expected
    assert found("x.parquet")[0]["x.parquet[4]"] == PNG["b/1.png"]


def test_arrays_need_no_labels(here: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 5), np.uint8)
    np.save(here / "images.npy", pixels)
    np.save(here / "labels.npy", np.arange(3))
    np.savez_compressed(here / "both.npz", colour=np.repeat(pixels[..., None], 3, 3), labels=np.arange(3))
    images, left_out = found(".")
    assert list(images) == [
        *(f"both.npz/colour[{row}]" for row in range(3)),
        *(f"images.npy[{row}]" for row in range(3)),
    ]
    assert (images["images.npy[1]"][..., 0] == pixels[1]).all() and images["both.npz/colour[2]"].shape == (6, 5, 3)
    assert left_out == "left out: 2 .npy (no uint8 array of images)"


@pytest.mark.parametrize("is_packed", [False, True])
def test_idx_and_cifar_give_each_image(here: Path, is_packed: bool) -> None:
    content = idx_files()
    as_folder(here / "idx", gzipped(content) if is_packed else content)
    images, left_out = found("idx")
    ending = ".gz" if is_packed else ""
    assert f"idx/t10k-images-idx3-ubyte{ending}[0]" in images and "(labels)" in left_out
    assert next(iter(images.values())).shape[2] == 1
    as_folder(here / "cifar", cifar_files.cifar_files())
    assert next(iter(found("cifar")[0].values())).shape == (32, 32, 3)


def test_a_damaged_file_of_many_images_is_one_row_with_its_reason(here: Path) -> None:
    as_folder(here / "x", {"a.parquet": b"PAR1 no", "b.npz": b"PK no", "idx3": b"no"})
    images, left_out = found("x")
    assert images.keys() | {"x/a.parquet"} == {"x/a.parquet", "x/b.npz", "x/idx3"}
    assert "must begin with the IDX header" in images["x/idx3"]
    assert len(images) == 3 or "a table without images" in left_out


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_the_standard_input_lists_paths(here: Path, separator: bytes) -> None:
    as_folder(here / "photos", PNG)
    lines = [f"photos/{name}".encode() for name in reversed(PNG)] + [b"", b"gone.png", b"photos"]
    asked = {"stdin": io.BytesIO(separator.join(lines)), "separator": separator[-1:]}
    as_folder(here, {"first.png": b"1"})
    images, _ = found("first.png", "-", **asked)
    assert next(iter(images)) == "first.png"
    assert [name for name in images if name.startswith("photos/b")] == [f"photos/b/{place}.png" for place in (2, 1, 0)]
    assert "No such file" in images["gone.png"] and "Is a directory" in images["photos"]


def test_the_number_of_images_is_known_before_except_for_lists(here: Path) -> None:
    as_folder(here / "photos", PNG)
    with ExitStack() as stack:
        assert Inputs(["photos", "photos/a/1.png"], stack, here).total == 7
        assert Inputs(["photos", "-"], stack, here, stdin=io.BytesIO()).total is None


def test_a_picture_is_told_by_its_content_where_its_name_is_odd(here: Path) -> None:
    from PIL import Image

    (here / "picture.xyz").write_bytes(stored(Image.new("L", (4, 4)), "PNG"))
    assert list(found("picture.xyz")[0]) == ["picture.xyz"]


@pytest.mark.parametrize("ending", ["csv", "txt", "jsonl", "xlsx", "parquet", "npy", "npz", "tsv"])
@pytest.mark.parametrize("name", ["000.jpg", "004.png", "010.gif", "011.bmp", "016.heic", "017.dcm"])
def test_a_picture_with_the_name_of_a_table_is_a_picture(here: Path, name: str, ending: str) -> None:
    content = image_files(20)[name]
    (here / f"picture.{ending}").write_bytes(content)
    assert found(f"picture.{ending}") == ({f"picture.{ending}": content}, "")


def test_a_picture_from_the_web_with_the_name_of_a_table_is_a_picture() -> None:
    with web_server() as server:
        server.files = {"picture.csv": image_files(5)["004.png"]}
        assert list(found(f"{server.url}/picture.csv")[0]) == [f"{server.url}/picture.csv"]


@pytest.mark.parametrize("first", ["GIF89a.png", "BM.png", "P6", "RIFF/abcWEBP.png"])
def test_a_list_that_begins_like_a_picture_is_a_list(here: Path, first: str) -> None:
    as_folder(here, {first: b"1", "list.txt": first.encode() + b"\n"})
    assert found("list.txt")[0] == {first: b"1"}
