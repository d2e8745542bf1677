"""Linear nodes: shapes, and what they do to a batch."""

from __future__ import annotations

from math import prod

import numpy as np

from nmc.frontends.nir.primitives import Array, Ints, Node, Unfit
from nmc.ir.dataclass import dataclass
from nmc.ir.op import VerifyError
from nmc.ir.ops import kernels


@dataclass(frozen=True)
class Stage:
    """A linear node between given shapes.

    Parameters
    ----------
    node : Node
        The primitive.
    source, shape : tuple of int
        Shapes of its input and its output.
    weight : ndarray or None
        Kernel, matrix or factor; None where there is none.
    stride, pad, dilation, groups
        Of a convolution, as `kernels.conv` takes them.
    """

    node: Node
    source: Ints
    shape: Ints
    weight: Array | None = None
    stride: Ints = ()
    pad: Ints = ()
    dilation: Ints = ()
    groups: int = 1

    @property
    def is_conv(self) -> bool:
        """Whether it slides a kernel (pools do)."""
        return bool(self.stride)

    @property
    def synapses(self) -> int:
        """Synapses as the file has them; pools, scales and reshapes have none of their own."""
        if self.weight is None or self.node.kind in ("SumPool2d", "AvgPool2d", "Scale"):
            return 0
        return prod(self.shape) * prod(self.weight.shape[1:]) if self.is_conv else self.weight.size

    def linear(self, x: Array) -> Array:
        """The node without its bias on a batch (B, *source): (B, *shape)."""
        x = x.reshape(len(x), *self.source)
        if self.weight is None:
            return x.reshape(len(x), *self.shape)
        weight = self.weight.astype(np.float64)
        if self.is_conv:
            return kernels.conv(x, weight, self.stride, self.pad, self.dilation, self.groups)
        if self.node.kind == "Scale":
            return np.asarray(x * weight)
        if self.weight.ndim == 2 and prod(self.source) == weight.shape[1]:
            return (x.reshape(len(x), -1) @ weight.T).reshape(len(x), *self.shape)
        return np.asarray(np.matmul(weight, x[..., None])[..., 0]).reshape(len(x), *self.shape)

    def bias(self) -> Array:
        """The bias in the shape of the output, zeros where there is none."""
        if "bias" not in self.node.fields:
            return np.zeros(self.shape)
        bias = self.node.array("bias").astype(np.float64)
        if self.is_conv:
            bias = bias.reshape(-1, *([1] * (len(self.shape) - 1)))
        try:
            return np.broadcast_to(bias, self.shape)
        except ValueError:
            raise Unfit(
                "E0345", f"a bias of shape {bias.shape} does not fit an output of {self.shape}"
            ) from None


def stage_of(node: Node, source: Ints) -> Stage:
    """Infer the output of a linear node.

    Raises
    ------
    Unfit
        E0343, E0345 when fields and input do not fit together.
    """
    try:
        if node.kind in ("Conv1d", "Conv2d"):
            return _conv(node, source)
        if node.kind in ("SumPool2d", "AvgPool2d"):
            return _pool(node, source)
        if node.kind == "Flatten":
            return Stage(node, source, _flat(node, source))
        if node.kind in ("Affine", "Linear"):
            return _matrix(node, source)
    except VerifyError as error:
        raise Unfit("E0345", str(error)) from None
    if node.kind == "Scale":
        scale = node.array("scale")
        if np.broadcast_shapes(scale.shape, source) != source:
            raise Unfit("E0345", f"a scale of shape {scale.shape} does not fit an input of {source}")
        return Stage(node, source, source, scale)
    return Stage(node, source, source)


def _matrix(node: Node, source: Ints) -> Stage:
    weight = node.array("weight")
    if weight.ndim < 2:
        raise Unfit("E0343", f"weight has {weight.ndim} axes, a matrix has 2")
    if source[-1:] == weight.shape[-1:]:
        try:
            lead = np.broadcast_shapes(weight.shape[:-2], source[:-1])
        except ValueError:
            raise Unfit("E0345", f"weights of shape {weight.shape} do not fit an input of {source}") from None
        return Stage(node, source, (*lead, weight.shape[-2]), weight)
    if weight.ndim == 2 and prod(source) == weight.shape[1]:
        return Stage(node, source, weight.shape[:1], weight)
    raise Unfit("E0345", f"weights of shape {weight.shape} do not fit an input of {source}")


def _conv(node: Node, source: Ints) -> Stage:
    space = 1 if node.kind == "Conv1d" else 2
    weight = node.array("weight")
    if weight.ndim != space + 2:
        raise Unfit("E0343", f"weight has {weight.ndim} axes, a {node.kind} has {space + 2}")
    stride, dilation = node.ints("stride", space), node.ints("dilation", space)
    (groups,) = node.ints("groups", 1)
    pad = _padding(node, weight.shape[2:], stride, dilation)
    shape = kernels.conv_shape(source, weight.shape, stride, pad, dilation, groups)
    return Stage(node, source, shape, weight, stride, pad, dilation, groups)


def _padding(node: Node, kernel: Ints, stride: Ints, dilation: Ints) -> Ints:
    given = node.fields["padding"]
    if isinstance(given, str) and given == "valid":
        return (0,) * (2 * len(kernel))
    if isinstance(given, str):
        if set(stride) != {1}:
            raise Unfit("E0343", f"padding 'same' with stride {stride} has no one meaning", "give numbers")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (*(part // 2 for part in total), *(part - part // 2 for part in total))
    return node.ints("padding", len(kernel)) * 2


def _pool(node: Node, source: Ints) -> Stage:
    if len(source) != 3:
        raise Unfit("E0345", f"a pool takes channels, rows and columns, not a shape of {source}")
    kernel, stride = node.ints("kernel_size", 2), node.ints("stride", 2)
    pad = node.ints("padding", 2) * 2
    if prod(kernel) > 1 << 20:
        raise Unfit("E0343", f"a window of {kernel} is too large")
    value = 1.0 if node.kind == "SumPool2d" else 1.0 / prod(kernel)
    weight = np.full((source[0], 1, *kernel), value, np.float64)
    shape = kernels.conv_shape(source, weight.shape, stride, pad, (1, 1), source[0])
    return Stage(node, source, shape, weight, stride, pad, (1, 1), source[0])


def _flat(node: Node, source: Ints) -> Ints:
    (start,), (end,) = node.ints("start_dim", 1, 0), node.ints("end_dim", 1, -1)
    axes = len(source)
    if "input_type" in node.fields and np.size(node.fields["input_type"]) == axes + 1:
        start, end = max(start - 1, 0), end - 1 if end > 0 else end  # counts the batch axis
    first, last = start + axes if start < 0 else start, end + axes if end < 0 else end
    if axes == 1:
        return source
    if not 0 <= first <= last < axes:
        raise Unfit("E0343", f"axes {start} to {end} of a shape of {source} cannot be flattened")
    return (*source[:first], prod(source[first : last + 1]), *source[last + 1 :])


def compose(first: Stage, second: Stage) -> Stage | None:
    """A pool followed by a convolution as one convolution with a wider kernel, None where that is not exact."""
    a, b = first.weight, second.weight
    if a is None or b is None or first.groups != first.source[0] or a.shape[:2] != (first.groups, 1):
        return None
    space = len(first.stride)
    kernel, pads = [], []
    for axis in range(space):
        k, s, p = a.shape[2 + axis], first.stride[axis], first.pad[axis]
        before, after = second.pad[axis], second.pad[space + axis]
        last = first.shape[1 + axis] * s - p  # where the window behind the last one begins
        if (before and k > s + p) or (after and last < first.source[1 + axis]):
            return None
        kernel.append((b.shape[2 + axis] - 1) * second.dilation[axis] * s + k)
        reach = (first.shape[1 + axis] - 1 + after) * s - p + k  # one past the last element that is seen
        pads.append((before * s + p, reach - first.source[1 + axis]))
    weight = np.zeros((*b.shape[:2], *kernel))
    for place in np.ndindex(*b.shape[2:]):
        corner = [i * d * s for i, d, s in zip(place, second.dilation, first.stride, strict=True)]
        window = tuple(slice(c, c + k) for c, k in zip(corner, a.shape[2:], strict=True))
        weight[(slice(None), slice(None), *window)] += (
            b[(slice(None), slice(None), *place)][(..., *[None] * space)] * a.flat[0]
        )
    stride = tuple(x * y for x, y in zip(first.stride, second.stride, strict=True))
    pad = (*(before for before, _ in pads), *(after for _, after in pads))
    narrow = weight.astype(np.float32)
    kept = narrow if bool((narrow == weight).all()) else weight
    return Stage(second.node, first.source, second.shape, kept, stride, pad, (1,) * space, second.groups)
