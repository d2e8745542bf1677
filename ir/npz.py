"""Reading and writing ``.npz`` files that nobody vouches for."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import NmcError, fail

#: More than this many bytes of arrays in one file are refused before they are read.
MAX_BYTES = 4 << 30


def read_npz(path: str | Path | BinaryIO) -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz`` file.

    Parameters
    ----------
    path : str, Path or binary file
        A ZIP of ``.npy`` members, compressed or not; pickled objects are refused.

    Raises
    ------
    NmcError
        E0120 when it is missing, damaged, holds objects, or claims more than `MAX_BYTES`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, str(path))
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name[:-4]: _read_member(archive, name) for name in names}
    except NmcError:
        raise
    except FileNotFoundError:
        raise fail("E0120", "no such file", where=str(path)) from None
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged files
        raise fail("E0120", f"not a readable .npz file: {error}", where=str(path)) from None


def _check_sizes(archive: zipfile.ZipFile, where: str) -> None:
    total = sum(info.file_size for info in archive.infolist())
    if total > MAX_BYTES:
        raise fail("E0120", f"holds {total:,} bytes of arrays, over the limit of {MAX_BYTES:,}", where=where)


def _read_member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as member:
        data = member.read(MAX_BYTES)
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(stream)
    count = 1
    for extent in shape:
        count *= extent
    if dtype.hasobject or count < 0 or count * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"member {name} claims {shape} of {dtype}, which its bytes do not hold")
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def write_npz(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays uncompressed with fixed dates: the same arrays give the same bytes."""
    with open(path, "wb") as file:
        file.write(npz_bytes(arrays))


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Give the bytes of an uncompressed ``.npz`` with fixed dates."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(
                member, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False
            )
            info = zipfile.ZipInfo(f"{name}.npy")
            info.create_system = 3  # what a ZIP says of its maker must not depend on the machine
            archive.writestr(info, member.getvalue())
    return stream.getvalue()
