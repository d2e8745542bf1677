"""An image as files and as a module of level ``image``.

Files: ``program.nmcw`` (the word stream: memories, CLR, and what follows CLR at the beginning of each sample),
``host.json`` (shape, steps, encoders, outputs), ``host.npz`` (where inputs and populations are). Files are not trusted.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import NmcError, fail
from nmc.ir.module import Module
from nmc.ir.npz import npz_bytes, read_npz
from nmc.ir.op import Op
from nmc.ir.ops.image import Header, HostMap, Reg, Region
from nmc.targets.fpga import words
from nmc.targets.fpga.devices import device
from nmc.targets.fpga.shape import Shape

Array = NDArray[Any]
PROGRAM, HOST, MAPS = "program.nmcw", "host.json", "host.npz"
_MAX_STEPS = 1 << 31
_MAX_SIZE = 1 << 26
#: Bits of all memories of a chip: 70 times those of the largest device; engines expand them.
MAX_BITS = 1 << 28


@dataclass(frozen=True, eq=False)
class InputMap:
    """An input: event of element `index[i]` goes to (core, axon) `delay` ticks later."""

    name: str
    shape: tuple[int, ...]
    encoder: dict[str, Any]
    index: Array
    core: Array
    axon: Array
    delay: Array


@dataclass(frozen=True, eq=False)
class PopMap:
    """A population: neuron i (row-major) is `slot[i]` of core `core[i]`; `host`: its spikes go to the host."""

    name: str
    shape: tuple[int, ...]
    core: Array
    slot: Array
    fires: bool
    host: bool


@dataclass(frozen=True)
class OutputMap:
    """An output: "count" of spikes or "v" of a population, times `scale`."""

    population: str
    kind: str
    scale: float


@dataclass(frozen=True, eq=False)
class Image:
    """A program for a chip; `proved`: steps for which no sum leaves its bits (0: any number); `device`: whose clock."""

    shape: Shape
    program: bytes
    inputs: tuple[InputMap, ...]
    pops: tuple[PopMap, ...]
    outputs: tuple[OutputMap, ...]
    steps: int
    proved: int
    device: str = ""

    def body(self) -> words.Words:
        """Words of the program, checked."""
        return words.read(self.shape, self.program, PROGRAM)

    def start(self) -> words.Words:
        """Words at the beginning of each sample: from the last CLR on."""
        body = self.body()
        places = [item.at for item in words.decode(body) if item.op == words.Op.CLR]
        return body[places[-1] :] if places else np.array([words.word(words.Op.CLR)], np.uint32)


def to_files(image: Image) -> dict[str, bytes]:
    """Write an image; equal images give equal bytes."""
    meta = {
        "shape": image.shape.to_json(), "steps": image.steps, "proved": image.proved, "device": image.device,
        "inputs": [{"name": item.name, "shape": list(item.shape), "encoder": item.encoder} for item in image.inputs],
        "populations": [
            {"name": pop.name, "shape": list(pop.shape), "fires": pop.fires, "host": pop.host} for pop in image.pops
        ],
        "outputs": [{"population": item.population, "kind": item.kind, "scale": item.scale} for item in image.outputs],
    }  # fmt: skip
    arrays = {}
    for number, entry in enumerate(image.inputs):
        arrays[f"input{number}"] = np.stack([entry.index, entry.core, entry.axon, entry.delay]).astype(
            np.int32
        )
    for number, pop in enumerate(image.pops):
        arrays[f"population{number}"] = np.stack([pop.core, pop.slot]).astype(np.int32)
    text = json.dumps(meta, indent=1, sort_keys=True) + "\n"
    return {PROGRAM: image.program, HOST: text.encode(), MAPS: npz_bytes(arrays)}


def from_files(files: Mapping[str, bytes]) -> Image:
    """Read an image.

    Raises
    ------
    NmcError
        E0947 for maps of the host that are none, E1001 for a shape that cannot be, E1003 to E1005 for the words;
        nothing else, whatever the bytes.
    """
    missing = [name for name in (PROGRAM, HOST, MAPS) if name not in files]
    if missing:
        raise fail("E0947", f"the program holds no {missing[0]}; it is not for the FPGA core")
    try:
        meta = json.loads(files[HOST])
        arrays = read_npz(io.BytesIO(files[MAPS]))
        image = _image(meta, arrays, files[PROGRAM])
    except NmcError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise fail("E0947", f"the maps of the host are damaged: {error!r}") from None
    _check(image)
    return image


def _image(meta: Any, arrays: Mapping[str, Array], program: bytes) -> Image:
    shape = Shape.from_json(meta["shape"])
    inputs = tuple(
        InputMap(
            str(item["name"]),
            _extents(item["shape"]),
            dict(item["encoder"]),
            *_columns(arrays[f"input{i}"], 4),
        )
        for i, item in enumerate(meta["inputs"])
    )
    pops = tuple(_population(item, arrays[f"population{i}"]) for i, item in enumerate(meta["populations"]))
    outputs = tuple(
        OutputMap(str(item["population"]), str(item["kind"]), float(item["scale"]))
        for item in meta["outputs"]
    )
    return Image(
        shape, program, inputs, pops, outputs, int(meta["steps"]), int(meta["proved"]), _device(meta)
    )


def _device(meta: Any) -> str:
    name = str(meta.get("device", ""))
    return device(name).name if name else ""


def _population(item: Any, table: Array) -> PopMap:
    core, slot = _columns(table, 2)
    return PopMap(
        str(item["name"]), _extents(item["shape"]), core, slot, item["fires"] is True, item["host"] is True
    )


def _extents(shape: Any) -> tuple[int, ...]:
    found = tuple(int(item) for item in shape)
    size = 1
    for extent in found:
        size *= extent
        if extent < 1 or size > _MAX_SIZE or len(found) > 8:
            raise ValueError(f"shape {found}")
    return found


def _columns(table: Array, count: int) -> tuple[Array, ...]:
    if table.ndim != 2 or len(table) != count or table.dtype.kind not in "iu":
        raise ValueError(f"a table of shape {table.shape}, type {table.dtype}")
    return tuple(table.astype(np.int64))


def memory_bits(shape: Shape) -> int:
    """Bits of all memories of a chip."""
    return sum(
        item.rows * item.width * (1 if item.shared else shape.cores) for item in shape.memories.values()
    )


def _check(image: Image) -> None:
    """All places are on the chip, and the chip is one that engines can hold."""
    if memory_bits(image.shape) > MAX_BITS:
        raise fail(
            "E0947", f"the shape has {memory_bits(image.shape):,} bits of memory, engines hold {MAX_BITS:,}"
        )
    shape, names = image.shape, {pop.name for pop in image.pops}
    wrong = [f"{image.steps} steps"] if not 1 <= image.steps < _MAX_STEPS or image.proved < 0 else []
    for item in image.inputs:
        size = int(np.prod(item.shape))
        limits = (
            (item.index, size),
            (item.core, shape.cores),
            (item.axon, shape.axons),
            (item.delay, 1 << 20),
        )
        wrong += [f"input {item.name}" for values, limit in limits if not _within(values, limit)]
    for pop in image.pops:
        size = int(np.prod(pop.shape))
        lawful = len(pop.core) == size and _within(pop.core, shape.cores) and _within(pop.slot, shape.neurons)
        wrong += [] if lawful else [f"population {pop.name}"]
    for output in image.outputs:
        lawful = (
            output.population in names and output.kind in ("count", "v") and bool(np.isfinite(output.scale))
        )
        wrong += [] if lawful else [f"output {output.population}"]
    if wrong:
        raise fail(
            "E0947", f"the maps of the host name places that are none: {', '.join(dict.fromkeys(wrong))}"
        )


def _within(values: Array, limit: int) -> bool:
    return not values.size or bool(values.min() >= 0 and values.max() < limit)


def to_module(image: Image) -> Module:
    """Give an image as a module of level ``image``: registers, memories and maps as the files hold them."""
    facts: dict[str, object] = {
        "shape": image.shape.to_json(),
        "hash": image.shape.hash,
        "steps": image.steps,
    }
    ops: list[Op] = [Header(fields=facts)]
    spaces = {number: name for name, number in _spaces(image.shape).items()}
    core, table, row = 0, "", 0
    for number, item in enumerate(words.decode(image.body())):
        if item.op == words.Op.SEL:
            core = item.value
        elif item.op == words.Op.MEM_ADDR:
            table, row = spaces[item.high], item.low
        elif item.op == words.Op.MEM_DATA:
            const = Const(f"w{number}", item.data.astype(np.uint32))
            ops.append(Region(words=const, core=core, table=table, base=row))
        elif item.op == words.Op.REG:
            register = words.Register(item.high).name.lower()
            ops.append(Reg(core=core, table="register", index=item.high, fields={register: item.low}))
        else:
            ops.append(
                Reg(
                    core=core,
                    table=words.Op(item.op).name.lower(),
                    index=number,
                    fields={"value": item.value},
                )
            )
    for entry in image.inputs:
        ops.append(_map("input", entry.name, entry.shape, entry.index, entry.core, entry.axon))
    for pop in image.pops:
        ops.append(_map("population", pop.name, pop.shape, np.arange(len(pop.core)), pop.core, pop.slot))
    return Module("fpga", "image", tuple(ops))


def _spaces(shape: Shape) -> dict[str, int]:
    return {name: memory.space for name, memory in shape.memories.items()}


def _map(table: str, name: str, shape: tuple[int, ...], index: Array, core: Array, place: Array) -> HostMap:
    def const(key: str, values: Array) -> Const:
        return Const(f"{name}.{key}", values.astype(np.int32))

    return HostMap(
        index=const("index", index), core=const("core", core), place=const("place", place), table=table, of=name,
        kind="axon" if table == "input" else "neuron", shape=shape,
    )  # fmt: skip
