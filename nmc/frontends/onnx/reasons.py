"""Why an operator is not supported, and what to do instead."""

from __future__ import annotations

from types import MappingProxyType

from nmc.frontends.onnx.fold import FOLDABLE

_RELU_HINT = "replace it by Relu (or Clip from 0) and fine-tune the network"
_QUANT_HINT = "export the model in QDQ format (QuantizeLinear and DequantizeLinear around float operators)"
_FLOOR_HINT = "write it as scale, add one half, Floor, Clip, scale back; or use Relu or Clip"

_GROUPS: tuple[tuple[str, str, str], ...] = (
    ("ThresholdedRelu Shrink Sign Hardmax Sin Cos Tan",
     "a firing rate cannot stand for this activation function", _RELU_HINT),
    ("DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger QLinearAdd QGemm",
     "arithmetic on integer tensors is not imported", _QUANT_HINT),
    ("Floor Ceil Round",
     "it is no part of a quantised activation (scale, round, clip, scale back, as in QCFS)", _FLOOR_HINT),
    ("LSTM GRU", "its gates multiply activations, which neurons cannot",
     "train a simple recurrent (RNN with relu), a spiking, or a feed-forward network"),
    ("If Loop Scan SequenceMap", "control flow with subgraphs cannot run on neurons",
     "export the model with torch.jit.trace, or unroll and fold it with onnxsim"),
    ("GridSample", "its places depend on the network's input", "end the network before it"),
    ("Pow", "powers of activations are no sums of spikes", _RELU_HINT),
    ("LayerNormalization InstanceNormalization GroupNormalization RMSNormalization LpNormalization "
     "MeanVarianceNormalization",
     "it normalises with statistics of the sample itself, which weights cannot do",
     "train with BatchNormalization, which becomes part of the weights"),
    ("Attention MultiHeadAttention Einsum", "products of activations have no synaptic weights",
     "use convolutions and dense layers"),
    ("ArgMin TopK", "picking the largest output belongs to the readout",
     "end the network at the scores; nmc's readout takes the argmax"),
)  # fmt: skip

_REASONS = MappingProxyType(
    {name: (reason, hint) for names, reason, hint in _GROUPS for name in names.split()}
)


def why_unsupported(op_type: str, domain: str, is_function: bool) -> tuple[str, str]:
    """Explain an operator that cannot be imported.

    Parameters
    ----------
    op_type, domain : str
        The operator; `domain` is empty for ONNX's own.
    is_function : bool
        Whether the model defines it as a local function.

    Returns
    -------
    (reason, hint) : tuple of str
        For the diagnostic.
    """
    if is_function:
        return "it is a function of the model itself", "inline it first: onnx.inliner.inline_local_functions"
    if domain:
        return f"operators of the domain {domain!r} are not imported", "export with ONNX's own operators only"
    found = "on activations it is not imported" if op_type in FOLDABLE else "it is not imported"
    return _REASONS.get(
        op_type, (found, "replace it; docs/reference/supported-ops.md lists what can be imported")
    )
