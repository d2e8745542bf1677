"""Windows of convolutions and poolings: strides, dilations, and all of ONNX's ways to say padding."""

from __future__ import annotations

from math import prod

from nmc.frontends.onnx.call import MAX_VALUE
from nmc.frontends.onnx.node import Ints, Node, Unsupported
from nmc.ir.dataclass import dataclass


@dataclass(frozen=True)
class Window:
    """A window that slides over spatial axes.

    Parameters
    ----------
    kernel, stride, dilation : tuple of int
        One entry an axis.
    pad : tuple of int
        Before each axis, then after each axis.
    extra : tuple of int
        What ``ceil_mode`` adds after each axis, not part of `pad`.
    """

    kernel: Ints
    stride: Ints
    dilation: Ints
    pad: Ints
    extra: Ints

    @property
    def whole_pad(self) -> Ints:
        """Pad and extra together."""
        half = len(self.kernel)
        after = (pad + extra for pad, extra in zip(self.pad[half:], self.extra, strict=True))
        return (*self.pad[:half], *after)


def read_window(node: Node, space: Ints, kernel: Ints) -> Window:
    """Read the attributes of a sliding window.

    Parameters
    ----------
    node : Node
        Conv or a pooling.
    space : tuple of int
        Spatial extents of the operand.
    kernel : tuple of int
        Spatial extents of the window.

    Raises
    ------
    Unsupported
        When an attribute has a wrong number of entries or a senseless value.
    """
    count = len(space)
    if len(kernel) != count:
        raise Unsupported(f"a window of {len(kernel)} axes over {count} spatial axes")
    ones = (1,) * count
    stride, dilation = (
        node.integers("strides", ones, count=count),
        node.integers("dilations", ones, count=count),
    )
    if min((*kernel, *stride, *dilation)) < 1:
        raise Unsupported(f"kernel {kernel}, strides {stride} and dilations {dilation} must be positive")
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    pad = _pads(node, space, stride, reach)
    extra = _ceil_extra(space, stride, reach, pad) if node.integer("ceil_mode", 0) else (0,) * count
    window = Window(kernel, stride, dilation, pad, extra)
    _check_size(space, window.whole_pad)
    return window


def _pads(node: Node, space: Ints, stride: Ints, reach: Ints) -> Ints:
    count, auto = len(space), node.text("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return node.integers("pads", (0,) * (2 * count), count=2 * count)
    if auto == "VALID":
        return (0,) * (2 * count)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad {auto!r} is not defined")
    totals = [
        max((-(-extent // step) - 1) * step + size - extent, 0)
        for extent, step, size in zip(space, stride, reach, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (*small, *large) if auto == "SAME_UPPER" else (*large, *small)


def _ceil_extra(space: Ints, stride: Ints, reach: Ints, pad: Ints) -> Ints:
    """Room for the last window of each axis, unless it begins in the padding (ONNX operator AveragePool)."""
    count, extra = len(space), []
    for axis, extent in enumerate(space):
        before, after = pad[axis], pad[count + axis]
        steps = max(-(-(extent + before + after - reach[axis]) // stride[axis]), 0)
        if steps * stride[axis] >= extent + before:
            steps -= 1
        extra.append(max(steps * stride[axis] + reach[axis] - (extent + before + after), 0))
    return tuple(extra)


def read_transposed(node: Node, space: Ints, kernel: Ints) -> tuple[Ints, Ints, Ints]:
    """Read the attributes of a ConvTranspose.

    Returns
    -------
    (stride, dilation, pad) : tuple of tuple of int
        `pad` is what is cropped before and after each axis, negative where zeros are added.

    Raises
    ------
    Unsupported
        When an attribute has a wrong number of entries or a senseless value.
    """
    count = len(space)
    ones, zeros = (1,) * count, (0,) * count
    stride, dilation = (node.integers(name, ones, count=count) for name in ("strides", "dilations"))
    extra = node.integers("output_padding", zeros, count=count)
    if min((*kernel, *stride, *dilation)) < 1 or min(extra) < 0:
        raise Unsupported(f"kernel {kernel}, strides {stride}, dilations {dilation}, output_padding {extra}")
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    auto = node.text("auto_pad", "NOTSET")
    whole = [(extent - 1) * step + size for extent, step, size in zip(space, stride, reach, strict=True)]
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad {auto!r} is not defined")
    if "output_shape" in node.attrs or auto.startswith("SAME"):
        same = tuple(extent * step for extent, step in zip(space, stride, strict=True))
        wanted = node.integers("output_shape", same, count=count)
        totals = [full + more - out for full, more, out in zip(whole, extra, wanted, strict=True)]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
    else:
        pads = node.integers("pads", zeros * 2, count=2 * count) if auto == "NOTSET" else zeros * 2
        before, after = list(pads[:count]), list(pads[count:])
    pad = (*before, *(crop - more for crop, more in zip(after, extra, strict=True)))
    extents = [max(full - pad[axis] - pad[count + axis], 0) for axis, full in enumerate(whole)]
    if prod(extents) > MAX_VALUE or prod(whole) > MAX_VALUE:
        raise Unsupported(f"its result of extents {extents} is too large", "use sensible strides")
    return stride, dilation, pad


def check_reach(window: Window) -> None:
    """Refuse padding as wide as the window, which makes windows without a single element.

    Raises
    ------
    Unsupported
        See above.
    """
    half = len(window.kernel)
    reach = [d * (k - 1) + 1 for d, k in zip(window.dilation, window.kernel, strict=True)]
    if any(pad >= reach[axis % half] for axis, pad in enumerate(window.pad)):
        raise Unsupported(f"pads {window.pad} are as wide as the window {window.kernel}", "use smaller pads")


def _check_size(space: Ints, pad: Ints) -> None:
    count = len(space)
    padded = [max(extent + pad[axis] + pad[count + axis], 0) for axis, extent in enumerate(space)]
    if prod(padded) > MAX_VALUE:
        raise Unsupported(f"padded to {tuple(padded)}, its operand is too large", "use sensible pads")
