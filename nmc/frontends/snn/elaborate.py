"""Statements one by one: names are bound, populations and projections made; a wrong statement costs only itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.arrays import inside, read_arrays
from nmc.frontends.snn.calls import Arguments, Bound, Param, bind, require_all
from nmc.frontends.snn.connect import (
    CONNECTOR_ALIASES,
    CONNECTOR_ARGUMENT_ALIASES,
    CONNECTORS,
    bias_of,
    connect,
)  # fmt: skip
from nmc.frontends.snn.evaluate import Evaluator, truth, whole
from nmc.frontends.snn.learning import learn
from nmc.frontends.snn.models import MODEL_ALIASES, MODELS, PARAM_ALIASES, Header, realise
from nmc.frontends.snn.network import Network, loc_of, relay, result_of
from nmc.frontends.snn.parse import parse
from nmc.frontends.snn.problems import Fault, Problems, Silent, did_you_mean
from nmc.frontends.snn.statements import (
    DECODERS,
    HEADER,
    INPUTS,
    RULES,
    hint_text,
    make_header,
    make_input,
    overridden,
)
from nmc.frontends.snn.synapses import Job, Limits
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.user import define, realise_user
from nmc.frontends.snn.values import (
    Instance,
    Model,
    ModuleDef,
    Poison,
    Population,
    Quantity,
    Scope,
    SynapseRule,
    View,
    WeightsFile,
    kind_name,
)  # fmt: skip
from nmc.ir.ops import snn

_MAX_INSTANCES = 30
_MAX_IMPORTS = 20
_MAX_SOURCE = 4 << 20
_DEFINITIONS = (
    ast.Let, ast.Neuron, ast.UserNeuron, ast.Synapse, ast.Module, ast.Weights, ast.Import, ast.Broken,
)  # fmt: skip


class Elaborator:
    """Executes a program.

    Parameters
    ----------
    problems : Problems
        Collects everything that is wrong.
    params : mapping of str to value
        Overrides of ``param`` statements, as evaluated values.
    folder : Path or None
        Where the program's other files may be.
    limits : Limits
        Bounds of the network's size.
    """

    def __init__(
        self, problems: Problems, params: Mapping[str, Any], folder: Path | None, limits: Limits
    ) -> None:
        self._problems, self._params, self._folder, self._limits = problems, params, folder, limits
        self._eval = Evaluator()
        self._used: set[str] = set()
        self._count = 0
        self._imports: list[Path] = []
        self.root = Scope()
        self.network = Network(Header("network", 1e-3))

    def program(self, statements: Sequence[ast.Statement], file: str) -> None:
        """Execute a whole program."""
        self._find_header(statements, file)
        try:
            self.block(statements, self.root)
        except _Stop:
            return
        for name in self._params:
            if name not in self._used:
                near = did_you_mean(name, self._used)
                self._problems.add(
                    Fault("E0378", Pos(0, 0, 1, file), f"there is no param {name} to set", near)
                )

    def block(self, statements: Sequence[ast.Statement], scope: Scope) -> None:
        """Execute statements in order."""
        for statement in statements:
            self._count += 1
            if self._count > self._limits.statements:
                message = f"more than {self._limits.statements:,} statements are executed"
                self._problems.add(Fault("E0379", statement.pos, message, "use larger populations"))
                raise _Stop
            try:
                getattr(self, f"_{type(statement).__name__.lower()}")(statement, scope)
            except Fault as fault:
                self._problems.add(fault)
                self._poison(statement, scope)
            except Silent:
                self._poison(statement, scope)

    def _poison(self, statement: ast.Statement, scope: Scope) -> None:
        name = getattr(statement, "name", "")
        try:
            text = self._eval.name(name, scope) if isinstance(name, ast.Name) else name
        except (Fault, Silent):
            return
        if text and text not in scope.names and not isinstance(statement, ast.For):
            scope.names[text] = Poison()

    def _find_header(self, statements: Sequence[ast.Statement], file: str) -> None:
        found = [item for item in statements if isinstance(item, ast.Network)]
        if not found:
            broken = any(isinstance(item, ast.Broken) for item in statements[:1])
            if not broken:
                hint = "begin with network name(dt = 1 ms)"
                self._problems.add(
                    Fault("E0365", Pos(1, 1, 1, file), "the program has no network line", hint)
                )
            return
        for extra in found[1:]:
            self._problems.add(Fault("E0365", extra.pos, "a program has one network line"))
        try:
            bound = bind(self._eval, self.root, found[0].arguments, HEADER, "network")
            self.network.header = make_header(found[0], bound)
        except Fault as fault:
            self._problems.add(fault)
        except Silent:
            pass

    def _define(self, name: str, value: Any, scope: Scope, pos: Pos) -> None:
        have = scope.names.get(name)
        if have is not None and not isinstance(have, Poison):
            raise Fault("E0367", pos, f"{name} is defined twice", "give it another name")
        scope.names[name] = value

    # ---- definitions

    def _network(self, node: ast.Network, scope: Scope) -> None:
        if scope is not self.root:
            raise Fault("E0365", node.pos, "the network line stands at the top of the program")

    def _broken(self, node: ast.Broken, scope: Scope) -> None:
        raise Silent

    def _userneuron(self, node: ast.UserNeuron, scope: Scope) -> None:
        name = self._eval.name(node.name, scope)
        made = define(name, node, self._eval, scope, self.network.header)
        self._define(name, Model(f"model {name}", {}, made), scope, node.pos)

    def _import(self, node: ast.Import, scope: Scope) -> None:
        pos = node.path.pos
        path = inside(self._folder, node.path.value, pos)
        if path in self._imports:
            return
        if path.suffix != ".snn" or path.stat().st_size > _MAX_SOURCE or len(self._imports) >= _MAX_IMPORTS:
            hint = f"at most {_MAX_IMPORTS} files of at most {_MAX_SOURCE:,} bytes"
            raise Fault("E0385", pos, "import takes .snn files", hint)
        self._imports.append(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise Fault("E0385", pos, f"{path.name} is not readable UTF-8 text") from None
        statements = parse(text, node.path.value, self._problems)
        for item in statements:
            if not isinstance(item, _DEFINITIONS):
                message = (
                    "an imported file holds only let, param, neuron, synapse, weights, module and import"
                )
                self._problems.add(Fault("E0385", item.pos, message))
        self.block([item for item in statements if isinstance(item, _DEFINITIONS)], scope)

    def _weights(self, node: ast.Weights, scope: Scope) -> None:
        found = read_arrays(inside(self._folder, node.path.value, node.path.pos), node.path.pos)
        value = WeightsFile(node.path.value, found) if isinstance(found, dict) else Quantity(found)
        self._define(node.name, value, scope, node.pos)

    def _let(self, node: ast.Let, scope: Scope) -> None:
        name = self._eval.name(node.name, scope)
        value = self._eval.value(node.value, scope)
        if node.is_param:
            if scope is not self.root:
                raise Fault("E0378", node.pos, "params stand at the top of the program", "use let here")
            self._used.add(name)
            if name in self._params:
                value = overridden(name, value, self._params[name], node)
        self._define(name, value, scope, node.pos)

    def _neuron(self, node: ast.Neuron, scope: Scope) -> None:
        self._define(self._eval.name(node.name, scope), self._model(node.value, scope), scope, node.pos)

    def _synapse(self, node: ast.Synapse, scope: Scope) -> None:
        call = node.value
        name = call.func.text if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
        if not isinstance(call, ast.Call) or name not in RULES:
            raise Fault("E0371", node.value.pos, f"{name or 'this'} is no synapse", did_you_mean(name, RULES))
        bound = bind(self._eval, scope, call.arguments, RULES[name], name)
        require_all(bound, RULES[name], call.pos, name)
        self._define(self._eval.name(node.name, scope), SynapseRule(name, node.pos, bound), scope, node.pos)

    def _model(self, node: ast.Expr, scope: Scope) -> Model:
        """Give the model that an expression names, with the arguments it changes."""
        func = node.func if isinstance(node, ast.Call) else node
        arguments = node.arguments if isinstance(node, ast.Call) else ()
        if not isinstance(func, ast.Name):
            raise Fault(
                "E0369", node.pos, "a neuron model is needed here", f"such as {next(iter(MODELS))}(...)"
            )
        name = self._eval.name(func, scope)
        base = scope.find(name)
        if isinstance(base, Poison):
            raise Silent
        if base is None and name in MODELS:
            base = Model(name, {})
        if not isinstance(base, Model):
            known = [item for item in scope.known() if isinstance(scope.find(item), Model)]
            near = did_you_mean(name, [*MODELS, *known], MODEL_ALIASES)
            raise Fault("E0371", func.pos, f"{name} is no neuron model", near)
        params, aliases = (base.user.params, {}) if base.user else (MODELS[base.kind], PARAM_ALIASES)
        bound = bind(self._eval, scope, arguments, params, base.kind, aliases)
        changed = {key: (item.value, item.pos) for key, item in bound.items()}
        return Model(base.kind, base.arguments | changed, base.user)

    def _module(self, node: ast.Module, scope: Scope) -> None:
        for parameter in node.parameters:
            if not parameter.name and not isinstance(parameter.value, ast.Name):
                raise Fault("E0372", parameter.pos, "a parameter is a name, or name = default")
        self._define(node.name, ModuleDef(node, scope), scope, node.pos)

    # ---- control

    def _assert(self, node: ast.Assert, scope: Scope) -> None:
        if not truth(self._eval.value(node.condition, scope), node.condition.pos):
            raise Fault(
                "E0382", node.condition.pos, f"assertion failed: {node.message or 'it does not hold'}"
            )

    def _if(self, node: ast.If, scope: Scope) -> None:
        chosen = truth(self._eval.value(node.condition, scope), node.condition.pos)
        self.block(node.body if chosen else node.other, scope)

    def _for(self, node: ast.For, scope: Scope) -> None:
        values = self._eval.value(node.values, scope)
        if not isinstance(values, range | list):
            hint = "such as for i in 0..4 { ... } or for p in [a, b] { ... }"
            raise Fault(
                "E0369", node.values.pos, f"for goes over a range or a list, not {kind_name(values)}", hint
            )
        left = self._limits.statements - self._count
        if isinstance(values, range) and values.stop - values.start > left:
            turns = f"{values.stop - values.start:,} turns, more than the {left:,} statements that are left"
            raise Fault("E0379", node.values.pos, turns, "use larger populations")
        for item in values:
            self._count += 1
            old = scope.names.get(node.name)
            scope.names[node.name] = Quantity(item) if isinstance(item, int) else item
            try:
                self.block(node.body, scope)
            finally:
                scope.names.pop(node.name, None)
                if old is not None:
                    scope.names[node.name] = old
            if self._count > self._limits.statements:
                self.block(node.body or (ast.Broken(node.pos, ""),), scope)

    # ---- populations

    def _shape(self, items: Sequence[ast.Expr], scope: Scope, pos: Pos) -> tuple[int, ...]:
        if not 1 <= len(items) <= 8:
            raise Fault("E0373", pos, "a shape has 1 to 8 extents", "such as [128] or [2, 34, 34]")
        shape = tuple(whole(self._eval.value(item, scope), item.pos, "an extent", 1) for item in items)
        total = prod(shape) + self.network.neurons
        if prod(shape) > self._limits.neurons or total > self._limits.neurons:
            raise Fault("E0379", pos, f"{total:,} neurons, of at most {self._limits.neurons:,}")
        return shape

    def _new(self, name: ast.Name, shape: tuple[int, ...], kind: str, pos: Pos, scope: Scope) -> Population:
        text = self._eval.name(name, scope)
        is_input = kind in INPUTS
        pop = Population(scope.prefix + text, shape, pos, len(self.network.pops), is_input, kind)
        return pop

    def _enter(self, name: ast.Name, pop: Population, scope: Scope) -> None:
        self._define(self._eval.name(name, scope), View.of(pop), scope, name.pos)
        if pop.name in self.network.pops:
            raise Fault("E0367", name.pos, f"{pop.name} is defined twice")
        self.network.pops[pop.name] = pop
        self.network.neurons += pop.size

    def _hint(self, name: str, hints: Sequence[ast.Hint], scope: Scope) -> None:
        shown = [hint_text(hint, self._eval, scope) for hint in hints]
        if shown:
            old = self.network.hints.get(name)
            self.network.hints[name] = "; ".join([*([old] if old else []), *shown])

    def _input(self, node: ast.Input, scope: Scope) -> None:
        call = node.value
        func = call.func if isinstance(call, ast.Call) else call
        kind = func.text if isinstance(func, ast.Name) else ""
        if kind not in INPUTS:
            raise Fault("E0371", call.pos, f"{kind or 'this'} is no input", did_you_mean(kind, INPUTS))
        arguments = call.arguments if isinstance(call, ast.Call) else ()
        bound = bind(self._eval, scope, arguments, INPUTS[kind], kind)
        require_all(bound, INPUTS[kind], call.pos, kind)
        pop = self._new(node.name, self._shape(node.shape, scope, node.pos), kind, node.pos, scope)
        op = make_input(pop, bound, self.network.header)
        pop.out = op.result
        self._enter(node.name, pop, scope)
        if "file" in bound:
            self.network.data[pop.name] = bound["file"].value
        self.network.sources.append((pop, [op]))
        self._hint(pop.name, node.hints, scope)

    def _pop(self, node: ast.Pop, scope: Scope) -> None:
        call = node.value
        func = call.func if isinstance(call, ast.Call) else call
        if isinstance(func, ast.Name) and isinstance(scope.find(func.text), ModuleDef):
            self._instance(node, scope.find(func.text), scope)
            return
        model = self._model(node.value, scope)
        shape = self._shape(node.shape, scope, node.pos)
        pop = self._new(node.name, shape, model.kind, node.pos, scope)
        given = {key: Bound(*item) for key, item in model.arguments.items()}
        if model.user is not None:
            realise_user(pop, model.user, given, self._eval, self.network.header)
        else:
            require_all(given, MODELS[model.kind], node.value.pos, model.kind)
            realise(pop, model.kind, given, self.network.header)
        self._enter(node.name, pop, scope)
        self._hint(pop.name, node.hints, scope)

    def _instance(self, node: ast.Pop, definition: ModuleDef, scope: Scope) -> None:
        if node.shape:
            raise Fault(
                "E0372", node.pos, "an instance of a module has no shape", "give its sizes as arguments"
            )
        name = self._eval.name(node.name, scope)
        inner = Scope({}, definition.scope, f"{scope.prefix}{name}.", scope.depth + 1)
        if inner.depth > _MAX_INSTANCES:
            raise Fault("E0379", node.pos, f"modules inside each other, more than {_MAX_INSTANCES} deep")
        params = [
            Param(item.name or getattr(item.value, "text", ""), kind="any")
            for item in definition.node.parameters
        ]
        defaults = {item.name: item.value for item in definition.node.parameters if item.name}
        arguments = node.value.arguments if isinstance(node.value, ast.Call) else ()
        bound = bind(self._eval, scope, arguments, params, definition.node.name)
        missing = [item.name for item in params if item.name not in bound and item.name not in defaults]
        if missing:
            raise Fault("E0372", node.value.pos, f"{definition.node.name} lacks {', '.join(missing)}")
        for param in params:
            given = bound.get(param.name)
            value = given.value if given else self._eval.value(defaults[param.name], inner)
            inner.names[param.name] = value
        self._define(name, Instance(name, inner), scope, node.pos)
        self.block(definition.node.body, inner)
        self._hint(scope.prefix + name, node.hints, scope)

    # ---- projections

    def _view(self, node: ast.Expr, scope: Scope) -> View:
        found = self._eval.value(node, scope)
        if not isinstance(found, View):
            raise Fault("E0369", node.pos, f"a population is needed here, not {kind_name(found)}")
        return found

    def _project(self, node: ast.Project, scope: Scope) -> None:
        source, target = self._view(node.source, scope), self._view(node.target, scope)
        if target.pop.is_input:
            raise Fault("E0369", node.target.pos, f"{target.pop.name} is an input and takes no projection")
        kind, given = self._connector(node.value, scope)
        rule = SynapseRule("static", node.pos) if node.synapse is None else self._rule(node.synapse, scope)
        network = self.network
        network.projections += 1
        short = f"{target.pop.name}/{source.pop.name}"
        repeat = target.pop.counts[short] = target.pop.counts.get(short, 0) + 1
        plain = source.pop.kind == "constant" and (kind, rule.kind) == ("one_to_one", "static") and not given
        if plain and source.whole and target.whole and source.shape == target.shape:
            target.pop.currents.append(source.pop.out)
        else:
            spikes = relay(source.pop, network) if source.pop.kind == "constant" else result_of(source.pop)
            name = short if repeat == 1 else f"{short}.{repeat}"
            job = Job(
                source, target, spikes, given, network.projections, name, node.pos, loc_of(node.pos),
                network.header, self._limits,
            )  # fmt: skip
            made = learn(rule, connect(kind, job), job)
            if "bias" in given:
                target.pop.biases.append(bias_of(job, given["bias"], kind))
            target.pop.currents += made
        self._hint(f"{source.pop.name} -> {target.pop.name}", node.hints, scope)

    def _connector(self, node: ast.Expr, scope: Scope) -> tuple[str, Arguments]:
        func = node.func if isinstance(node, ast.Call) else node
        kind = func.text if isinstance(func, ast.Name) else ""
        if kind not in CONNECTORS:
            near = did_you_mean(kind, CONNECTORS, CONNECTOR_ALIASES)
            raise Fault("E0371", node.pos, f"{kind or 'this'} is no connector", near)
        arguments = node.arguments if isinstance(node, ast.Call) else ()
        given = bind(self._eval, scope, arguments, CONNECTORS[kind], kind, CONNECTOR_ARGUMENT_ALIASES)
        require_all(given, CONNECTORS[kind], node.pos, kind)
        path = given.get("path")
        if path is not None and isinstance(path.value, str):
            found = read_arrays(inside(self._folder, path.value, path.pos), path.pos)
            if isinstance(found, dict):
                raise Fault("E0374", path.pos, "this file holds several arrays", "use from_list(W.array)")
            given["path"] = Bound(found, path.pos)
        return kind, given

    def _rule(self, name: ast.Name, scope: Scope) -> SynapseRule:
        found = self._eval.value(name, scope)
        if not isinstance(found, SynapseRule):
            raise Fault("E0369", name.pos, f"a synapse is needed here, not {kind_name(found)}")
        return found

    # ---- what is read out, and advice

    def _probe(self, node: ast.Probe, scope: Scope) -> None:
        every = 1
        if node.every is not None:
            period = Param("every", ((1, 0, 0), (0, 0, 1)), positive=True)
            argument = ast.Argument(node.every.pos, "every", node.every)
            bound = bind(self._eval, scope, (argument,), (period,), "probe")["every"]
            every = self.network.header.in_steps(bound.value, bound.pos, "every")
            if every < 1:
                raise Fault("E0373", bound.pos, "every is less than a time step")
        for item in node.items:
            self._one_probe(item, every, scope)

    def _one_probe(self, item: ast.Expr, every: int, scope: Scope) -> None:
        node = item.base if isinstance(item, ast.Index) else item
        if not isinstance(node, ast.Attribute):
            raise Fault(
                "E0384", item.pos, "a probe names a population and what to record", "such as hidden.spikes"
            )
        view = self._view(node.base, scope)
        if node.name not in view.pop.states:
            near = did_you_mean(
                node.name, view.pop.states, {"voltage": "v", "membrane": "v", "spike": "spikes"}
            )
            raise Fault("E0384", item.pos, f"{view.pop.name} has no {node.name} to record", near)
        if isinstance(item, ast.Index):
            view = self._eval.boxed(view, item, scope)
        box = None if view.whole else ", ".join(f"{start}:{stop}" for start, stop in view.box)
        entry = {"every": every, **({"box": box} if box else {})}
        self.network.probes[f"{view.pop.name}.{node.name}"] = entry

    def _output(self, node: ast.Output, scope: Scope) -> None:
        view = self._view(node.source, scope)
        call = node.value
        func = call.func if isinstance(call, ast.Call) else call
        kind = func.text if isinstance(func, ast.Name) else ""
        if kind not in DECODERS:
            raise Fault("E0371", call.pos, f"{kind or 'this'} is no decoder", did_you_mean(kind, DECODERS))
        if isinstance(call, ast.Call) and call.arguments:
            raise Fault("E0372", call.pos, f"{kind} takes no arguments")
        if not view.whole or view.pop.is_input:
            raise Fault("E0384", node.source.pos, "an output is a whole population")
        if view.pop.name in self.network.decoders:
            raise Fault("E0384", node.pos, f"{view.pop.name} has an output already")
        self.network.decoders[view.pop.name] = kind
        op = snn.Output(data=result_of(view.pop), decoder=DECODERS[kind], loc=loc_of(node.pos))
        self.network.outputs.append(op)

    def _place(self, node: ast.Place, scope: Scope) -> None:
        placed = [pop for item in node.items for pop in self._placed(item, scope)]
        call = node.value
        name = call.func.text if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
        if not isinstance(call, ast.Call) or name not in ("cores", "chips"):
            raise Fault("E0386", call.pos, "a place is cores(...) or chips(...)", "such as cores(0..3)")
        shown = hint_text(ast.Hint(call.pos, name, call.arguments), self._eval, scope)
        self.network.places |= dict.fromkeys((pop.name for pop in placed), shown)

    def _placed(self, item: ast.Expr, scope: Scope) -> list[Population]:
        """The populations that one name in ``place`` means: itself, or all of an instance of a module."""
        found = self._eval.value(item, scope)
        if isinstance(found, Instance):
            inner = f"{found.scope.prefix}"
            return [
                pop for pop in self.network.pops.values() if pop.name.startswith(inner) and not pop.is_input
            ]
        view = self._view(item, scope)
        if not view.whole:
            raise Fault(
                "E0386",
                item.pos,
                f"only the whole of {view.pop.name} can be placed",
                "make two populations of it",
            )
        return [view.pop]


class _Stop(Exception):
    """The program is too large to go on."""
