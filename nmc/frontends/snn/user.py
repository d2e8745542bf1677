"""Neuron models of one's own: what ``neuron name = model { ... }`` defines, and the ``snn.user`` of a population."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any

import numpy as np

from nmc.frontends.snn import draw
from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.calls import Arguments, Bound, Param, bind, require_all
from nmc.frontends.snn.evaluate import Evaluator
from nmc.frontends.snn.instructions import Writer
from nmc.frontends.snn.models import Header
from nmc.frontends.snn.problems import Fault, did_you_mean
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.values import (
    PLAIN,
    TIME,
    Array,
    Dim,
    Population,
    Quantity,
    Random,
    Scope,
    Symbol,
    UserModel,
    dim_name,
    kind_name,
)  # fmt: skip
from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.ops.expressions import Code
from nmc.ir.ops.user import AFTER, CURRENT, FIRE, MAX_NAMES, NEXT

_FIXED = (
    Param("int_bits", required=True, whole=True, least=0, most=31),
    Param("frac_bits", required=True, whole=True, least=0, most=31),
)
_RESERVED = (CURRENT, "dt", "spikes")


def define(name: str, node: ast.UserNeuron, evaluator: Evaluator, scope: Scope, header: Header) -> UserModel:
    """Give the model that a statement defines, after checking it with its own values.

    Raises
    ------
    Fault
        E0381 for a model that does not say what it must, and others for its expressions.
    """
    params: list[Param] = []
    defaults: dict[str, tuple[Any, Pos]] = {}
    dims: dict[str, Dim] = {}
    for entry in _entries(node, "state", "param"):
        if (
            entry.name in defaults
            or entry.name in dims
            or entry.name in _RESERVED
            or entry.name.endswith("'")
        ):
            hint = f"{', '.join(_RESERVED)} have their own meaning; names have no prime here"
            raise Fault("E0367", entry.pos, f"{entry.name} is defined twice, or no name of its own", hint)
        value = evaluator.value(entry.value, scope)
        if not isinstance(value, Quantity) or value.is_array:
            raise Fault("E0369", entry.value.pos, f"{entry.name} is a number, not {kind_name(value)}")
        title = entry.name if entry.word == "param" else f"{entry.name}_init"
        params.append(Param(title, (value.dim,), array=True, random=True))
        defaults[title] = (value, entry.value.pos)
        if entry.word == "state":
            dims[entry.name] = value.dim
    if not dims or len(defaults) > MAX_NAMES:
        raise Fault("E0381", node.pos, f"a model has 1 to {MAX_NAMES} states and params", "add state v = 0.0")
    if len(defaults) != len(params):
        raise Fault("E0367", node.pos, "a param has the name of a state's initial value")
    model = UserModel(name, node, scope, tuple(params), defaults, dims)
    _check_once(node)
    _Compiler(model, evaluator, header, {}).fields()
    return model


def _entries(node: ast.UserNeuron, *words: str) -> Iterator[ast.Entry]:
    return (item for item in node.body if isinstance(item, ast.Entry) and item.word in words)


def _check_once(node: ast.UserNeuron) -> None:
    """All lines but definitions stand once; there is an update."""
    seen: set[str] = set()
    for item in node.body:
        if item.word in seen and item.word not in ("state", "param"):
            raise Fault("E0381", item.pos, f"{item.word} stands twice in this model")
        seen.add(item.word)
    if "update" not in seen:
        raise Fault("E0381", node.pos, "the model has no update", "add update { v' = ... }")


def realise_user(
    pop: Population, model: UserModel, given: Arguments, evaluator: Evaluator, header: Header
) -> None:
    """Set the level and the fields of ``snn.user`` of a population.

    Raises
    ------
    Fault
        For values that do not fit the model or the population.
    """
    pop.user, pop.level = True, next(iter(model.dims.values()))
    fitted = {name: Bound(_fitted(pop, item, name), item.pos) for name, item in given.items()}
    rows = {
        name: np.asarray(item.value.value, np.float64)
        for name, item in _drawn(pop, model, fitted, header).items()
    }
    arrays = {name: item for name, item in rows.items() if item.size > 1 and name not in _starts(model)}
    scalars = {
        name: Quantity(float(rows[name].reshape(-1)[0]), model.defaults[name][0].dim)
        for name in rows
        if name not in arrays and name not in _starts(model)
    }
    fields = _Compiler(model, evaluator, header, scalars, tuple(arrays)).fields()
    init = [rows.get(f"{name}_init", np.asarray(_default(model, f"{name}_init"))) for name in model.dims]
    fields["init"] = Const(f"{pop.name}.init", _stacked(init, pop))
    if arrays:
        fields["values"] = Const(f"{pop.name}.values", _stacked(list(arrays.values()), pop))
    pop.fields = fields


def _starts(model: UserModel) -> set[str]:
    return {f"{name}_init" for name in model.dims}


def _default(model: UserModel, name: str) -> float:
    return float(model.defaults[name][0].value)


def _fitted(pop: Population, bound: Bound, name: str) -> Any:
    """A value whose array broadcasts to the population."""
    value = bound.value
    if isinstance(value, Quantity) and value.is_array:
        shape = np.atleast_1d(value.value).shape
        fits = len(shape) <= len(pop.shape) and all(
            have in (1, want) for have, want in zip(shape[::-1], pop.shape[::-1], strict=False)
        )
        if not fits:
            message = f"{name} of shape {shape} does not broadcast to {pop.name} {pop.shape}"
            raise Fault("E0376", bound.pos, message)
    return value


def _drawn(pop: Population, model: UserModel, given: Arguments, header: Header) -> Arguments:
    """Distributions become one number a neuron."""
    names = [param.name for param in model.params]
    made = {}
    for name, bound in given.items():
        value = bound.value
        if isinstance(value, Random):
            index = np.arange(pop.size) + names.index(name) * pop.size
            u = draw.unit(header.seed, pop.number, draw.START, index)
            value = Quantity(draw.sample(value, u).reshape(pop.shape), value.dim)
        made[name] = Bound(value, bound.pos)
    return made


def _stacked(rows: list[Array], pop: Population) -> Array:
    """Rows of one constant: one number each where that suffices, else one a neuron."""
    if all(row.size == 1 for row in rows):
        return np.array([float(row.reshape(-1)[0]) for row in rows]).reshape(-1, *(1,) * len(pop.shape))
    return np.stack([np.broadcast_to(row, pop.shape) for row in rows])


@dataclass
class _Compiler:
    """Turns the lines of a model into the fields of ``snn.user``."""

    model: UserModel
    evaluator: Evaluator
    header: Header
    scalars: dict[str, Quantity]
    arrays: tuple[str, ...] = ()
    scope: Scope = field(default_factory=Scope)

    def fields(self) -> dict[str, Any]:
        """Names, code and arithmetic; constants are not among them."""
        model = self.model
        self.scope = Scope({"dt": Quantity(self.header.dt, TIME)}, model.scope)
        for param in model.params:
            if param.name.removesuffix("_init") in model.dims and param.name.endswith("_init"):
                continue
            value = self.scalars.get(param.name, model.defaults[param.name][0])
            array = param.name in self.arrays
            self.scope.names[param.name] = Symbol(param.name, value.dim) if array else value
        states = tuple(model.dims)
        level = next(iter(model.dims.values()))
        self.scope.names[CURRENT] = Symbol(CURRENT, level)
        made = {
            "states": states, "params": self.arrays, "update": self._part("update", NEXT),
            "fire": self._fire(), "spike": self._part("reset", AFTER), "shows": self._shows(), "fixed": self._fixed(),
        }  # fmt: skip
        if bool(made["fire"]) == bool(made["shows"]):
            hint = "add threshold v >= 1.0 for spikes, or output v for a state, not both"
            raise Fault("E0381", model.node.pos, "a model either fires or puts a state out", hint)
        if made["spike"] and not made["fire"]:
            raise Fault("E0381", model.node.pos, "a reset needs a threshold", "add threshold v >= 1.0")
        return {name: item for name, item in made.items() if item}

    def _inner(self) -> Scope:
        """Names inside a part: the states have their present values."""
        symbols = {name: Symbol(name, dim) for name, dim in self.model.dims.items()}
        return Scope(dict(symbols), self.scope)

    def _part(self, word: str, end: str) -> Code:
        part = next((item for item in self.model.node.body if item.word == word), None)
        if not isinstance(part, ast.Part):
            return ()
        scope = self._inner()
        writer = Writer(self.evaluator, scope)
        done: set[str] = set()
        for entry in part.body:
            if entry.name in done:
                raise Fault("E0367", entry.pos, f"{entry.name} is assigned twice")
            done.add(entry.name)
            state = self._state(entry, word)
            made = writer.assign(state + end if state else entry.name, entry.value)
            if state and (made.truth or made.dim != self.model.dims[state]):
                have = "a truth value" if made.truth else dim_name(made.dim)
                message = f"{state} is {dim_name(self.model.dims[state])}, this is {have}"
                raise Fault("E0368", entry.value.pos, message)
            scope.names[entry.name] = made
        return writer.code

    def _state(self, entry: ast.Entry, word: str) -> str:
        """The state that an assignment changes; empty for a local name."""
        dims, name = self.model.dims, entry.name
        bare = name.removesuffix("'")
        if word == "update" and name.endswith("'"):
            if bare not in dims:
                near = did_you_mean(bare, dims)
                raise Fault("E0366", entry.pos, f"there is no state {bare}", near)
            return bare
        if word == "update" and name in dims:
            raise Fault("E0381", entry.pos, f"{name} is a state", f"write {name}' = ... for its next value")
        if word == "reset" and bare in dims:
            if name.endswith("'"):
                raise Fault("E0381", entry.pos, "there is no prime in a reset", f"write {bare} = ...")
            return bare
        if name.endswith("'") or name in self.scope.names or name in _RESERVED:
            hint = did_you_mean(bare, dims) if word == "reset" else "params and I cannot be assigned"
            raise Fault("E0381", entry.pos, f"{name} cannot be assigned here", hint)
        return ""

    def _fire(self) -> Code:
        entry = next(_entries(self.model.node, "threshold"), None)
        if entry is None:
            return ()
        writer = Writer(self.evaluator, self._inner())
        made = writer.assign(FIRE, entry.value)
        if not made.truth:
            raise Fault("E0369", entry.value.pos, "a threshold is a comparison", "such as threshold v >= 30")
        return writer.code

    def _shows(self) -> str:
        entry = next(_entries(self.model.node, "output"), None)
        name = "spikes" if entry is None else entry.value.text if isinstance(entry.value, ast.Name) else ""
        if name != "spikes" and name not in self.model.dims:
            assert entry is not None
            near = did_you_mean(name, ["spikes", *self.model.dims])
            raise Fault(
                "E0381", entry.value.pos, f"a model puts out spikes or a state, not {name or 'this'}", near
            )
        return "" if name == "spikes" else name

    def _fixed(self) -> tuple[int, ...]:
        entry = next(_entries(self.model.node, "arithmetic"), None)
        node = entry.value if entry is not None else None
        if node is None or (isinstance(node, ast.Name) and node.text == "float64"):
            return ()
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.text != "fixed":
            hint = "such as arithmetic fixed(int_bits = 15, frac_bits = 16)"
            raise Fault("E0381", node.pos, "an arithmetic is float64 or fixed(int_bits, frac_bits)", hint)
        bound = bind(self.evaluator, self.scope, node.arguments, _FIXED, "fixed")
        require_all(bound, _FIXED, node.pos, "fixed")
        bits = tuple(int(bound[param.name].value.value) for param in _FIXED)
        if sum(bits) > 31:
            raise Fault("E0373", node.pos, f"a word of {1 + sum(bits)} bits, of at most 32")
        if any(dim != PLAIN for dim in self.model.dims.values()):
            hint = "make them plain numbers, such as v = -65.0 for millivolts"
            raise Fault(
                "E0368", node.pos, "fixed-point states have no units: volts would be tiny fractions", hint
            )
        return bits
