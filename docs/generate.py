"""Write ``docs/reference`` from the code: ``python docs/generate.py``, with ``--check`` to compare only.

Ops, passes and targets come from the JSON of ``nmc ops``, ``nmc passes`` and ``nmc targets``, so that the pages say
what the command line says. What plug-ins of this environment add is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REFERENCE = HERE / "reference"
NOTE = "<!-- Written by `python docs/generate.py`; do not edit. -->"
Facts = Mapping[str, Any]

DIALECTS = {
    "ann": "Trained networks (`ann`)",
    "snn": "Spiking networks (`snn`)",
    "map": "Mapping (`map`)",
    "image": "Images of any chip (`image`)",
    "loihi": "Loihi's own arithmetic (`loihi`)",
    "spinnaker2": "SpiNNaker2's own arithmetic (`spinnaker2`)",
    "fpga": "The FPGA core's own arithmetic (`fpga`)",
}


def pages() -> dict[str, str]:
    """Give all pages: text by file name."""
    return {
        "cli.md": cli_page(),
        "ops.md": ops_page(_asked("ops")["ops"]),
        "passes.md": passes_page(_asked("passes")),
        "targets.md": targets_page(),
        "errors.md": errors_page(),
        "supported-ops.md": supported_ops_page(),
        "loihi-image.md": image_page(),
    }


def _asked(*words: str) -> Facts:
    """What ``nmc WORDS --json`` prints."""
    from nmc.cli import main

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = main([*words, "--json"])
    if code:
        raise SystemExit(f"nmc {' '.join(words)} ended with exit code {code}")
    facts: Facts = json.loads(text.getvalue())
    return facts


def cli_page() -> str:
    """All verbs with their options, from the parsers themselves."""
    from nmc.cli.parser import VERBS, build

    parts = [
        "Exit codes: 0 ok (`nmc diff`: the same), 1 an error of the user's (`nmc diff`: different), 2 the network does "
        "not fit the target, 3 an internal error. Every verb takes `--json`, `-q`, `-v` and `--traceback`."
    ]
    for verb in VERBS:
        parts += [f"## nmc {verb.name}", f"{verb.summary[0].upper()}{verb.summary[1:]}."]
        rows = []
        for action in build(verb)._actions:
            if {"--help", "--json", "--quiet", "--verbose", "--traceback"} & set(action.option_strings):
                continue
            shown = ", ".join(action.option_strings) or str(action.metavar or action.dest)
            choices = " or ".join(map(str, action.choices or ()))
            value = (choices or action.metavar or "") if action.option_strings and action.nargs != 0 else ""
            rows.append((f"{shown} {value}".strip(), action.help or ""))
        parts.append(_table(("argument", "meaning"), rows))
    return _page("Command line", parts)


def ops_page(ops: Sequence[Facts]) -> str:
    """All ops by dialect."""
    parts = ["What `nmc ops NAME` prints, for every op. `required` marks an attribute without a default."]
    for dialect, heading in DIALECTS.items():
        parts.append(f"## {heading}")
        for op in ops:
            if op["name"].split(".")[0] == dialect:
                parts += _op_parts(op)
    return _page("Ops", parts)


def _op_parts(op: Facts) -> Iterator[str]:
    yield f"### {op['name']}"
    yield f"Level: {', '.join(op['levels'])}."
    yield from _prose(op["doc"])
    if op["rules"]:
        yield "\n".join(f"- {_inline(rule)}" for rule in op["rules"])
    operands = [(item["name"], item["kind"], "yes" if item["optional"] else "") for item in op["operands"]]
    attributes = [(item["name"], item["type"], item["default"]) for item in op["attributes"]]
    if operands:
        yield _table(("operand", "kind", "optional"), operands)
    if attributes:
        yield _table(("attribute", "type", "default"), attributes)


def passes_page(facts: Facts) -> str:
    """All built-in passes, and the pipelines with a name."""
    own = [
        item for item in facts["passes"] if item["origin"] == "nmc" or item["origin"].startswith("target ")
    ]
    parts = ["What `nmc passes NAME` prints, for every pass of nmc itself and of its targets."]
    for item in own:
        traits = ["optional"] if item["optional"] else []
        traits.append("exact" if item["exact"] else "not exact: it changes results")
        parts += [f"## {item['name']}", f"{item['takes']} → {item['gives']} ({', '.join(traits)})."]
        parts += _prose(item["doc"])
        options = [(option["name"], option["type"], option["default"]) for option in item["options"]]
        parts.append(_table(("option", "type", "default"), options) if options else "No options.")
    parts.append("## Pipelines")
    for name, text in facts["aliases"].items():
        parts += [f"### @{name}", _fence(text.strip("\n"))]
    return _page("Passes", parts)


def targets_page() -> str:
    """Every limit, range, code and event cost of every target, with its source."""
    parts = [
        "What `nmc targets NAME` prints. [Loihi](../loihi.md#sources) tells what the short names in the sources "
        "stand for."
    ]
    for entry in _asked("targets")["targets"]:
        facts = _asked("targets", entry["name"])
        x, y = facts["tiles"]
        parts += [
            f"## {facts['name']}",
            f"{facts['description']}. {facts['cores']:,} cores: {facts['chips']} chip of {x} x {y} tiles with "
            f"{facts['cores_per_tile']} cores each.",
            "### Limits of a core",
        ]
        limits = [(item["name"], f"{item['value']:,}", item["source"]) for item in facts["limits"]]
        parts += [_table(("limit", "value", "source"), limits), "### Registers, codes and the mesh"]
        parts += [_table(("what", "value", "source"), list(_entries(facts["data"]))), "### Cost of events"]
        costs = [
            (name, f"{cost['energy_j']:g}", f"{cost['latency_s']:g}", cost["source"])
            for name, cost in facts["costs"].items()
        ]
        parts.append(_table(("event", "energy, J", "time, s", "source"), costs))
    return _page("Targets", parts)


def _shown(entry: Facts) -> str:
    """A number, a range, or several numbers by name."""
    value = entry.get("value")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if value is not None:
        return str(value)
    if "min" in entry:
        return f"{entry['min']} .. {entry['max']}"
    return ", ".join(f"{name} = {item}" for name, item in entry.items() if name != "source")


def _entries(data: Facts) -> Iterator[tuple[str, str, str]]:
    """Tables of ``target.toml`` besides limits and costs: name, value, source."""
    for group, entries in data.items():
        if group in ("limits", "costs") or not isinstance(entries, Mapping):
            continue
        named = {"": entries} if "source" in entries else entries
        for name, entry in named.items():
            yield f"{group}.{name}".rstrip("."), _shown(entry), str(entry.get("source", ""))


def errors_page() -> str:
    """All error codes, each with a link to its paragraph."""
    from nmc.report.codes import CODES

    rows = [
        (f"[{name}](../errors.md#{_slug(f'{name}: {code.title}')})", code.title)
        for name, code in CODES.items()
    ]
    return _page("Error codes at a glance", [_table(("code", "about"), rows, plain=True)])


def supported_ops_page() -> str:
    """The ONNX operators that can be imported."""
    from nmc.frontends.onnx import supported_ops

    found = supported_ops()
    folded = [name for name, remark in found if remark.startswith("On constants only")]
    rows = [(f"`{name}`", remark) for name, remark in found if name not in folded]
    parts = [
        "Networks of these operators become a module of level `ann`. Not everything that can be imported can be "
        "converted to spikes: `nmc check MODEL` tells, layer by layer.",
        _table(("operator", "what is supported"), rows, plain=True),
        "Between constants these are computed on import: " + ", ".join(f"`{name}`" for name in folded) + ".",
    ]
    return _page("Supported ONNX operators", parts)


def image_page() -> str:
    """Every table of a Loihi core, field by field."""
    from nmc.targets.loihi.layout import TABLES

    parts = [
        "The memories of a core in the order of the file, from `nmc.targets.loihi.layout`. Fields stand in a word from "
        "bit 0 upwards; bits above the last field are 0. [Loihi](../loihi.md#the-image) gives the meaning and the "
        "source of each table."
    ]
    for table in TABLES.values():
        rows, low = [], 0
        for field in table.fields:
            bits = f"{low}" if field.bits == 1 else f"{low}..{low + field.bits - 1}"
            rows.append((field.name, bits, field.bits, f"{field.low:,} .. {field.high:,}"))
            low += field.bits
        parts.append(f"## {table.name}")
        parts.append(f"{table.entries:,} x {table.word_bits} bits, {table.used_bits} of them used.")
        parts.append(_table(("field", "at bits", "width", "range"), rows))
    return _page("Loihi image tables", parts)


def _page(title: str, parts: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", NOTE, *parts]) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], *, plain: bool = False) -> str:
    """A table; the first cell of each row is code, unless `plain`."""
    lines = [_row(head), _row(["---"] * len(head))]
    for first, *rest in rows:
        lines.append(_row([first if plain else f"`{first}`", *rest]))
    return "\n".join(lines)


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _fence(code: str) -> str:
    return f"```text\n{code}\n```"


def _prose(doc: str) -> Iterator[str]:
    """Paragraphs of a docstring as Markdown; program text becomes a block of code."""
    for block in re.split(r"\n\s*\n", doc.strip()):
        lines = block.split("\n")
        if re.match(r"( {4}|%|(before|after):|(ann|snn|map|image|loihi|spinnaker2|fpga)\.[a-z_]+\()", block):
            margin = min(len(line) - len(line.lstrip()) for line in lines)
            yield _fence("\n".join(line[margin:] for line in lines))
        else:
            yield re.sub(r"::$", ":", _inline(block))


def _inline(text: str) -> str:
    """Double backticks become single ones, and what Markdown would take for markup is left as it is."""
    pieces = re.split(r"(``.+?``|`[^`]+`)", text, flags=re.DOTALL)
    return "".join(
        f"`{piece.strip('`')}`" if at % 2 else re.sub(r"([*_<>])", r"\\\1", piece)
        for at, piece in enumerate(pieces)
    )


def _slug(heading: str) -> str:
    """The anchor that GitHub and MyST give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def outdated(folder: Path) -> list[str]:
    """Names of pages in `folder` that differ from what the code says."""
    wanted = pages()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    return sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages, or tell which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 when a page is out of date"
    )
    if parser.parse_args(argv).check:
        old = outdated(REFERENCE)
        for name in old:
            print(f"docs/reference/{name} is out of date; run python docs/generate.py", file=sys.stderr)
        return int(bool(old))
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
