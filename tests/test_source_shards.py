"""Image files packed for DVC, and files of many images taken as they are."""

import csv
import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artefacts.source import SourceRecord
from pipeline.data.raw_dataset import RawDataset, read
from pipeline.errors import DataError
from pipeline.fetch import fetch_own
from pipeline.source import shards, user_source
from pipeline.stage import lineage
from tests import cifar_files
from tests.idx_files import CLASSES, NUM_TEST, NUM_TRAIN, gzipped, idx_files
from tests.loopback import free_port, web_server
from tests.own_source import folder


def fetched(tmp_path: Path, source: object, out: str = "out", **changed: Any) -> Path:
    (tmp_path / out).mkdir()
    data = folder(source, **changed)
    fetch_own(data=data, out=tmp_path / out, cache=tmp_path / "cache", root=tmp_path)
    return tmp_path / out


def write_images(root: Path, number: int = 40) -> Path:
    """Files of random bytes in two folders, some of them in a group's folder."""
    for place in range(number):
        path = root / ["ant", "big bee"][place % 2] / f"{place:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(np.random.default_rng(place).bytes(2000))
    return root


def contents(dataset: RawDataset) -> dict[str, bytes]:
    data = [each for block in dataset.blocks for each in block.read()]
    return dict(zip(dataset.ids, data, strict=True))  # type: ignore[arg-type]


def left_out(out: Path) -> dict[str, tuple[str, str]]:
    with (out / "skipped.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: (row["problem"], row["evidence"]) for row in csv.DictReader(file)}


def test_packed_files_are_read_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_images(tmp_path / "photos")
    out = fetched(tmp_path, "photos")
    dataset = read(out)
    assert contents(dataset) == {str(path.relative_to(photos)): path.read_bytes() for path in photos.rglob("*.png")}
    assert dataset.classes == ["ant", "big bee"] and dataset.name == "photos" and dataset.skipped == []
    assert [dataset.classes[label] for label in dataset.labels] == [name.split("/")[0] for name in dataset.ids]
    assert SourceRecord.read(out).found == "image folder with 2 classes, 40 images, no test split"
    assert capsys.readouterr().out == "photos: image folder with 2 classes, 40 images, no test split\n"


def test_same_files_give_the_same_bytes_whenever_they_were_made(tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    one = fetched(tmp_path, "photos", "one")
    for path in sorted((tmp_path / "photos").rglob("*.png"), reverse=True):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    two = fetched(tmp_path, "photos", "two")
    assert sorted(path.name for path in one.iterdir()) == ["images-00.parquet", "skipped.csv", "source.json"]
    assert all((two / path.name).read_bytes() == path.read_bytes() for path in one.iterdir())


def test_a_new_image_changes_one_shard_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 12_000)
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 5_000)
    photos = write_images(tmp_path / "photos")
    one = fetched(tmp_path, "photos", "one")
    (photos / "ant" / "new.png").write_bytes(b"new")
    two = fetched(tmp_path, "photos", "two")
    names = sorted(path.name for path in one.glob("*.parquet"))
    assert len(names) == 8 == len(list(two.glob("*.parquet")))
    assert sum((one / name).read_bytes() != (two / name).read_bytes() for name in names) == 1
    assert contents(read(two)) == contents(read(one)) | {"ant/new.png": b"new"}


def test_files_that_are_too_large_or_damaged_are_left_out(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos")
    (photos / "ant" / "large.png").write_bytes(bytes(1_000_001))
    out = fetched(tmp_path, "photos")
    evidence = "1,000,001 bytes, more than data.max_file_megabytes=1"
    assert left_out(out) == {"ant/large.png": ("too_large", evidence)} and len(read(out).labels) == 40
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(photos.rglob("0*.png")):
            archive.write(path, path.relative_to(photos))
    content = (tmp_path / "photos.zip").read_bytes()
    data = (photos / "ant/000.png").read_bytes()
    (tmp_path / "photos.zip").write_bytes(content.replace(data, data[:-1] + bytes([data[-1] ^ 1])))
    out = fetched(tmp_path, "photos.zip", "two")
    assert left_out(out)["ant/000.png"][0] == "damaged" and len(read(out).labels) == 39


def test_archive_that_unpacks_to_more_than_allowed_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for place in range(30):
            archive.writestr(f"{place % 2}/{place}.png", bytes(900_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 50_000
    with pytest.raises(
        DataError, match=r"must be at most 0\.01 GB together; they are more\. Raise data\.max_gigabytes"
    ):
        fetched(tmp_path, "bomb.zip")


def test_table_brings_splits_and_groups(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", 6)
    lines = [f"{path.relative_to(photos)},{path.parent.name},{'test' if place < 2 else ''},p{place // 2}"
             for place, path in enumerate(sorted(photos.rglob("*.png")))]  # fmt: skip
    (photos / "labels.csv").write_text("path,label,split,group\n" + "\n".join(lines))
    dataset = read(fetched(tmp_path, "photos", layout="table", classes=["big bee", "ant"]))
    assert dataset.classes == ["big bee", "ant"]
    assert sorted(dataset.groups) == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert sorted(dataset.splits.tolist()) == ["", "", "", "", "test", "test"]


def test_parquet_files_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    features = {"picture": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    for split, number in (("train", 4), ("test", 2)):
        image = pa.array([{"bytes": bytes([place]), "path": None} for place in range(number)])
        table = pa.table({"picture": image, "label": [place % 2 for place in range(number)]})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, tmp_path / "hub" / f"{split}-00000-of-00001.parquet")
    out = fetched(tmp_path, "hub")
    for path in (tmp_path / "hub").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()
    dataset = read(out)
    assert dataset.classes == ["cat", "dog"] and sorted(dataset.splits.tolist()) == ["test"] * 2 + ["train"] * 4
    assert [data for block in dataset.blocks for data in block.read()] == [b"\0", b"\1", b"\0", b"\1", b"\2", b"\3"]


@pytest.mark.parametrize("zipped", [False, True])
def test_files_of_many_images_are_taken_plain(tmp_path: Path, zipped: bool) -> None:
    sources: dict[str, dict[str, bytes]] = {"idx": gzipped(idx_files()), "cifar": cifar_files.cifar_files()}
    buffers = {name: io.BytesIO() for name in ("x_train", "y_train", "x_test", "y_test")}
    for name, buffer in buffers.items():
        number = 12 if "train" in name else 6
        np.save(buffer, np.zeros((number, 4, 4), np.uint8) if name[0] == "x" else np.arange(number) % 3)
    sources["arrays"] = {f"{name}.npy": buffer.getvalue() for name, buffer in buffers.items()}
    for layout, files in sources.items():
        if zipped:
            with zipfile.ZipFile(tmp_path / f"{layout}.zip", "w") as archive:
                for name, data in files.items():
                    archive.writestr(f"{layout}/{name}", data)
        else:
            (tmp_path / layout).mkdir()
            for name, data in files.items():
                (tmp_path / layout / name).write_bytes(data)
        classes = {"idx": CLASSES, "cifar": cifar_files.CLASSES, "arrays": None}[layout]
        out = fetched(tmp_path, f"{layout}.zip" if zipped else layout, f"out {layout}", classes=classes)
        dataset = read(out)
        number = {"idx": (NUM_TRAIN, NUM_TEST), "cifar": (5 * 40, 40), "arrays": (12, 6)}[layout]
        assert ((dataset.splits == "train").sum(), (dataset.splits == "test").sum()) == number
        assert dataset.classes == (classes or ["0", "1", "2"])
        assert not list(out.glob("*.gz"))


def test_archive_of_arrays_is_unpacked_and_nothing_of_it_unpickled(tmp_path: Path) -> None:
    images, labels = np.random.default_rng(0).integers(0, 256, (9, 4, 4), np.uint8), np.arange(9) % 3
    np.savez_compressed(tmp_path / "digits.npz", x_train=images, y_train=labels, other=np.zeros(3))
    dataset = read(fetched(tmp_path, "digits.npz"))
    assert np.array_equal(np.concatenate([block.read() for block in dataset.blocks])[..., 0], images)
    np.savez(tmp_path / "objects.npz", images=images, labels=np.array([{}] * 9, dtype=object))
    with pytest.raises(DataError, match=r"labels\.npy must be a whole \.npy file; got a damaged one"):
        read(fetched(tmp_path, "objects.npz", "two"))
    np.savez(tmp_path / "nothing.npz", a=images)
    with pytest.raises(
        DataError, match=r"must hold arrays named images and labels, or x_train and y_train; it holds a\."
    ):
        fetched(tmp_path, "nothing.npz", "three")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(DataError, match=r"broken\.npz of data\.source must be whole; it is damaged \(File is not"):
        fetched(tmp_path, "broken.npz", "four")


def test_damaged_gzip_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "idx").mkdir()
    for name, data in gzipped(idx_files()).items():
        (tmp_path / "idx" / name).write_bytes(data[:-20] if "images" in name else data)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz of data\.source must be whole; it is damaged"):
        fetched(tmp_path, "idx")
    (tmp_path / "idx/train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(20_000_000)))
    with pytest.raises(DataError, match=r"must be at most 0\.01 GB together, unpacked; .*\.gz goes beyond"):
        fetched(tmp_path, "idx", "two")


def test_archive_of_the_web_is_fetched_and_goes_on_where_it_broke(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(photos.rglob("*.png")):
            archive.write(path, path.relative_to(photos))
    with web_server() as server:
        server.files["data/photos.zip"] = (tmp_path / "photos.zip").read_bytes()
        server.cuts = [30_000]
        dataset = read(fetched(tmp_path, f"{server.url}/data/photos.zip"))
        assert len(dataset.labels) == 40 and dataset.name == "photos.zip"
        assert server.requests[-1] == ("data/photos.zip", "bytes=30000-")
        with pytest.raises(DataError, match=r"must be a file that can be downloaded; .*nothing\.zip cannot: HTTP 404"):
            fetched(tmp_path, f"{server.url}/nothing.zip", "two")


def test_bucket_is_packed_as_a_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs `pip install 'moto[server]' s3fs`, which the development environment leaves out: 29 packages for one test."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    port = free_port()
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        url = f"http://127.0.0.1:{port}"
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        client.create_bucket(Bucket="lab")
        photos = write_images(tmp_path / "photos", 6)
        for path in photos.rglob("*.png"):
            client.put_object(Bucket="lab", Key=f"photos/{path.relative_to(photos)}", Body=path.read_bytes())
        options = {"endpoint_url": url}
        out = fetched(tmp_path, "s3://lab/photos", storage_options=options)
        assert contents(read(out)) == {
            str(path.relative_to(photos)): path.read_bytes() for path in photos.rglob("*.png")
        }
        before = user_source.version(folder("s3://lab/photos", storage_options=options), tmp_path)
        client.put_object(Bucket="lab", Key="photos/ant/000.png", Body=b"changed")
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        assert user_source.version(folder("s3://lab/photos", storage_options=options), tmp_path) not in (None, before)
        with pytest.raises(DataError, match=r"s3://nothing cannot: "):
            fetched(tmp_path, "s3://nothing", "two", storage_options=options)
    finally:
        server.stop()


def test_every_change_of_the_source_is_noticed(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos")
    versions = [user_source.version(folder("photos"), tmp_path)]

    def changed() -> bool:
        versions.append(user_source.version(folder("photos"), tmp_path))
        return versions[-1] != versions[-2]

    assert not changed()
    (photos / "ant" / "new.png").write_bytes(b"x")
    assert changed()
    (photos / "ant" / "new.png").rename(photos / "big bee" / "new.png")
    assert changed()
    (photos / "big bee" / "new.png").write_bytes(b"y")
    assert changed()
    (photos / "big bee" / "new.png").unlink()
    assert changed() and versions[-1] == versions[0]
    assert user_source.version(folder("gone"), tmp_path) is None


def test_touched_files_are_the_same_data(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos")
    one = fetched(tmp_path, "photos", "one")
    for path in photos.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    (tmp_path / "two").mkdir()
    fetch_own(data=folder("photos"), out=tmp_path / "two", cache=tmp_path / "cache", root=tmp_path)
    assert lineage.hash_folder(one) == lineage.hash_folder(tmp_path / "two")
    (tmp_path / "two" / "skipped.csv").write_text("changed")
    assert lineage.hash_folder(one) != lineage.hash_folder(tmp_path / "two")


def test_output_that_was_changed_by_hand_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "CACHE", tmp_path / "build")
    write_images(tmp_path / "photos")
    out = fetched(tmp_path, "photos")
    assert lineage.is_whole(out) and lineage.is_whole(out)
    shard = out / "images-00.parquet"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    assert not lineage.is_whole(out)
    shard.unlink()
    assert not lineage.is_whole(out) and not lineage.is_whole(tmp_path / "nothing")


def test_names_that_are_no_utf8_are_spelled_out(tmp_path: Path) -> None:
    root = write_images(tmp_path / "raw")
    os.rename(root / "ant" / "000.png", os.fsencode(root / "ant") + b"/\xff0.png")
    os.rename(root / "big bee", os.fsencode(root) + b"/bee\xfe")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.txt")).write_text("no image")
    raw = read(fetched(tmp_path, root))
    assert raw.classes == ["ant", r"bee\udcfe"] and r"ant/\udcff0.png" in raw.ids
    assert [row["path"] for row in raw.skipped] == [r"\udcff.txt"]
