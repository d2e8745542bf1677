"""Whatever lies in a file, the readers of public instances answer with an instance or with E0715."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmc.ir.diagnostics import NmcError
from nmc.passes.map.memory import Buffer, allocate, conflicts
from nmc.passes.map.placement import place
from nmc.passes.map.readers import Assignment, read_minimalloc, read_qaplib

ALONE = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
QAPLIB = b"3\n\n0 1 2\n1 0 1\n2 1 0\n\n0 5 2\n5 0 3\n2 3 0\n"
MINIMALLOC = b"id,lower,upper,size,alignment\nb0,0,3,4,2\nb1,2,5,6,\nb2,4,9,1,1\n"


def answer(read: Callable[[Path], Any], folder: Path, data: bytes) -> Any:
    """What a reader gives for a file, None where it refuses it with its code."""
    path = folder / "file"
    path.write_bytes(data)
    try:
        return read(path)
    except NmcError as error:
        assert [item.code for item in error.diagnostics] == ["E0715"]
        assert str(path) in str(error) and len(str(error)) < 1000
        return None


def assert_usable(found: Assignment | tuple[Buffer, ...] | None) -> None:
    """What was read can be solved."""
    if isinstance(found, Assignment):
        assert found.flow.shape == found.distance.shape and found.flow.dtype == np.int64
        try:
            assert place(found.flow, found.distance, effort="fast").objective >= 0
        except ValueError as error:  # costs beyond exact integers are said to be so
            assert "scale the traffic" in str(error)
    elif found is not None:
        try:
            assert conflicts(found, allocate(found, nodes=1000, limit=0).offsets) == []
        except ValueError as error:
            assert "2^48" in str(error)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A good file with some of its bytes or words replaced, cut off or repeated."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        words = [
            b"", b"-1", b"1e308", b"nan", b"inf", b"1_0", b"0x1", b"99999999999999999999", b",", b"\n", b'"', b"\x00",
            b"\xff", "\u0663".encode(), b" ", b"3.5", b"=", b"\r",
        ]  # fmt: skip
        data[at : at + draw(st.integers(0, 6))] = draw(st.sampled_from(words) | st.binary(max_size=4))
    return bytes(data)


@given(st.binary(max_size=200) | damaged(QAPLIB))
@settings(ALONE, max_examples=150)
def test_any_bytes_are_a_qaplib_instance_or_refused(tmp_path: Path, data: bytes) -> None:
    assert_usable(answer(read_qaplib, tmp_path, data))


@given(st.binary(max_size=200) | damaged(MINIMALLOC))
@settings(ALONE, max_examples=150)
def test_any_bytes_are_a_minimalloc_instance_or_refused(tmp_path: Path, data: bytes) -> None:
    assert_usable(answer(read_minimalloc, tmp_path, data))


@pytest.mark.parametrize("read", [read_qaplib, read_minimalloc])
def test_what_is_no_file_is_refused(read: Callable[[Path], Any], tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / ("x" * 300)):
        with pytest.raises(NmcError, match="E0715"):
            read(path)
    pipe = tmp_path / "pipe"
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
    for path in filter(Path.exists, (pipe, Path("/dev/zero"))):  # these would never end
        with pytest.raises(NmcError, match="no regular file"):
            read(path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(NmcError, match="E0715"):
        read(loop)


@pytest.mark.parametrize("read", [read_qaplib, read_minimalloc])
def test_a_file_that_is_too_large_is_refused_without_reading_it(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: takes no room
    with pytest.raises(NmcError, match="larger than"):
        read(path)


def test_long_words_and_many_rows_are_told_in_one_short_line(tmp_path: Path) -> None:
    for data in (b"9" * 100_000, b"2 " + b"7" * 5_000 + b" 1" * 7, b"2000 " + b"0 " * 10):
        assert answer(read_qaplib, tmp_path, data) is None
    head = b"id,lower,upper,size\n"
    for data in (
        head + b"a,0," + b"9" * 5_000 + b",1\n",
        head + b'"' * 200_000,
        head + b"a,0,1," + b"1" * 4_400,
    ):
        assert answer(read_minimalloc, tmp_path, data) is None
