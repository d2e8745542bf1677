"""From a file to a parsed ModelProto: nothing in the file is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nmc.ir.diagnostics import fail

if TYPE_CHECKING:
    from onnx import ModelProto

#: Protobuf cannot hold more (https://protobuf.dev/programming-guides/proto-limits).
MAX_BYTES = 1 << 31

#: Reshape and others took their shapes as attributes before, which no exporter of today writes.
OLDEST_OPSET = 6


def read_model(path: Path, max_bytes: int = MAX_BYTES) -> ModelProto:
    """Parse a file; external data stay where they are.

    Raises
    ------
    NmcError
        E0303 when there is no such file, it is too large, or not ONNX.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import load_model_from_string

    raw = _read_bytes(path, max_bytes)
    hint = "give a binary .onnx file; if it was downloaded, get it again"
    try:
        model = load_model_from_string(raw)
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no protobuf message"
        raise fail("E0303", f"not an ONNX model: {reason}", where=path.name, hint=hint) from None
    if not model.HasField("graph"):
        raise fail("E0303", "not an ONNX model: it has no graph", where=path.name, hint=hint)
    return model


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise fail("E0303", f"{path} {what}", where=path.name, hint="give the path of an .onnx file")
        size = path.stat().st_size
        if size > max_bytes:
            raise fail(
                "E0303",
                f"the file has {size:,} of at most {max_bytes:,} bytes",
                where=path.name,
                hint="save the weights as external data (onnx.save_model(..., save_as_external_data=True))",
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise fail(
            "E0303", f"cannot be read: {error}", where=path.name, hint="check path and permissions"
        ) from None


def opset_of(model: ModelProto, where: str) -> int:
    """Version of the default operator set.

    Raises
    ------
    NmcError
        E0305 when the model names none, one older than 6, or one newer than the installed onnx.
    """
    from onnx.defs import onnx_opset_version

    newest = onnx_opset_version()
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    opset = versions[0] if versions else 0
    if OLDEST_OPSET <= opset <= newest:
        return opset
    found = f"it uses operator set {opset}" if versions else "it names no operator set"
    raise fail(
        "E0305",
        f"{found}; sets {OLDEST_OPSET} to {newest} are supported",
        where=where,
        hint="convert it with onnx.version_converter.convert_version, or export it with another opset",
    )
