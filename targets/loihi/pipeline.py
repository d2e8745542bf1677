"""The passes of this target and its default pipeline, as data."""

#: Pass name -> "module:Class".
PASSES = {
    "loihi-legalize": "nmc.targets.loihi.legalize:Legalize",
    "loihi-allocate": "nmc.targets.loihi.allocate:Allocate",
    "loihi-emit": "nmc.targets.loihi.emit:Emit",
}

_MAP = """
    relay-delays,      // delays of more than 62 steps through populations that pass spikes on
    retime,            // at least one step from spike to current
    join-delays,       // sparse projections that differ only in delay share axons
    loihi-legalize,    // exact integers from here on
    partition,         // boxes of neurons under every limit of a core
    place,             // which physical core
    loihi-allocate,    // axons, synapse words, formats
"""

_SPIKING = (
    """
    neuron-to-if,      // hand-written and imported populations, in the plain form
"""
    + _MAP
)

#: From a trained network to a mapped and allocated one, by mode; the driver adds the image (loihi-emit) at the end.
MODES = {
    # Counts of the chip equal those of the integer network: one threshold of 8 significant bits a population, sums
    # in 16 bits (the membrane holds 17 above the 64s that synapses count in, half of it for the gate that read-outs
    # do without).
    "exact": """
    grids,             // roundings of quantised networks
    unroll,            // leaky relus, cuts and other compound layers
    fold-batchnorm,    // into the convolution or dense layer before it
    split-concat,      // behind what acts on each channel
    fold-affine,
    max-pool,          // behind the relu, where it acts on counts
    lift-maxima,       // a population in front of maxima of anything else
    sum-pool,          // averages are sums and a factor
    fold-affine,
    join-adds,         // a residual sum is one population's
    dead-code,
    calibrate,         // thresholds from sample data
    quantize{uniform=true, theta_digits=8, accumulator=16, readout_accumulator=18, unipolar=true,
             input_levels=16, narrow_inputs=true, fan_in=4092},
    spike-code{code=phased-if, schedule=count},
"""
    + _MAP,
    # Firing rates approximate activations.
    "rate-if": """
    grids,             // roundings of quantised networks
    unroll,            // leaky relus, cuts and other compound layers
    fold-batchnorm,    // into the convolution or dense layer before it
    fold-affine,
    dead-code,
    calibrate,         // thresholds from sample data
    ann-to-snn,        // one integrate-and-fire population a relu
"""
    + _SPIKING,
    # Written as a spiking network.
    "snn": _SPIKING,
}

#: What ``@default:loihi`` names.
DEFAULT = MODES["exact"]
