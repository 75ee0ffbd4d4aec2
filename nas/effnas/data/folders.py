"""Class folders, on disk or in a tar archive.

Both are seen through a function that lists one folder, on top of which the rules of the layout are
written once. Reading the training part never lists another one.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
import zlib
from contextlib import contextmanager
from functools import partial
from lzma import LZMAError
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from effnas.data.source import (
    OTHER_PARTS,
    TEST_KINDS,
    TRAINING_PARTS,
    Source,
    only_part,
    reader_of_files,
    test_part_of,
)
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    import numpy.typing as npt

    from effnas.data.source import Encoded, Layer, Read

#: Files of these names are images; others are if they begin as one of these formats.
_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
_BEGINNINGS = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"
#: Those of TIFF are those of most cameras' raw images, too, whose names have suffixes of their own.
_OF_TIFF = b"II*\0", b"MM\0*"
#: Bytes that tell.
_HEAD = 16
#: Folders of systems, which are no classes; hidden ones are none either.
_OF_SYSTEMS = frozenset((
    "__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information",
))  # fmt: skip


class _Listing(NamedTuple):
    folders: list[str]
    images: list[str]
    others: list[str]  # files that are no images


# A folder is given by its path below the root with a slash after each name: "", "train/cat/".
_ListFolder: TypeAlias = "Callable[[str], _Listing]"


def folder_source(root: Path, *, part: Layer = "training") -> Source:
    """Return the images of one part below a folder of class folders.

    Raises:
        DataError: It cannot be read, is not laid out as class folders, or lacks the part.
    """

    def file(index: int) -> Path:
        return root / found.names[index]

    found = _find_images(
        lambda folder: _list_directory(root, folder), root, part, reader_of_files(file), file=file
    )
    return found


def archive_source(path: Path, *, first: int | None = None, part: Layer = "training") -> Source:
    """Return the images of one part in a tar archive of class folders, compressed or not.

    Nothing is ever unpacked to disk. Links lead to files of the archive only. With `first`, the
    archive is listed only until that many images of a training part have been met.

    Raises:
        DataError: It is not an archive, is damaged, is not laid out as class folders, or lacks
            the part.
    """
    listings, files = _archive_contents(path, first, part)

    def read(chosen: npt.NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        members = [files[found.names[index]] for index in chosen]
        with _open_archive(path) as archive:
            # In the order of the archive: to go back in a compressed one is to start again.
            for position in sorted(range(len(members)), key=lambda n: members[n].offset_data):
                file = archive.extractfile(members[position])
                yield position, file.read() if file else b""

    found = _find_images(
        listings.__getitem__, path, part, read, way_out="unpack the archive and name its folder"
    )
    return found


def _find_images(
    list_folder: _ListFolder,
    origin: Path,
    part: Layer,
    read: Read,
    *,
    file: Callable[[int], Path] | None = None,
    way_out: str | None = None,
) -> Source:
    """Return the images of a part; their names are paths below the root."""
    others: list[str] = []
    if part == "training":
        (folder, others), name = _training_part(list_folder, origin), None
    else:
        folder, name = _test_part(list_folder, origin)
    top = list_folder(folder)
    if not top.folders:
        where = origin / folder
        if top.images:
            raise DataError(
                f"{where}: the images lie directly in it; put those of each class into a folder"
                " of their own"
            )
        raise DataError(f"{where}: nothing in it; expected class folders with images, as cat/1.jpg")
    names: list[str] = []
    passed_over = [f"{folder}{image}" for image in top.images]
    counts = []
    for class_folder in top.folders:
        below = sorted(_images_below(list_folder, f"{folder}{class_folder}/", passed_over))
        names += below
        counts.append(len(below))
    labels = np.repeat(np.arange(len(counts)), counts)
    return Source(
        origin=str(origin),
        classes=tuple(top.folders),
        names=names,
        labels=labels,
        read=read,
        class_noun="class folder",
        part=name,
        file=file,
        way_out=way_out,
        training_part=folder if others else "",
        untouched=tuple(f"{other}/" for other in others),
        test_part=test_part_of(others),
        passed_over=passed_over,
    )


def _training_part(list_folder: _ListFolder, origin: Path) -> tuple[str, list[str]]:
    """Return the folder of the training part, and what else there is."""
    root, folders = _top(list_folder)
    parts = _parts(list_folder, root, folders)
    training = only_part(parts, TRAINING_PARTS, "training", origin / root)
    others = [name for name in parts if name != training]
    if others and not training:
        raise DataError(
            f"{origin / root}: there is a part {others[0]!r} but none named 'train';"
            " a search reads the training part only"
        )
    if not training:
        return root, []
    others += [name for name in folders if name not in parts]  # whatever is in them
    return f"{root}{training}/", others


def _test_part(list_folder: _ListFolder, origin: Path) -> tuple[str, str]:
    """Return the folder of the test part, or of what there is in its place, and its name."""
    root, folders = _top(list_folder)
    parts = _parts(list_folder, root, folders)
    for names, kind in TEST_KINDS:
        name = only_part(parts, names, kind, origin / root)
        # Images that lie directly in a test part are those of a contest, which keeps their labels.
        if name and list_folder(f"{root}{name}/").folders:
            return f"{root}{name}/", name
    raise DataError(
        f"{origin / root}: no test part with class folders; looked for a folder named test or"
        " testing, then for val, valid, validation or eval: add one"
    )


def _parts(list_folder: _ListFolder, root: str, folders: list[str]) -> list[str]:
    """Return the folders that are parts.

    A class may be called as a training part is: of bus, car and train, all are classes. Such a one
    has its images directly in it, which those of a part are not.
    """
    parts = [name for name in folders if name.lower() in TRAINING_PARTS | OTHER_PARTS]
    if len(parts) != 1 or len(folders) == 1 or parts[0].lower() not in TRAINING_PARTS:
        return parts
    listing = list_folder(f"{root}{parts[0]}/")
    return [] if listing.images and not listing.folders else parts


def _top(list_folder: _ListFolder) -> tuple[str, list[str]]:
    """Return the folder that parts or classes lie in, and the folders in it."""
    root, folders = "", list_folder("").folders
    if len(folders) == 1 and folders[0].lower() not in TRAINING_PARTS | OTHER_PARTS:
        # A folder that all else lies in, as archives have it, unless it is itself a class.
        inner = list_folder(f"{folders[0]}/")
        if inner.folders and not inner.images:
            root, folders = f"{folders[0]}/", inner.folders
    return root, folders


def _images_below(
    list_folder: _ListFolder, folder: str, passed_over: list[str] | None = None
) -> Iterator[str]:
    """Yield the images in a folder and those below it; other files are added to a list."""
    listing = list_folder(folder)
    if passed_over is not None:
        passed_over += [folder + name for name in listing.others]
    for name in listing.images:
        yield folder + name
    for name in listing.folders:
        yield from _images_below(list_folder, f"{folder}{name}/", passed_over)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _OF_SYSTEMS


def _is_image(name: str, head: Callable[[], bytes]) -> bool:
    """Return whether a file is an image: by its name, or by how it begins where that does not tell.

    Args:
        name: Of the file.
        head: Returns its first bytes.
    """
    if name.lower().endswith(_SUFFIXES):
        return True
    found = head()
    may_be_tiff = Path(name).suffix.lower()[:4] in ("", ".tif")
    return (
        found.startswith(_BEGINNINGS)
        or (may_be_tiff and found.startswith(_OF_TIFF))
        or (found[:4] == b"RIFF" and found[8:12] == b"WEBP")
        or (found[:2] == b"BM" and found[6:10] == bytes(4))
        or (found[:2] in (b"P2", b"P3", b"P5", b"P6") and found[2:3].isspace())
    )


def _head_of(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError:
        return b""


def _list_directory(root: Path, folder: str) -> _Listing:
    listing, here = _Listing([], [], []), root / folder
    try:
        with os.scandir(here) as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    continue
                path = Path(entry.path)
                if entry.is_dir():
                    if not (entry.is_symlink() and _has_no_end(path, root, here)):
                        listing.folders.append(entry.name)
                # What is no file, such as a pipe, may never end.
                elif entry.is_file() and _is_image(entry.name, partial(_head_of, path)):
                    listing.images.append(entry.name)
                else:
                    listing.others.append(entry.name)
    except OSError as error:
        raise DataError(f"{here}: cannot be read: {error.strerror}") from error
    listing.folders.sort()
    listing.others.sort()
    return listing


def _has_no_end(link: Path, root: Path, folder: Path) -> bool:
    """Return whether a link in a folder leads back to where one has come from."""
    target, here = link.resolve(), folder.resolve()
    # Also through other links: what lies above a folder by its path may be elsewhere on the disk.
    way = [each.resolve() for each in (folder, *folder.parents) if each.is_relative_to(root)]
    return target in (here, *here.parents, *way)


def _archive_contents(
    path: Path, first: int | None, part: Layer
) -> tuple[dict[str, _Listing], dict[str, tarfile.TarInfo]]:
    """Return the folders of an archive by path, and its image files, from its headers."""
    listings = {"": _Listing([], [], [])}
    members: dict[str, tarfile.TarInfo] = {}
    links: list[tuple[list[str], str]] = []  # where one is, and where it leads
    met = 0

    def folder(names: list[str]) -> str:
        place = "".join(f"{name}/" for name in names)
        if place not in listings:
            listings[place] = _Listing([], [], [])
            listings[folder(names[:-1])].folders.append(names[-1])
        return place

    def add(names: list[str], member: tarfile.TarInfo) -> None:
        place = folder(names[:-1])
        if place + names[-1] not in members:
            listings[place].images.append(names[-1])
        members[place + names[-1]] = member

    with _open_archive(path) as archive:
        for member in archive:
            names = [name for name in member.name.split("/") if name not in ("", ".")]
            # ".." leads out of the archive, and begins with a dot as hidden names do.
            if not names or any(_is_hidden(name) for name in names):
                continue
            if member.isdir():
                folder(names)
            elif member.issym() or member.islnk():
                beside = "/".join(names[:-1]) if member.issym() else ""
                links.append((names, posixpath.normpath(posixpath.join(beside, member.linkname))))
            elif member.isreg() and _is_image(
                names[-1], partial(_head_in, archive, member, names, part)
            ):
                add(names, member)
                # A class folder and a file name lie below the part.
                met += any(name.lower() in TRAINING_PARTS for name in names[:-2][:2])
                if first is not None and met >= first:
                    break
            else:
                listings[folder(names[:-1])].others.append(names[-1])
        else:
            _check_end(archive)
    for names, target in links:
        if target in members:
            add(names, members[target])
        else:
            listings[folder(names[:-1])].others.append(names[-1])
    for listing in listings.values():
        listing.folders.sort()
        listing.others.sort()
    return listings, members


def _head_in(
    archive: tarfile.TarFile, member: tarfile.TarInfo, names: list[str], part: Layer
) -> bytes:
    if part == "training" and any(name.lower() in OTHER_PARTS for name in names[:2]):
        return b""  # which is never read for a search
    file = archive.extractfile(member)
    return file.read(_HEAD) if file else b""


@contextmanager
def _open_archive(path: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive for reading; damage that is met while it is read raises a `DataError`."""
    opened = False
    try:
        with tarfile.open(path) as archive:
            opened = True
            yield archive
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        if isinstance(error, tarfile.ReadError) and not opened:
            raise DataError(
                f"{path}: neither a folder nor a tar archive (.tar, .tar.gz, .tgz, ...)"
            ) from error
        raise DataError(
            f"{path}: the archive is damaged or cut short ({error}); get it again"
        ) from error


def _check_end(archive: tarfile.TarFile) -> None:
    """Tell an archive's end from damage, which `tarfile` takes for an end too."""
    file = archive.fileobj
    if file is None:
        return
    file.seek(archive.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its list of files breaks off")
