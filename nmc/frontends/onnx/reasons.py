"""Why an operator is not supported, and what to do instead."""

from __future__ import annotations

from types import MappingProxyType

from nmc.frontends.onnx.fold import FOLDABLE

_RELU_HINT = "replace it by Relu (or Clip from 0) and fine-tune the network"
_QUANT_HINT = "import the float model; the compiler quantises the weights itself"
_FLOOR_HINT = "export the network with Relu or Clip in place of the quantised activation"

_GROUPS: tuple[tuple[str, str, str], ...] = (
    ("Sigmoid Tanh Elu Selu Celu Gelu Softplus Softsign HardSigmoid HardSwish Swish Mish Erf LeakyRelu PRelu "
     "ThresholdedRelu Shrink",
     "a firing rate cannot stand for this activation function", _RELU_HINT),
    ("QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger "
     "MatMulInteger QLinearAdd QGemm",
     "quantised models are not imported", _QUANT_HINT),
    ("Floor Ceil Round",
     "rounding of activations (quantised activations such as QCFS) is not imported", _FLOOR_HINT),
    ("LSTM GRU RNN", "recurrent cells are not imported", "train a spiking or a feed-forward network"),
    ("If Loop Scan SequenceMap", "control flow with subgraphs cannot run on neurons",
     "export the model with torch.jit.trace, or unroll and fold it with onnxsim"),
    ("Resize Upsample ConvTranspose DepthToSpace SpaceToDepth GridSample", "upsampling is not imported",
     "end the network before it"),
    ("LayerNormalization InstanceNormalization GroupNormalization RMSNormalization LpNormalization "
     "MeanVarianceNormalization",
     "it normalises with statistics of the sample itself, which weights cannot do",
     "train with BatchNormalization, which becomes part of the weights"),
    ("Attention MultiHeadAttention Einsum", "products of activations have no synaptic weights",
     "use convolutions and dense layers"),
    ("ArgMax ArgMin TopK", "picking the largest output belongs to the readout",
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
