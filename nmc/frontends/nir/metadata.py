"""What nmc writes into the metadata of a NIR file, and how it reads that back.

NIR describes equations in continuous time. What a step computes is no part of it; `write` puts that beside it: the
discretisation record into the metadata of the graph (``nmc``, JSON), and into that of a node (``nmc``, JSON) what
this node does otherwise, as arrays (``nmc_beta``, ...) coefficients of a step that the fields give but for rounding.
A file comes from anywhere: everything is checked, and coefficients that contradict the fields are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nmc.frontends.nir.primitives import Array, Field, Ints, Node, Unfit
from nmc.ir.record import PER_POPULATION, Record, problems

KEY = "nmc"
FORMAT = 1
#: Coefficients of ``snn.neuron`` that a node's metadata may hold.
COEFFICIENTS = (
    "alpha",
    "beta",
    "gain",
    "leak",
    "threshold",
    "v_reset",
    "w_in",
    "bias",
    "late_bias",
    "feed",
    "v_init",
)
#: Attributes of ``snn.output`` and of ``snn.input`` that the metadata of their nodes may hold.
DECODER = ("decoder", "scale", "margin", "delay", "quiescent")
ENCODER = ("encoder", "gain", "seed", "source")
ENTRIES = (*PER_POPULATION, "drive")
_CLOSE = 1e-6
_MOST = 1 << 20


def record_of(meta: Mapping[str, Field]) -> Record | None:
    """Give the record of a graph's metadata, None where nmc wrote none.

    Raises
    ------
    Unfit
        E0343 when it is damaged.
    """
    if KEY not in meta:
        return None
    found = _json(meta[KEY])
    if found.get("format") != FORMAT:
        raise Unfit("E0343", f"metadata of format {found.get('format')!s:.20}; this nmc reads {FORMAT}")
    try:
        return Record.read(found.get("record", {}))
    except (ValueError, TypeError) as error:
        raise Unfit("E0343", f"metadata: {error}", "use --convention nir to ignore the metadata") from None


def _json(item: Field) -> dict[str, Any]:
    try:
        found = json.loads(item) if isinstance(item, str) and len(item) <= _MOST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unfit("E0343", "its metadata of nmc are no JSON object", "use --convention nir to ignore them")
    return found


def options(node: Node) -> dict[str, Any]:
    """Give what a node's metadata say about its step: entries of the record, start, encoder, decoder.

    Raises
    ------
    Unfit
        E0343 when an entry is unknown or holds what it may not.
    """
    if KEY not in node.meta:
        return {}
    found = _json(node.meta[KEY])
    entries = {name: item for name, item in found.items() if name in ENTRIES}
    wrong = problems({"dt": 1.0, **entries})
    wrong += [
        f"{name[:40]!r}" for name, item in found.items() if name not in ENTRIES and not _valid(name, item)
    ]
    if wrong:
        raise Unfit(
            "E0343", f"{node.name}: metadata: {'; '.join(wrong)[:200]}", "use --convention nir to ignore them"
        )
    return {name: float(item) if name in ("gain", "scale") else item for name, item in found.items()}


def _valid(name: str, item: object) -> bool:
    whole = isinstance(item, int) and not isinstance(item, bool) and abs(item) < 1 << 63
    if name in ("start", "margin", "delay"):
        return whole and 0 <= int(str(item)) <= _MOST
    if name == "seed":
        return whole
    if name in ("gain", "scale"):
        number = isinstance(item, float | int) and not isinstance(item, bool)
        return number and math.isfinite(float(str(item)))
    if name == "quiescent":
        return isinstance(item, bool)
    choices = {"encoder": ("constant", "rate", "raster"), "decoder": ("last", "count")}
    if name in choices:
        return item in choices[name]
    return name in ("source", "name") and isinstance(item, str) and len(item) < 1000


def node_record(record: Record, found: Mapping[str, Any]) -> Record:
    """The record of one node."""
    return replace(record, **{name: item for name, item in found.items() if name in ENTRIES})


def exact(node: Node, computed: Mapping[str, Array], shape: Ints) -> dict[str, Array]:
    """Give the coefficients that a node's metadata hold in place of those that its fields give.

    Parameters
    ----------
    computed : mapping of str to array
        Those of the fields, which must agree but for rounding.
    shape : tuple of int
        Of the population.

    Raises
    ------
    Unfit
        E0343 when they do not fit or contradict the fields.
    """
    found: dict[str, Array] = {}
    for key, item in node.meta.items():
        name = key.removeprefix(f"{KEY}_")
        if key == KEY:
            continue
        told = f"{node.name[:80]}: metadata {key[:40]}"
        if name not in COEFFICIENTS or isinstance(item, str) or item.dtype.kind != "f":
            raise Unfit("E0343", f"{told} are no coefficients", "use --convention nir to ignore them")
        if item.size not in (1, math.prod(shape)) or not bool(np.isfinite(item).all()):
            raise Unfit("E0343", f"{told} have {item.size} elements, or infinite ones")
        if name != "v_init" and not _agree(item, computed.get(name, np.zeros(1))):
            raise Unfit(
                "E0343", f"{told} contradict the fields of the node", "use --convention nir to ignore them"
            )
        found[name] = item.astype(np.float64)
    return found


def _agree(item: Array, computed: Array) -> bool:
    a, b = item.reshape(-1), np.asarray(computed, np.float64).reshape(-1)
    if a.size != b.size and 1 not in (a.size, b.size):
        return False
    return bool(np.allclose(a, b, rtol=_CLOSE, atol=1e-12))


def dumps(found: Mapping[str, Any]) -> str:
    """JSON text, the same for the same content."""
    return json.dumps(dict(found), sort_keys=True, allow_nan=False)
