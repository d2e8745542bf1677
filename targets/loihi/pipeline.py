"""The passes of this target and its default pipeline, as data."""

#: Pass name -> "module:Class".
PASSES = {
    "loihi-legalize": "nmc.targets.loihi.legalize:Legalize",
    "loihi-allocate": "nmc.targets.loihi.allocate:Allocate",
    "loihi-emit": "nmc.targets.loihi.emit:Emit",
}

#: From a trained network to a mapped and allocated one; the driver adds the image (loihi-emit) at the end.
DEFAULT = """
    fold-batchnorm,    // into the convolution or dense layer before it
    fold-affine,
    dead-code,
    calibrate,         // thresholds from sample data
    ann-to-snn,        // one integrate-and-fire population a relu
    neuron-to-if,      // hand-written and imported populations, in the plain form
    retime,            // at least one step from spike to current
    loihi-legalize,    // exact integers from here on
    partition,         // boxes of neurons under every limit of a core
    place,             // which physical core
    loihi-allocate,    // axons, synapse words, formats
"""
