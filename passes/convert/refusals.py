"""Why an op of a trained network cannot become neurons as it is, and which pass makes others of it."""

from __future__ import annotations

from nmc.ir.op import Op
from nmc.ir.ops import ann
from nmc.ir.ops.ann_layers import ConvTranspose, Rnn
from nmc.ir.ops.ann_pointwise import Activation, LeakyRelu, Quantize

#: Ops that are refused wherever they stand, so that they can be told behind another refused op too.
NEVER = (Activation, Quantize, LeakyRelu, ConvTranspose, Rnn, ann.Lrn, ann.Clip)
_UNROLL = "run unroll before the conversion; the default pipelines do"


def refusal(op: Op, otherwise: str) -> tuple[str, str]:
    """Explain the refusal of an op.

    Parameters
    ----------
    op : Op
        Of level ``ann``.
    otherwise : str
        Reason for an op that nothing is known about.

    Returns
    -------
    (reason, hint) : tuple of str
        For the diagnostic.
    """
    if isinstance(op, Activation):
        return (
            f"{op.fn} is no sum of steps",
            "allow straight lines in its place, with a stated error: --approximate (pass approximate); or train with "
            "ReLU, LeakyReLU or Hardtanh",
        )
    if isinstance(op, Quantize):
        return (
            f"counts from {op.low} to {op.high} around zero are no spikes",
            "leave such roundings out, with a stated error: --approximate (pass approximate)",
        )
    if isinstance(op, LeakyRelu | ConvTranspose | Rnn):
        return "it stands for several layers", _UNROLL
    return otherwise, ""
