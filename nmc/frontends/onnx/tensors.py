"""From TensorProto to numpy, with every size checked before memory is asked for."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmc.frontends.onnx.node import Unsupported, utf8
from nmc.ir.dataclass import dataclass

if TYPE_CHECKING:
    from onnx import TensorProto

Array = NDArray[Any]

#: More elements than the largest file can hold as one byte each.
MAX_ELEMENTS = 1 << 31
MAX_RANK = 32

BFLOAT16 = 16

#: TensorProto.DataType numbers of FLOAT, FLOAT16, DOUBLE and BFLOAT16, which activations may have.
FLOAT_CODES = (1, 10, 11, BFLOAT16)

#: TensorProto.DataType (onnx.proto) -> numpy type. BFLOAT16 is stored as its upper half of a float32.
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", BFLOAT16: "uint16",
}  # fmt: skip

#: The field that holds the elements when `raw_data` does not (onnx.proto, comments of TensorProto).
_FIELDS = {
    1: "float_data", 2: "int32_data", 3: "int32_data", 4: "int32_data", 5: "int32_data", 6: "int32_data",
    7: "int64_data", 9: "int32_data", 10: "int32_data", 11: "double_data", 12: "uint64_data",
    13: "uint64_data", BFLOAT16: "int32_data",
}  # fmt: skip


class BrokenTensor(Unsupported):
    """A tensor contradicts itself."""

    code = "E0303"


class BadExternalData(Unsupported):
    """The file that holds a tensor's elements is missing, too short, or outside the model's folder."""

    code = "E0304"


@dataclass(frozen=True)
class TensorReader:
    """Reads the tensors of a model.

    Parameters
    ----------
    folder : Path
        The model's folder; no external data is read from anywhere else.
    """

    folder: Path

    def read(self, tensor: TensorProto) -> Array:
        """Give the elements.

        Returns
        -------
        ndarray
            Of the tensor's dtype, bfloat16 as float32; read-only where it shares the model's memory.

        Raises
        ------
        Unsupported
            For a dtype without numpy counterpart.
        BrokenTensor
            When dims and data do not agree.
        BadExternalData
            See `BadExternalData`.
        """
        code = tensor.data_type
        if code not in DTYPES:
            raise Unsupported(
                f"its element type {_type_name(code)} is not supported",
                "store the weights as float32 or float16",
            )
        shape = _checked_shape(tuple(tensor.dims))
        stored = np.dtype(DTYPES[code]).newbyteorder("<")
        flat = self._elements(tensor, code, stored, prod(shape))
        if code == BFLOAT16:
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        elif code == 9:
            flat = flat.view(np.uint8) != 0
        return flat.reshape(shape).view(flat.dtype.newbyteorder("="))

    def _elements(self, tensor: TensorProto, code: int, stored: np.dtype[Any], count: int) -> Array:
        if tensor.data_location == tensor.EXTERNAL:
            return self._external(tensor, stored, count)
        if tensor.HasField("raw_data"):
            _same(len(tensor.raw_data), count * stored.itemsize, "bytes")
            return np.frombuffer(tensor.raw_data, stored, count)
        field = getattr(tensor, _FIELDS[code])
        _same(len(field), count, "elements")
        wide = np.asarray(
            field, {"float_data": "<f4", "double_data": "<f8", "uint64_data": "<u8"}.get(_FIELDS[code], "<i8")
        )
        if code in (10, BFLOAT16):
            return wide.astype("<u2").view(stored)
        return wide.astype(stored)

    def _external(self, tensor: TensorProto, stored: np.dtype[Any], count: int) -> Array:
        entries = {utf8(entry.key): utf8(entry.value) for entry in tensor.external_data}
        path = self._inside(entries.get("location", ""))
        offset = _number(entries, "offset", 0)
        need = count * stored.itemsize
        length = _number(entries, "length", need)
        if length != need:
            raise BrokenTensor(f"its dims need {need:,} bytes, its external data are {length:,} bytes")
        have = path.stat().st_size
        if offset + need > have:
            raise BadExternalData(
                f"needs bytes {offset:,} to {offset + need:,} of {path.name}, which has {have:,}",
                "the data file is truncated or belongs to another model; copy it again",
            )
        with path.open("rb") as file:
            return np.fromfile(file, stored, count, offset=offset)

    def _inside(self, location: str) -> Path:
        hint = f"put the data file into {self.folder}, beside the model"
        parts = re.split(r"[/\\]", location)
        outside = Path(location).is_absolute() or ".." in parts or ":" in parts[0] or "\0" in location
        if not location or outside:
            raise BadExternalData(f"its external data {location!r} are not inside the model's folder", hint)
        try:
            path = (self.folder / location).resolve()
            inside, exists = path.is_relative_to(self.folder.resolve()), path.is_file()
        except (OSError, RuntimeError) as error:
            raise BadExternalData(f"its external data cannot be found: {error}", hint) from None
        if not inside:
            raise BadExternalData(f"its external data {location!r} link to outside the model's folder", hint)
        if not exists:
            raise BadExternalData(f"its external data file {location!r} does not exist", hint)
        return path


def _type_name(code: int) -> str:
    from onnx import TensorProto

    names: dict[int, str] = {value: key for key, value in TensorProto.DataType.items()}
    return names.get(code, f"number {code}")


def _checked_shape(dims: tuple[int, ...]) -> tuple[int, ...]:
    if len(dims) > MAX_RANK or any(extent < 0 for extent in dims) or prod(dims) > MAX_ELEMENTS:
        raise BrokenTensor(f"its dims {dims[:8]} are negative or too large")
    return dims


def _same(have: int, want: int, what: str) -> None:
    if have != want:
        raise BrokenTensor(f"its dims need {want:,} {what}, it holds {have:,}")


def _number(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadExternalData(f"its external data have the {key} {text[:40]!r}, which is no number of bytes")
    return int(text)
