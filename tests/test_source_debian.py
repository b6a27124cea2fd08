"""The Debian mirror with stand-ins for apt-get and dpkg-deb, so that no test needs the network."""

import os
from pathlib import Path

import pytest

from pipeline.source.debian import unpack_package
from pipeline.source.unpack import MirrorError

APT = """#!/bin/sh
echo "$PWD $*" >> "{log}"
for last; do :; done
case "$*" in
  *" update") test -d "{scratch}/lists/partial" && test -d "{scratch}/cache/archives/partial" ;;
  *" download "*) echo content > "$last"_1.0_all.deb ;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/share" && cp "$2" "$3/usr/share/file"
"""


def install(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that hides the machine's own apt-get and dpkg-deb."""
    folder = tmp_path / "programs"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_package_is_unpacked_with_lists_and_cache_of_its_own(tmp_path: Path, programs: Path) -> None:
    scratch = tmp_path / "a scratch"
    install(programs, "apt-get", APT.format(log=tmp_path / "log", scratch=scratch))
    install(programs, "dpkg-deb", DPKG)
    root = unpack_package("some-data", scratch, 10)
    assert (root / "usr/share/file").read_text() == "content\n"
    update, download = (tmp_path / "log").read_text().splitlines()
    assert update.endswith("update") and download.endswith("download some-data")
    for call in (update, download):
        assert call.startswith(f"{scratch} ")
        assert f"Dir::State::Lists={scratch}/lists" in call and f"Dir::Cache={scratch}/cache" in call


def test_last_error_of_apt_is_the_reason(tmp_path: Path, programs: Path) -> None:
    script = "#!/bin/sh\necho 'W: a warning' >&2\necho 'E: Unable to locate package some-data' >&2\nexit 100\n"
    install(programs, "apt-get", script)
    with pytest.raises(MirrorError, match=r"apt-get update failed with exit code 100: E: Unable to locate package"):
        unpack_package("some-data", tmp_path / "scratch", 10)


def test_apt_that_fails_without_a_word_is_told(tmp_path: Path, programs: Path) -> None:
    install(programs, "apt-get", "#!/bin/sh\nexit 1\n")
    with pytest.raises(MirrorError, match="apt-get update failed with exit code 1: it says nothing"):
        unpack_package("some-data", tmp_path / "scratch", 10)


def test_apt_that_hangs_is_left(tmp_path: Path, programs: Path) -> None:
    install(programs, "apt-get", "#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(MirrorError, match=r"apt-get update did not end within 0\.2 s"):
        unpack_package("some-data", tmp_path / "scratch", 0.2)


def test_apt_that_downloads_nothing_is_told(tmp_path: Path, programs: Path) -> None:
    install(programs, "apt-get", "#!/bin/sh\nexit 0\n")
    with pytest.raises(MirrorError, match="apt-get downloaded no package"):
        unpack_package("some-data", tmp_path / "scratch", 10)


def test_machine_without_apt_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MirrorError, match="there is no apt-get on this machine"):
        unpack_package("some-data", tmp_path / "scratch", 10)


@pytest.mark.parametrize("name", ["", "-o=Dir::Bin=x", "Some Data", "../x"])
def test_name_that_is_no_package_never_reaches_apt(tmp_path: Path, name: str) -> None:
    with pytest.raises(MirrorError, match="is no name of a Debian package"):
        unpack_package(name, tmp_path / "scratch", 10)
