"""Populations that the program puts on certain cores (``place X on cores(0..3)``)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nmc.ir.diagnostics import Diagnostic, DoesNotFit, NmcError
from nmc.ir.module import Module
from nmc.ir.op import Span
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import Target
from nmc.passes.map.tiling import excesses

_PLACE = re.compile(r"(cores|chips)\((.+)\)")
_RANGE = re.compile(r"(\d{1,9})(?:\.\.(\d{1,9}))?(?:\.0)?")


def places(module: Module, target: Target) -> dict[str, tuple[int, ...]]:
    """Give the cores that each placed population may use, ascending; ``a..b`` ends before b, as all ranges do.

    Parameters
    ----------
    module : Module
        Its attribute ``places`` maps names of populations to texts like ``cores(0..3)`` or ``chips(1)``.
    target : Target
        Says which cores there are.

    Raises
    ------
    NmcError
        E0713 for populations that no core holds, and cores that the target does not have.
    """
    living = {op.out for op in target.demands.populations(module)}
    found: dict[str, tuple[int, ...]] = {}
    problems = []
    for name, text in dict(module.attr("places") or {}).items():
        cores = _cores(str(text), target.cores // target.chips)
        if name not in living:
            problems.append(_problem(f"%{name} cannot be placed on {text}: it does not live on cores", ""))
        elif not cores or cores[-1] >= target.cores:
            hint = f"cores(0..{target.cores}) is all there is; a range ends before its last number"
            problems.append(_problem(f"%{name}: {text} is no set of the {target.cores} cores", hint))
        else:
            found[name] = cores
    if problems:
        raise NmcError(problems)
    return found


def _problem(message: str, hint: str) -> Diagnostic:
    return Diagnostic("E0713", message, hint=hint)


def _cores(text: str, per_chip: int) -> tuple[int, ...]:
    """The cores that a place names; none where it is malformed."""
    outer = _PLACE.fullmatch(text)
    ranges = [_RANGE.fullmatch(item.strip()) for item in outer[2].split(",")] if outer else []
    each = per_chip if outer and outer[1] == "chips" else 1
    cores: set[int] = set()
    for item in ranges:
        if item is None or int(item[1]) * each > 1 << 24:
            return ()
        stop = int(item[2]) if item[2] else int(item[1]) + 1
        cores |= set(range(int(item[1]) * each, min(stop * each, 1 << 24)))
    return tuple(sorted(cores))


def pins(module: Module, target: Target) -> dict[int, int]:
    """Give the site of each logical core that holds a placed population, of a partitioned module.

    Raises
    ------
    DoesNotFit
        E0713 when a place has fewer cores than its populations take.
    """
    allowed = places(module, target)
    wanted: dict[int, tuple[int, ...]] = {}
    for part in module.of_type(Neurons):
        if part.core != HOST and part.of.name in allowed:
            wanted[part.core] = allowed[part.of.name]
    taken: dict[int, int] = {}
    for core in sorted(wanted, key=lambda core: (len(wanted[core]), core)):
        if not _settle(core, wanted, taken):
            raise DoesNotFit(_no_room(module, target, wanted[core], allowed, wanted))
    return {core: site for site, core in sorted(taken.items(), key=lambda item: item[1])}


def _settle(core: int, wanted: Mapping[int, tuple[int, ...]], taken: dict[int, int]) -> bool:
    """Give a core a site, moving others on where needed (augmenting paths, Berge 1957), breadth first."""
    came: dict[int, int] = {}
    queue = [core]
    for here in queue:
        for site in wanted[here]:
            if site in came:
                continue
            came[site] = here
            if site not in taken:
                _shift(site, core, came, taken)
                return True
            queue.append(taken[site])
    return False


def _shift(site: int, core: int, came: Mapping[int, int], taken: dict[int, int]) -> None:
    """Walk back from a free site, everyone taking the site that was found for them."""
    sites = {owner: place for place, owner in taken.items()}
    while True:
        owner = came[site]
        before = sites.get(owner)
        taken[site] = owner
        if owner == core or before is None:
            return
        site = before


def _no_room(
    module: Module,
    target: Target,
    room: tuple[int, ...],
    allowed: Mapping[str, tuple[int, ...]],
    wanted: Mapping[int, tuple[int, ...]],
) -> Diagnostic:
    rivals = sum(1 for cores in wanted.values() if set(cores) & set(room))
    names = [name for name, cores in allowed.items() if set(cores) & set(room)]
    texts = dict(module.attr("places"))
    message = f"{', '.join(f'%{name} on {texts[name]}' for name in names)}: {rivals} cores for places of {len(room)}"
    why = "; ".join(filter(None, (_too_large(module, target, name) for name in names)))
    hint = "give more cores (a range ends before its last number) or leave the place out"
    where = str(module.producers[names[0]].loc or f"%{names[0]}")
    return Diagnostic("E0713", f"{message}; {why}" if why else message, where=where, hint=hint)


def _too_large(module: Module, target: Target, name: str) -> str:
    """What of a population is beyond one core, with the numbers."""
    op = module.producers[name]
    whole = tuple(Span(0, extent) for extent in op.result.shape)
    found = excesses(target.demands.incoming(module, op, whole), target.limits)
    told = [
        f"{item.amount:,} of {item.limit:,} {item.resource.replace('_', ' ')} of a core "
        f"(source: {target.sources.get(item.resource, 'the target file')})"
        for item in found
    ]
    return f"%{name} takes {', '.join(told)}" if told else ""
