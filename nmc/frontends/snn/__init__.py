"""Reading ``.snn``, the language of hand-written spiking networks.

`load_snn` makes an ``snn`` module of a file, `read_snn` of a text; `format_text` is ``nmc fmt``.
"""

from nmc.frontends.snn.format import format_text
from nmc.frontends.snn.load import load_snn, read_snn

__all__ = ["format_text", "load_snn", "read_snn"]
