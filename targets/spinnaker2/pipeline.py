"""The passes of this target and its default pipelines, as data."""

#: Pass name -> "module:Class".
PASSES = {
    "spinnaker2-drive": "nmc.targets.spinnaker2.drive:Drive",
    "spinnaker2-pools": "nmc.targets.spinnaker2.pools:Pools",
    "spinnaker2-relays": "nmc.targets.spinnaker2.relays:Relays",
    "spinnaker2-legalize": "nmc.targets.spinnaker2.legalize:Legalize",
    "spinnaker2-partition": "nmc.targets.spinnaker2.fit:Fit",
    "spinnaker2-place": "nmc.targets.spinnaker2.placing:QuadPlace",
    "spinnaker2-emit": "nmc.targets.spinnaker2.emit:Emit",
}

_MAP = """
    spinnaker2-drive,         // constant currents as packets of the host
    spinnaker2-pools,         // maxima of counts as populations
    retime{max_delay=1000, input_delay=1}, // at least one step from spike to current
    spinnaker2-relays,        // delays of more than 8 steps through populations that pass events on
    spinnaker2-legalize,      // row formats, scales, models
    spinnaker2-partition,     // boxes of neurons, one a PE
    spinnaker2-place,         // which PE
"""

#: From a trained network to a mapped one, by mode; the driver adds the image (spinnaker2-emit) at the end.
MODES = {
    # The chip computes the integer network: 32-bit membranes, a threshold a neuron, signed spikes.
    "exact": """
    @prepare,                 // batch norms and affine layers folded, poolings and sums put where they cost nothing
    calibrate,                // thresholds from sample data
    quantize,                 // integers from here on
    spike-code,               // signed spikes with a counter
"""
    + _MAP,
    # Firing rates approximate activations, in single precision.
    "rate-if": """
    grids,                    // roundings of quantised networks
    unroll,                   // leaky relus, cuts and other compound layers
    fold-batchnorm,           // into the convolution or dense layer before it
    fold-affine,
    dead-code,
    calibrate,                // thresholds from sample data
    ann-to-snn,               // one integrate-and-fire population a relu
"""
    + _MAP,
    # Written as a spiking network.
    "snn": _MAP,
}

#: What ``@default:spinnaker2`` names.
DEFAULT = MODES["exact"]
