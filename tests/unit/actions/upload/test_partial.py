"""
Uploads that several requests write, of any process.
"""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rt_twisted.actions.upload.folder import UploadFolder, new_id
from rt_twisted.actions.upload.partial import (
    Displaced,
    PartialHash,
    PartialUpload,
    UploadInfo,
    acquire,
    create,
)
from rt_twisted.model.errors import HttpError


@pytest.fixture
def folder(tmp_path: Path) -> UploadFolder:
    return UploadFolder(str(tmp_path))


@pytest.fixture
def info() -> UploadInfo:
    return UploadInfo(new_id(), 10, "a.txt", "text/plain", "filename YS50eHQ=")


def begun(upload: PartialUpload, checked: bool = False) -> PartialUpload:
    upload.begin(checked)
    return upload


def test_another_request_goes_on(folder: UploadFolder, info: UploadInfo, tmp_path: Path) -> None:
    """
    The second one finds what is stored and described; the file appears when it is complete.
    """
    begun(create(folder, info)).append(b"01234")
    upload = begun(acquire(folder, info.id))
    assert (upload.size, upload.info, upload.complete) == (5, info, False)
    assert not (tmp_path / "a.txt").exists()

    upload.append(b"56789")
    assert upload.complete
    result = upload.finish(PartialHash())

    assert result == ("a.txt", hashlib.sha256(b"0123456789").hexdigest())
    assert (tmp_path / "a.txt").read_bytes() == b"0123456789"
    later = acquire(folder, info.id)
    assert (later.result, later.size) == (result, 10)
    assert later.finish(PartialHash()) == result


def test_only_the_last_request_writes(folder: UploadFolder, info: UploadInfo) -> None:
    """
    A request whose connection is lost, and still has bytes in some buffer, writes no more.
    """
    first = begun(create(folder, info))
    first.append(b"012")
    second = begun(acquire(folder, info.id))

    with pytest.raises(Displaced):
        first.append(b"xxx")
    with pytest.raises(Displaced):
        first.accept()
    with pytest.raises(Displaced):
        first.reject(0)
    with pytest.raises(Displaced):
        first.remove()
    second.append(b"3456789")
    with pytest.raises(Displaced):
        first.finish(PartialHash())
    assert second.finish(PartialHash())[1] == hashlib.sha256(b"0123456789").hexdigest()


def test_bytes_that_are_not_checked_are_removed(folder: UploadFolder, info: UploadInfo) -> None:
    """
    A body with a checksum counts when it is complete: also if the process has crashed before.
    """
    begun(create(folder, info)).append(b"01")
    upload = begun(acquire(folder, info.id), checked=True)
    upload.append(b"23")
    upload = begun(acquire(folder, info.id), checked=True)
    assert upload.size == 2
    upload.append(b"xx")
    upload.reject(2)
    upload = begun(acquire(folder, info.id), checked=True)
    assert upload.size == 2
    upload.append(b"23")
    upload.accept()

    assert acquire(folder, info.id).size == 4


def test_a_crash_before_the_name_is_repaired(
    folder: UploadFolder, info: UploadInfo, tmp_path: Path
) -> None:
    """
    The name is written down first: a file that has it already does not get a second one.
    """
    upload = begun(create(folder, info))
    upload.append(b"0123456789")
    upload.finish(PartialHash())
    os.link(tmp_path / "a.txt", folder.part_path(info.id))  # it crashed before the part was gone

    assert acquire(folder, info.id).result is not None
    assert not os.path.exists(folder.part_path(info.id))

    os.rename(tmp_path / "a.txt", folder.part_path(info.id))  # or before the file had its name
    again = acquire(folder, info.id)
    assert again.result is None
    assert again.finish(PartialHash())[0] == "a.txt"
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["a.txt"]


def test_names_are_unique(folder: UploadFolder, tmp_path: Path) -> None:
    """
    No file is replaced, also with many of one name.
    """
    for number in range(12):
        upload = begun(create(folder, UploadInfo(new_id(), 1, "a.txt", "", "")))
        upload.append(b"%x" % number)
        upload.finish(PartialHash())

    found = sorted(path.name for path in tmp_path.glob("a*"))
    assert len(found) == 12
    assert {"a.txt", "a-2.txt", "a-9.txt"} < set(found)
    assert len({path.read_bytes() for path in tmp_path.glob("a*")}) == 12


def test_one_file_is_replaced(tmp_path: Path) -> None:
    """
    A route with a file accepts any name, and its uploads are not those of other routes.
    """
    folder = UploadFolder(str(tmp_path), "logo.png")
    for data in (b"1", b"2"):
        info = UploadInfo(new_id(), 1, "other.png", "", "")
        upload = begun(create(folder, info))
        upload.append(data)
        assert upload.finish(PartialHash())[0] == "logo.png"
        with pytest.raises(HttpError):
            acquire(UploadFolder(str(tmp_path)), info.id)
        assert acquire(folder, info.id).result is not None

    assert (tmp_path / "logo.png").read_bytes() == b"2"


def test_a_hash_is_continued(folder: UploadFolder, info: UploadInfo) -> None:
    """
    What this process has hashed is not read again; what others wrote is.
    """
    known = PartialHash()
    upload = begun(create(folder, info))
    upload.append(b"012", known)
    assert known.offset == 3
    begun(acquire(folder, info.id)).append(b"345")
    upload = begun(acquire(folder, info.id))
    upload.append(b"6789", known)
    assert known.offset == 3

    assert upload.finish(known)[1] == hashlib.sha256(b"0123456789").hexdigest()


def test_a_removed_upload_is_gone(folder: UploadFolder, info: UploadInfo, tmp_path: Path) -> None:
    """
    Nothing is left; who waits for it gets 404.
    """
    create(folder, info).remove()

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(HttpError) as caught:
        acquire(folder, info.id)
    assert caught.value.status == 404


def test_old_uploads_expire(folder: UploadFolder, info: UploadInfo, tmp_path: Path) -> None:
    """
    Those to which something was added lately stay, and so do all finished files.
    """
    begun(create(folder, info)).append(b"01")
    finished = begun(create(folder, UploadInfo(new_id(), 1, "b", "", "")))
    finished.append(b"x")
    finished.finish(PartialHash())
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    recent = new_id()
    begun(create(folder, UploadInfo(recent, 10, "c", "", ""))).append(b"01")
    os.utime(tmp_path / f".upload-{recent}.info", (1, 1))

    assert folder.expire(3600) == 2
    assert folder.expire(3600) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"b", f".upload-{recent}.part", f".upload-{recent}.info"}


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\n\n", b"0" * 36 + b"\n{}\n", b"0" * 36 + b"\n[1]\n"]
)
def test_a_damaged_description_is_no_upload(
    folder: UploadFolder, info: UploadInfo, tmp_path: Path, data: bytes
) -> None:
    """
    A crash while an upload was created leaves a file that expires.
    """
    create(folder, info)
    (tmp_path / f".upload-{info.id}.info").write_bytes(data)

    with pytest.raises(HttpError) as caught:
        acquire(folder, info.id)
    assert caught.value.status == 404


@pytest.fixture
def small_files() -> Iterator[None]:
    """
    Bound files to 1,000 bytes: to the program that is a full disk.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_files")
def test_what_fits_on_the_disk_is_kept(folder: UploadFolder) -> None:
    """
    The client gets 507, and goes on where the disk was full.
    """
    info = UploadInfo(new_id(), 2000, "a", "", "")
    upload = begun(create(folder, info))
    known = PartialHash()
    upload.append(b"x" * 600, known)
    with pytest.raises(HttpError) as caught:
        upload.append(b"y" * 600, known)

    assert caught.value.status == 507
    assert known.offset == upload.size == 1000
    assert acquire(folder, info.id).size == 1000


def test_an_upload_belongs_to_a_channel(folder: UploadFolder) -> None:
    """
    A client that may publish on another channel finds no such upload, and displaces no writer.
    """
    info = UploadInfo(new_id(), 4, "a.txt", "", "", "mine")
    upload = begun(create(folder, info))
    for other in ("", "yours"):
        with pytest.raises(HttpError) as refused:
            acquire(folder, info.id, other)
        assert refused.value.status == 404
    upload.append(b"0123")
    upload.close()
    again = acquire(folder, info.id, "mine")
    assert (again.info, again.size) == (info, 4)
    assert again.finish(PartialHash())[0] == "a.txt"
    again.close()
    assert acquire(folder, info.id, "mine").result is not None


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_the_folder_is_not_followed(
    folder: UploadFolder, info: UploadInfo, tmp_path: Path, exists: bool
) -> None:
    """
    A link that has the name of an upload is a file that exists, wherever it leads.
    """
    folder = UploadFolder(str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    victim = tmp_path / "victim"
    if exists:
        victim.write_bytes(b"mine")
    (tmp_path / "uploads" / "a.txt").symlink_to(victim)
    upload = begun(create(folder, info))
    upload.append(b"0123456789")

    assert upload.finish(PartialHash())[0] == "a-2.txt"
    assert (tmp_path / "uploads" / "a-2.txt").read_bytes() == b"0123456789"
    assert (victim.read_bytes() if exists else victim.exists()) == (b"mine" if exists else False)


@pytest.mark.parametrize("checked", [False, True])
def test_a_part_that_is_a_link_is_not_written(
    folder: UploadFolder, info: UploadInfo, tmp_path: Path, checked: bool
) -> None:
    """
    Neither appended to nor cut, whatever another program has put into the folder.
    """
    first = begun(create(folder, info), checked)
    first.append(b"01234")
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine and much longer than the upload" * 9)
    part = Path(folder.part_path(info.id))
    part.unlink()
    part.symlink_to(victim)

    with pytest.raises(OSError, match="symbolic links"):
        begun(acquire(folder, info.id))
    assert victim.read_bytes() == b"mine and much longer than the upload" * 9


@pytest.mark.parametrize("name", ["../victim", "/tmp/victim", ".bashrc", "a/b"])
def test_a_name_that_another_program_wrote_is_no_path(
    folder: UploadFolder, info: UploadInfo, name: str
) -> None:
    """
    The description of an upload is a file, which others may be able to write.
    """
    create(folder, replace(info, name=name))

    with pytest.raises(HttpError, match="no such upload"):
        acquire(folder, info.id)
