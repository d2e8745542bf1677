"""Level ``image``: registers and words, exactly what the binary holds.

An assembler turns a module of this level into the target's files; the disassembler gives the same module
back.
"""

from __future__ import annotations

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op, require


@dataclass(frozen=True, kw_only=True)
class Header(Op, name="image.header", levels=("image",)):
    """Facts about the whole image, by name.

    image.header() {fields={profile=loihi1, compat=nmc}}
    """

    fields: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Reg(Op, name="image.reg", levels=("image",)):
    """One entry of a register table, field by field.

    image.reg() {core=4, table=cx_profile, index=0, fields={decay_u=4095, decay_v=0}}
    """

    core: int
    table: str
    index: int = 0
    fields: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Region(Op, name="image.region", levels=("image",)):
    """Words of a memory, from word `base` on.

    image.region(@core4.syn_mem) {core=4, table=syn_mem, base=0}
    """

    words: Const
    core: int
    table: str
    base: int = 0

    def verify(self) -> None:
        """A vector of words."""
        require(len(self.words.shape) == 1, f"words of rank {len(self.words.shape)}")


@dataclass(frozen=True, kw_only=True)
class HostMap(Op, name="image.hostmap", levels=("image",)):
    """A table of the host: which place on the chip an input, output or probe element is.

    image.hostmap(@x.index, @x.core, @x.place) {table=input, of=x, kind=bias, shape=[1, 28, 28]}
    """

    index: Const
    core: Const
    place: Const
    state: Const | None = None
    table: str
    of: str
    kind: str
    shape: tuple[int, ...]
    scale: float = 1.0
    exponent: int = 0
    first_step: int = 0
    seed: int = 0
    source: str = ""
