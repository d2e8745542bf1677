"""A page with the rasters of two networks, one above the other, the first difference marked; no other files."""

from __future__ import annotations

from html import escape

import numpy as np

from nmc.runtime.compare import Array, Comparison, Layer, Population

_WIDTH, _HEIGHT = 960, 160
#: Spikes drawn of a population; the page says so where there are more.
_DOTS = 20_000
_STYLE = (
    "body{font:14px sans-serif;margin:2em}svg{background:#fff;border:1px solid #999}"
    ".a{fill:#1f5fbf}.b{fill:#c2571a}.m{stroke:#d00;stroke-width:1}.r{fill:none;stroke:#d00}"
)


def page(a: str, b: str, found: Comparison) -> str:
    """Give the HTML.

    Parameters
    ----------
    a, b : str
        Names of the two sides.
    found : Comparison
        What to show; the sample of the first difference, else the first.
    """
    first = found.first
    sample = first.first[1] if first is not None and first.first is not None else 0
    layers = [_layer(layer, sample) for layer in found.layers if layer.a.kind == layer.b.kind == "spikes"]
    verdict = "same" if found.equal else "different"
    head = f"<title>{verdict}: {escape(a)}, {escape(b)}</title><style>{_STYLE}</style>"
    intro = (
        f"<h1>{verdict}</h1><p>Sample {sample}; steps from left to right, neurons downwards. Above "
        f'<b style="color:#1f5fbf">A: {escape(a)}</b>, below <b style="color:#c2571a">B: {escape(b)}</b>. '
        "A red line marks the first step that differs, a circle the neuron.</p>"
    )
    body = f"<body>{intro}{''.join(layers)}</body>"
    return f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}</head>{body}</html>\n'


def _layer(layer: Layer, sample: int) -> str:
    name = layer.a.name if layer.a.name == layer.b.name else f"{layer.a.name} / {layer.b.name}"
    steps = max(layer.a.values.shape[1], layer.b.values.shape[1])
    parts = [
        _raster(layer, layer.a, "a", 0, steps, sample),
        _raster(layer, layer.b, "b", _HEIGHT + 10, steps, sample),
    ]
    told = "no difference" if layer.first is None else f"first difference in step {layer.first[0]}"
    more = f", B {layer.shift} steps later" if layer.shift else ""
    size = f'width="{_WIDTH}" height="{2 * _HEIGHT + 10}"'
    return f"<h2>{escape(name)}</h2><p>{told}{more}</p><svg {size}>{''.join(parts)}</svg>"


def _raster(layer: Layer, item: Population, side: str, top: int, steps: int, sample: int) -> str:
    """The spikes of one population in one sample; at most `_DOTS`."""
    trains: Array = item.values[min(sample, len(item.values) - 1)].reshape(item.values.shape[1], -1)
    wide, high = _WIDTH / steps, _HEIGHT / trains.shape[1]
    when, who = np.nonzero(trains)
    dot = f'width="{max(1.0, 0.8 * wide):.1f}" height="{max(1.0, 0.8 * high):.1f}"'
    dots = [
        f'<rect class="{side}" x="{t * wide:.1f}" y="{top + n * high:.1f}" {dot}/>'
        for t, n in zip(when[:_DOTS].tolist(), who[:_DOTS].tolist(), strict=True)
    ]
    if len(when) > _DOTS:
        dots.append(f'<text x="4" y="{top + 14}">the first {_DOTS:,} of {len(when):,} spikes</text>')
    return "".join(dots) + _mark(layer, side, top, wide, high, sample)


def _mark(layer: Layer, side: str, top: int, wide: float, high: float, sample: int) -> str:
    if layer.first is None:
        return ""
    step, where, neuron = layer.first
    x = (step + (layer.shift if side == "b" else 0) + 0.4) * wide
    line = f'<line class="m" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + _HEIGHT}"/>'
    if where != sample:
        return line
    shape = layer.a.values.shape[2:]
    y = top + (int(np.ravel_multi_index(neuron, shape)) + 0.4) * high
    return f'{line}<circle class="r" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
