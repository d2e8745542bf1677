"""A placement as a picture: cores on the mesh, coloured by population, with the spikes that they send and get."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from nmc.ir.module import Module
from nmc.ir.ops.mapped import HOST, Neurons, Route
from nmc.ir.target import Target
from nmc.passes.map.place import coordinates

_TILE, _MARGIN, _LINE = 36, 12, 18
#: Columns between chips, however many hops a crossing counts as; least width, and width that a letter is given.
_GAP, _WIDE, _LETTER = 1, 480, 6.6
#: Least share of a core that a part is drawn with, so that small ones are seen.
_SEEN = 0.12
#: Neighbouring hues differ by the golden angle, so that any number of populations can be told apart.
_ANGLE = 137.508


def picture(module: Module, target: Target) -> str:
    """Draw a placed module as a self-contained SVG.

    Parameters
    ----------
    module : Module
        Mapped and placed.
    target : Target
        Its mesh; only the part around used tiles is drawn.
    """
    at = coordinates(target, _GAP)
    parts: dict[int, list[Neurons]] = {}
    for part in module.of_type(Neurons):
        if part.core != HOST:
            parts.setdefault(part.core, []).append(part)
    heat = _heat(module)
    names = list(dict.fromkeys(part.of.name for found in parts.values() for part in found))
    colour = {name: f"hsl({number * _ANGLE % 360:.0f} 60% 65%)" for number, name in enumerate(names)}
    used = at[sorted(parts)] if parts else at[:1]
    (left, top), (right, bottom) = used.min(axis=0).tolist(), used.max(axis=0).tolist()
    order: dict[tuple[int, int], list[int]] = {}
    for core, (x, y) in enumerate(at.tolist()):
        if left <= x <= right and top <= y <= bottom:
            order.setdefault((x, y), []).append(core)
    chips = _chips(at, sorted(parts), target.chips) if target.chips > 1 else []
    above = _MARGIN + (_LINE if chips else 0)
    body = [*chips]
    for (x, y), cores in order.items():
        body += _tile((x - left) * _TILE + _MARGIN, (y - top) * _TILE + above, cores, parts, colour, heat)
    height = (bottom - top + 1) * _TILE + above + _MARGIN
    legend = _legend(module, target, parts, colour, heat)
    body += [
        f'<g transform="translate({_MARGIN} {height + _LINE * row})">{line}</g>'
        for row, line in enumerate(legend)
    ]
    told = max(len(re.sub(r"<[^>]*>", "", line)) for line in legend)
    wide = max((right - left + 1) * _TILE + 2 * _MARGIN, _WIDE, ceil(told * _LETTER) + _LINE + 2 * _MARGIN)
    high = height + _LINE * len(legend) + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
    )
    return f'{head} font-family="sans-serif" font-size="11">\n' + "\n".join(body) + "\n</svg>\n"


def _chips(at: NDArray[np.int64], used: list[int], chips: int) -> list[str]:
    """The number of each chip that is used, above the first of its columns that is drawn."""
    per_chip, left = len(at) // chips, int(at[used, 0].min(initial=1 << 30))
    found = []
    for chip in sorted({core // per_chip for core in used}):
        column = max(left, int(at[chip * per_chip : (chip + 1) * per_chip, 0].min())) - left
        found.append(f'<text x="{column * _TILE + _MARGIN}" y="{_MARGIN + 8}">chip {chip}</text>')
    return found


def _legend(
    module: Module,
    target: Target,
    parts: Mapping[int, list[Neurons]],
    colour: Mapping[str, str],
    heat: Mapping[int, int],
) -> list[str]:
    """Lines below the mesh: what is shown, how many cores each population lies on, what the discs mean."""
    lines = [
        f'<text y="11" font-weight="bold">{escape(f"{module.name} on {target.name}: {len(parts):,} cores")}</text>'
    ]
    for name, fill in colour.items():
        cores = sum(any(part.of.name == name for part in held) for held in parts.values())
        neurons = sum(part.of.type.size for part in _held_by(parts, name)[:1])
        told = f"{name}: {neurons:,} neurons on {cores:,} core{'s' * (cores > 1)}"
        lines.append(f'<rect width="12" height="12" fill="{fill}"/><text x="18" y="11">{escape(told)}</text>')
    if most := max(heat.values(), default=0):
        told = f"spikes a sample that a core sends and gets, by area; the largest disc: {most:,}"
        lines.append(
            f'<circle cx="6" cy="6" r="6" fill="#222" fill-opacity="0.45"/><text x="18" y="11">{escape(told)}</text>'
        )
    return lines


def _held_by(parts: Mapping[int, list[Neurons]], name: str) -> list[Neurons]:
    """Parts of a population on the chip."""
    return [part for held in parts.values() for part in held if part.of.name == name]


def _heat(module: Module) -> dict[int, int]:
    """Spikes a sample that each core sends to others or gets from them."""
    home = {part.out: part.core for part in module.of_type(Neurons)}
    found: dict[int, int] = {}
    for route in module.of_type(Route):
        own = home[route.source.name]
        for core, count in zip(route.to, route.spikes or (0,) * len(route.to), strict=True):
            if core != own:
                for end in (own, core):
                    found[end] = found.get(end, 0) + count
    return found


def _tile(
    x: int,
    y: int,
    cores: list[int],
    parts: Mapping[int, list[Neurons]],
    colour: Mapping[str, str],
    heat: Mapping[int, int],
) -> list[str]:
    """The cores of a tile as squares; a core's stripes are its parts, the dark disc grows with its spikes."""
    side = ceil(sqrt(len(cores)))
    size = (_TILE - 4) / side
    most = max(heat.values(), default=0) or 1
    found = [f'<rect x="{x}" y="{y}" width="{_TILE - 2}" height="{_TILE - 2}" fill="#f4f4f4" stroke="#bbb"/>']
    for number, core in enumerate(cores):
        cx, cy = x + 1 + number % side * size, y + 1 + number // side * size
        held = parts.get(core, [])
        whole = sum(len(part.slots) for part in held) or 1
        shares = [max(len(part.slots) / whole, _SEEN) for part in held]
        for part, share in zip(held, shares, strict=True):
            width = size * share / sum(shares)
            label = (
                f"core {core}: {part.out}, {len(part.slots):,} slots, {heat.get(core, 0):,} spikes a sample"
            )
            found.append(
                f'<rect x="{cx:.2f}" y="{cy:.2f}" width="{width:.2f}" height="{size:.2f}" '
                f'fill="{colour[part.of.name]}"><title>{escape(label)}</title></rect>'
            )
            cx += width
        if held and heat.get(core):
            radius = size / 2 * sqrt(heat[core] / most)
            middle = x + 1 + (number % side + 0.5) * size
            found.append(
                f'<circle cx="{middle:.2f}" cy="{cy + size / 2:.2f}" r="{radius:.2f}" fill="#222" '
                f'fill-opacity="0.45" pointer-events="none"/>'
            )
    return found
