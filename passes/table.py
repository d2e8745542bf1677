"""Names of the built-in passes and of ready-made pipelines; classes are strings until somebody uses them.

Targets have their own table, ``PASSES`` in ``nmc/targets/<target>/pipeline.py`` beside their pipeline
``DEFAULT``; other packages add passes under the entry-point group ``nmc.passes``.
"""

#: Pass name -> "module:Class".
PASSES = {
    "ann-to-snn": "nmc.passes.convert.ann_to_snn:AnnToSnn",
    "calibrate": "nmc.passes.quantize.calibrate:Calibrate",
    "dead-code": "nmc.passes.optimize.dead_code:DeadCode",
    "fold-affine": "nmc.passes.convert.fold_affine:FoldAffine",
    "fold-batchnorm": "nmc.passes.convert.fold_batchnorm:FoldBatchNorm",
    "neuron-to-if": "nmc.passes.convert.neuron_to_if:NeuronToIf",
    "partition": "nmc.passes.map.partition:Partition",
    "place": "nmc.passes.map.place:Place",
    "retime": "nmc.passes.optimize.retime:Retime",
}

#: Alias without the ``@`` -> pipeline text; a target's ``DEFAULT`` is ``@default:<target>``.
ALIASES: dict[str, str] = {
    "fold": "fold-batchnorm, fold-affine, dead-code",
}
