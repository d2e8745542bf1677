"""The passes of this target and its default pipelines, as data."""

#: Pass name -> "module:Class".
PASSES = {
    "fpga-drive": "nmc.targets.fpga.drive:Drive",
    "fpga-pools": "nmc.targets.fpga.pools:Pools",
    "fpga-biases": "nmc.targets.fpga.biases:Biases",
    "fpga-legalize": "nmc.targets.fpga.legalize:Legalize",
    "fpga-partition": "nmc.targets.fpga.fit:Fit",
    "fpga-emit": "nmc.targets.fpga.emit:Emit",
}

_MAP = """
    retime{max_delay=1000},      // at least one step from spike to current; the host's events act at once
    relay-delays{max_delay=64},  // as many slots as the time wheel has at most
    fpga-legalize,               // whole weights, 12-bit leaks, proofs
    fpga-partition,              // boxes of neurons, the shape of the core
"""

_SPIKING = (
    """
    fpga-drive,                  // constant currents as events of the host
"""
    + _MAP
)

#: From a trained network to a mapped one, by mode; the driver adds the image (fpga-emit) at the end.
MODES = {
    # Counts of the chip equal those of the integer network.
    "exact": """
    @prepare,                    // batch norms and affine layers folded, poolings and sums put where they cost nothing
    calibrate,                   // thresholds from sample data
    quantize,                    // integers from here on
    fpga-pools,                  // maxima of counts as populations
    spike-code,                  // signed spikes with a counter
    fpga-biases,                 // those that enter over several steps, as events of the host
"""
    + _MAP,
    # Firing rates approximate activations.
    "rate-if": """
    grids,                       // roundings of quantised networks
    unroll,
    fold-batchnorm,
    fold-affine,
    dead-code,
    calibrate,                   // thresholds from sample data
    ann-to-snn,                  // one integrate-and-fire population a relu
"""
    + _SPIKING,
    # Written as a spiking network.
    "snn": _SPIKING,
}

#: What ``@default:fpga`` names.
DEFAULT = MODES["exact"]
