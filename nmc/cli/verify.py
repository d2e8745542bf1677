"""``nmc verify``: interpreter, mapped network and all engines on the same data. Exit code 0: the same, 1: different."""

from __future__ import annotations

import argparse

from nmc.cli.console import Console
from nmc.cli.files import distrusting, open_program, readable
from nmc.cli.tables import table

#: Samples unless the user says how many: the engines that execute machine code take their time.
_LIMIT = 4


def verify_verb(args: argparse.Namespace, console: Console) -> int:
    """Run every stage, print a row for each."""
    program = open_program(args.program)
    from nmc.runtime.samples import read_samples, samples_of
    from nmc.runtime.verify import legal_part, random_samples, verify_program

    steps, limit = args.steps or program.steps, args.limit or _LIMIT
    with distrusting(args.program):
        legal = legal_part(program.module)
    given = read_samples(readable(args.input), args.raw, limit) if args.input else {}
    data = samples_of(legal, given, args.program) if given else random_samples(legal, steps, limit)
    stages = verify_program(program, data, steps, args.engine or ())
    same = not any(stage.differing for stage in stages)
    samples = max((len(item) for item in data.values()), default=1)
    facts = {"equal": same, "samples": samples, "steps": steps, "stages": stages}
    head = ("stage", "spikes", "compared", "differing", "CPU s", "")
    rows = [
        (item.name, None, None, None, None, item.missing) if item.missing else
        (item.name, item.spikes, item.compared or None, item.differing if item.compared else None,
         f"{item.seconds:.2f}", item.where)
        for item in stages
    ]  # fmt: skip
    ran = sum(not item.missing for item in stages)
    verdict = f"{'same' if same else 'different'}: {ran} stages, {samples:,} samples, {steps:,} steps"
    console.result(f"{table(head, rows)}\n\n{verdict}", facts)
    return 0 if same else 1
