"""``nmc passes``, ``nmc ops`` and ``nmc targets``: what there is, from docstrings and fields."""

from __future__ import annotations

import argparse
import inspect
import typing
from collections.abc import Iterator
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any

from nmc.cli.console import Console
from nmc.cli.debugging import registry_with, show_pipeline
from nmc.cli.files import check_target
from nmc.cli.tables import table
from nmc.cli.targets import target_names
from nmc.ir.diagnostics import NmcError, fail
from nmc.passes.registry import Registry, did_you_mean, standard_registry

if TYPE_CHECKING:
    from nmc.ir.op import Op
    from nmc.ir.target import Target
    from nmc.passes.base import Pass


def passes_verb(args: argparse.Namespace, console: Console) -> int:
    """List passes and aliases, or describe one."""
    registry = registry_with(args.load_pass)
    if args.name is None:
        return list_passes(registry, console)
    if args.name.startswith("@"):
        return _describe_alias(args.name[1:], registry, console)
    cls = registry.find(args.name)
    facts = _pass_facts(cls)
    text = f"{cls.name}: {facts['takes']} -> {facts['gives']}{_traits(cls)}\n\n{facts['doc']}\n"
    rows = [(item["name"], item["type"], item["default"]) for item in facts["options"]]
    options = table(("option", "type", "default"), rows) if rows else "no options"
    console.result(f"{text}\n{options}", facts)
    return 0


def list_passes(registry: Registry, console: Console) -> int:
    """List all passes with their levels, what is broken, and the pipelines with a name."""
    known, broken = [], list(registry.broken)
    for name in sorted(registry.entries):
        try:
            known.append((registry.find(name), registry.entries[name][0].origin))
        except NmcError as error:
            broken += error.diagnostics
    facts = [{**_pass_facts(cls), "origin": origin} for cls, origin in known]
    rows = [
        (item["name"], f"{item['takes']} -> {item['gives']}", item["origin"], item["summary"])
        for item in facts
    ]
    text = table(("pass", "level", "from", "does"), rows)
    text += "\n\npipelines (nmc passes @NAME prints one):\n" + "\n".join(
        f"  @{name}" for name in registry.aliases
    )
    if broken:
        text += "\n\nbroken:\n" + "\n".join(str(item) for item in broken)
    told = [item.to_json() for item in broken]
    console.result(text, {"passes": facts, "aliases": dict(registry.aliases), "diagnostics": told})
    return 0


def ops_verb(args: argparse.Namespace, console: Console) -> int:
    """List ops by dialect, or describe one."""
    from nmc.ir.optable import dialect_ops, dialects

    tables = {name: dialect_ops(name) for name in dialects()}
    if args.name is None or args.name in tables:
        shown = [cls for name, ops in tables.items() if args.name in (None, name) for cls in ops.values()]
        rows = [(cls.name, ", ".join(cls.belongs), _summary(cls)) for cls in shown]
        console.result(table(("op", "level", "is"), rows), {"ops": [_op_facts(cls) for cls in shown]})
        return 0
    every = {name: cls for ops in tables.values() for name, cls in ops.items()}
    if args.name not in every:
        hint = did_you_mean(args.name, [*every, *tables])
        raise fail("E0006", f"there is no op {args.name[:80]}", hint=hint)
    facts = _op_facts(every[args.name])
    console.result(_op_text(facts), facts)
    return 0


def targets_verb(args: argparse.Namespace, console: Console) -> int:
    """List targets, or every limit of one with its source."""
    from nmc.ir.target import resolve

    if args.name is not None:
        check_target(args.name)
        target = resolve(args.name)
        aliases = standard_registry().aliases
        console.result(_target_text(target, aliases), _target_facts(target, aliases))
        return 0
    rows: list[tuple[object, ...]] = []
    facts = []
    for name in target_names():
        try:
            found = resolve(name)
            rows.append((name, found.cores, found.description))
            facts.append({"name": name, "cores": found.cores, "description": found.description})
        except Exception as error:  # one target's mistake must not hide the others
            rows.append((name, None, f"does not load: {error}"))
    console.result(table(("target", "cores", "is"), rows), {"targets": facts})
    return 0


def _describe_alias(name: str, registry: Registry, console: Console) -> int:
    from nmc.passes.pipeline import parse_pipeline

    registry.alias(name)
    passes = parse_pipeline(f"@{name}", registry)
    console.result(show_pipeline(passes), {"name": f"@{name}", "passes": [str(item) for item in passes]})
    return 0


def _pass_facts(cls: type[Pass]) -> dict[str, Any]:
    from nmc.ir.op import LEVELS
    from nmc.passes.base import default_of, option_fields

    hints = typing.get_type_hints(cls)
    options = [
        {"name": entry.name, "type": _type_name(hints[entry.name]), "default": _default(default_of(entry))}
        for entry in option_fields(cls)
    ]
    takes = "any" if tuple(cls.takes) == LEVELS else ", ".join(cls.takes)
    return {
        "name": cls.name,
        "summary": _summary(cls),
        "takes": takes,
        "gives": cls.gives or ("the same" if takes == "any" else takes),
        "optional": cls.optional,
        "exact": cls.exact,
        "options": options,
        "doc": inspect.getdoc(cls) or "",
    }


def _traits(cls: type[Pass]) -> str:
    traits = [*(["optional"] if cls.optional else []), "exact" if cls.exact else "not exact"]
    return f"  ({', '.join(traits)})"


def _op_facts(cls: type[Op]) -> dict[str, Any]:
    from nmc.ir.op import op_fields

    operands, attributes = [], []
    for spec in op_fields(cls):
        if spec.role == "attr":
            attributes.append(
                {"name": spec.name, "type": _type_name(spec.hint), "default": _default(spec.default)}
            )
        else:
            kind = {"value": "value", "values": "values, any number", "const": "constant"}[spec.role]
            operands.append({"name": spec.name, "kind": kind, "optional": spec.optional})
    return {
        "name": cls.name,
        "summary": _summary(cls),
        "levels": list(cls.belongs),
        "operands": operands,
        "attributes": attributes,
        "rules": list(_rules(cls)),
        "doc": inspect.getdoc(cls) or "",
    }


def _rules(cls: type[Op]) -> Iterator[str]:
    """What the op's result is and what it checks, from the methods that it defines."""
    for method, label in (
        ("infer", "result"),
        ("verify", "checks"),
        ("run", "computes"),
        ("step", "computes"),
    ):
        found = next((base.__dict__[method] for base in cls.__mro__ if method in base.__dict__), None)
        home = getattr(found, "__module__", "nmc.ir.op")
        if found is not None and home != "nmc.ir.op":
            yield f"{label}: {_summary(found)}"


def _op_text(facts: dict[str, Any]) -> str:
    parts = [
        f"{facts['name']}  (level {', '.join(facts['levels'])})",
        facts["doc"],
        "\n".join(facts["rules"]),
    ]
    if facts["operands"]:
        rows = [(item["name"], item["kind"], item["optional"]) for item in facts["operands"]]
        parts.append(table(("operand", "kind", "optional"), rows))
    if facts["attributes"]:
        rows = [(item["name"], item["type"], item["default"]) for item in facts["attributes"]]
        parts.append(table(("attribute", "type", "default"), rows))
    return "\n\n".join(part for part in parts if part)


def _target_facts(target: Target, aliases: typing.Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": target.name,
        "description": target.description,
        "tiles": target.tiles,
        "cores_per_tile": target.cores_per_tile,
        "chips": target.chips,
        "cores": target.cores,
        "limits": [
            {"name": name, "value": limit, "source": target.sources.get(name, "")}
            for name, limit in target.limits.items()
        ],
        "costs": target.costs,
        "data": target.data,
        "pipeline": aliases.get(f"default:{target.name}", ""),
    }


def _target_text(target: Target, aliases: typing.Mapping[str, str]) -> str:
    x, y = target.tiles
    chips = "one chip" if target.chips == 1 else f"{target.chips:,} chips"
    mesh = f"{chips} of {x} x {y} tiles with {target.cores_per_tile} each"
    head = f"{target.name}: {target.description}\n{target.cores:,} cores: {mesh}"
    limits = [(name, limit, target.sources.get(name, "")) for name, limit in target.limits.items()]
    parts = [head, table(("limit of a core", "value", "source"), limits)]
    rest = [(f"{group}.{name}", value, source) for group, name, value, source in _entries(target)]
    if rest:
        parts.append(table(("other", "value", "source"), rest))
    costs = [
        (name, cost.get("energy_j"), cost.get("latency_s"), str(cost.get("source", "")))
        for name, cost in target.costs.items()
    ]
    if costs:
        parts.append(table(("event", "energy, J", "time, s", "source"), costs))
    if f"default:{target.name}" in aliases:
        parts.append(f"pipeline @default:{target.name}: nmc passes @default:{target.name} prints it")
    return "\n\n".join(parts)


def _entries(target: Target) -> Iterator[tuple[str, str, str, str]]:
    """Everything else in ``target.toml`` that names its source: ranges, codes, the mesh."""
    for group, entries in target.data.items():
        if group in ("limits", "costs") or not isinstance(entries, typing.Mapping):
            continue
        named = {"": entries} if "source" in entries else entries
        for name, entry in named.items():
            if isinstance(entry, typing.Mapping) and "source" in entry:
                yield group, name, _value(_shown(entry)), str(entry["source"])


def _shown(entry: typing.Mapping[str, Any]) -> Any:
    """A value, a range, or all that an entry holds."""
    if "value" in entry or "min" in entry:
        return entry.get("value", f"{entry.get('min')}..{entry.get('max')}")
    amounts = {name: value for name, value in entry.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {value:,.0f}" for name, value in amounts.items())


def _value(item: Any) -> str:
    if isinstance(item, typing.Mapping):
        return ", ".join(f"{key}={value}" for key, value in item.items())
    return ", ".join(map(str, item)) if isinstance(item, list | tuple) else str(item)


def _summary(item: object) -> str:
    """First sentence (or line) of a docstring."""
    paragraph = (inspect.getdoc(item) or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("nmc.ir.op.", "")


def _default(item: Any) -> str:
    from nmc.ir.text.printer import print_item

    return "required" if item is MISSING else print_item(item)
