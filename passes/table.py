"""Names of the built-in passes and of ready-made pipelines; classes are strings until somebody uses them.

Targets have their own table, ``PASSES`` in ``nmc/targets/<target>/pipeline.py`` beside their pipeline
``DEFAULT``; other packages add passes under the entry-point group ``nmc.passes``.
"""

#: Pass name -> "module:Class".
PASSES = {
    "ann-to-snn": "nmc.passes.convert.ann_to_snn:AnnToSnn",
    "approximate": "nmc.passes.convert.approximate:Approximate",
    "calibrate": "nmc.passes.quantize.calibrate:Calibrate",
    "dead-code": "nmc.passes.optimize.dead_code:DeadCode",
    "delta-stream": "nmc.passes.convert.delta_stream:DeltaStream",
    "fold-affine": "nmc.passes.convert.fold_affine:FoldAffine",
    "fold-batchnorm": "nmc.passes.convert.fold_batchnorm:FoldBatchNorm",
    "freeze-plasticity": "nmc.passes.optimize.freeze_plasticity:FreezePlasticity",
    "grids": "nmc.passes.convert.grids:Grids",
    "join-adds": "nmc.passes.convert.join_adds:JoinAdds",
    "join-delays": "nmc.passes.optimize.join_delays:JoinDelays",
    "lift-maxima": "nmc.passes.convert.lift_maxima:LiftMaxima",
    "max-pool": "nmc.passes.convert.max_pool:MaxPool",
    "neuron-to-if": "nmc.passes.convert.neuron_to_if:NeuronToIf",
    "partition": "nmc.passes.map.partition:Partition",
    "place": "nmc.passes.map.place:Place",
    "quantize": "nmc.passes.quantize.quantize:Quantize",
    "readout": "nmc.passes.convert.readout:Readout",
    "relay-delays": "nmc.passes.optimize.relay_delays:RelayDelays",
    "retime": "nmc.passes.optimize.retime:Retime",
    "spike-code": "nmc.passes.convert.spike_code:SpikeCode",
    "split-concat": "nmc.passes.convert.split_concat:SplitConcat",
    "sum-pool": "nmc.passes.convert.sum_pool:SumPool",
    "unroll": "nmc.passes.convert.unroll:Unroll",
}

#: Alias without the ``@`` -> pipeline text; a target's ``DEFAULT`` is ``@default:<target>``.
ALIASES: dict[str, str] = {
    "fold": "fold-batchnorm, fold-affine, dead-code",
    "prepare": (
        "grids, unroll, fold-batchnorm, split-concat, fold-affine, max-pool, lift-maxima, sum-pool, fold-affine, "
        "join-adds, dead-code"
    ),
}
