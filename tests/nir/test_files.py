"""All primitives, subgraphs, loops, and files that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.frontends.nir import load_nir
from nmc.ir.diagnostics import Diagnostic
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.ir.verify import verify_or_raise

Write = Callable[..., Path]
Refusal = Callable[..., tuple[Diagnostic, ...]]
RNG = np.random.default_rng(7)


def lif(n: int, **more: Any) -> dict[str, Any]:
    one = np.ones(n)
    return {"type": "LIF", "tau": one, "r": one, "v_leak": 0 * one, "v_threshold": one, **more}


def chain(**inner: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Input, the nodes given, output, each leading to the next."""
    names = ["input", *inner, "output"]
    return {**inner, "output": {"type": "Output", "shape": [1]}}, list(zip(names, names[1:], strict=False))


def made(path: Path, **options: Any) -> Module:
    module = load_nir(path, **{"dt": 0.1, "convention": "nir", **options})
    verify_or_raise(module)
    return module


def linear(write: Write, shape: tuple[int, ...], x: Any, **inner: dict[str, Any]) -> Any:
    """What a chain of linear nodes makes of one step."""
    nodes, edges = chain(**inner)
    path = write({"input": {"type": "Input", "shape": np.array(shape)}, **nodes}, edges)
    (result,) = run_snn(made(path), {"input": x[:, None]}, 1).outputs.values()
    return result


def conv(weight: Any, bias: Any, stride: Any = 1, pad: Any = 0, groups: int = 1) -> dict[str, Any]:
    return {"type": "Conv2d", "weight": weight, "bias": bias, "stride": np.array([stride, stride]), "padding": pad,
            "dilation": np.array([1, 1]), "groups": groups, "input_shape": np.array([10, 10])}  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_with_oblong_kernel_and_groups(write: Write, groups: int) -> None:
    weight, bias = RNG.normal(size=(4, 2 // groups, 3, 5)), RNG.normal(size=4)
    x = (RNG.random((1, 2, 10, 10)) < 0.5).astype(np.uint8)
    have = linear(write, (2, 10, 10), x, c=conv(weight, bias, groups=groups))
    assert have.shape == (1, 4, 8, 6)
    part = x[0, :, 2:5, 1:6][: 2 // groups].astype(float)
    assert have[0, 0, 2, 1] == pytest.approx((part * weight[0]).sum() + bias[0])


@pytest.mark.parametrize(
    ("extent", "kernel", "stride", "pad", "outer"),
    [(10, 2, 2, 0, 1), (11, 2, 2, 0, 1), (11, 3, 2, 1, 1), (10, 3, 1, 0, 1)]
)  # fmt: skip
def test_pool_before_convolution_is_exact(
    write: Write, extent: int, kernel: int, stride: int, pad: int, outer: int
) -> None:
    two = np.ones(2, np.int64)
    pool = {"type": "AvgPool2d", "kernel_size": two * kernel, "stride": two * stride, "padding": two * pad}
    after = conv(RNG.normal(size=(3, 2, 3, 3)), np.zeros(3), pad=outer)
    x = (RNG.random((1, 2, extent, extent)) < 0.5).astype(np.uint8)
    both = linear(write, (2, extent, extent), x, p=pool, c=after)
    first = linear(write, (2, extent, extent), x, p=pool)
    want = linear(write, first.shape[1:], first, c=after)
    np.testing.assert_allclose(both, want, atol=1e-6)


def test_flatten_scale_and_matrix(write: Write) -> None:
    weight, scale = RNG.normal(size=(5, 12)), RNG.normal(size=12)
    x = (RNG.random((1, 3, 2, 2)) < 0.5).astype(np.uint8)
    flat = {"type": "Flatten", "start_dim": 0, "end_dim": -1, "input_type": [3, 2, 2]}
    have = linear(write, (3, 2, 2), x, f=flat, s={"type": "Scale", "scale": scale},
                  a={"type": "Affine", "weight": weight, "bias": np.ones(5)})  # fmt: skip
    np.testing.assert_allclose(have[0], weight @ (scale * x.reshape(-1)) + 1)


def test_two_edges_add_twice(write: Write) -> None:
    nodes, edges = chain(a={"type": "Linear", "weight": np.array([[1.0, 2.0]])})
    path = write({"input": {"type": "Input", "shape": [2]}, **nodes}, [*edges, ("input", "a")])
    x = np.array([[[1, 1]]], np.uint8)
    (result,) = run_snn(made(path), {"input": x}, 1).outputs.values()
    assert result.tolist() == [[6.0]]


@pytest.mark.parametrize("kind", ["Threshold", "I", "IF", "LI", "LIF", "CubaLI", "CubaLIF"])
@pytest.mark.parametrize("semantics", ["nir-exact", "norse", "snntorch", "sinabs", "lava-dl", "spinnaker2"])
def test_every_neuron_runs_with_scalar_parameters(write: Write, kind: str, semantics: str) -> None:
    from nmc.frontends.nir.primitives import FIELDS

    fields = dict.fromkeys(FIELDS[kind][0].split(), 0.5)
    path = write({"input": {"type": "Input", "shape": [3]}, "n": {"type": kind, **fields},
                  "output": {"type": "Output", "shape": [3]}}, [("input", "n"), ("n", "output")])  # fmt: skip
    result = run_snn(made(path, semantics=semantics), {"input": np.ones((1, 20, 3), np.uint8)}, 20)
    assert result.outputs["n"].shape == (1, 3) and np.isfinite(result.outputs["n"]).all()


def test_exact_current_based_neuron_follows_the_analytic_solution(write: Write) -> None:
    nodes, edges = chain(
        n={"type": "CubaLI", "tau_syn": [2.0], "tau_mem": [5.0], "r": [3.0], "v_leak": [0.5]}
    )
    path = write({"input": {"type": "Input", "shape": [1]}, **nodes}, edges)
    result = run_snn(made(path), {"input": np.ones((1, 30, 1), np.uint8)}, 30).outputs["n"][0, 0]
    s, m, t = 2.0, 5.0, 3.0
    want = 3.5 - 3.5 * np.exp(-t / m) - 3.0 * s / (s - m) * (np.exp(-t / s) - np.exp(-t / m))
    assert result == pytest.approx(want, rel=1e-9)


def test_delays_become_delays_of_projections(write: Write) -> None:
    nodes, edges = chain(d={"type": "Delay", "delay": [0.1, 0.3]}, a={"type": "Linear", "weight": np.ones((1, 2))},
                         n=lif(1, tau=[1e-9]))  # fmt: skip
    module = made(write({"input": {"type": "Input", "shape": [2]}, **nodes}, edges))
    assert sorted(op.delay for op in module.of_type(snn.ProjectionOp)) == [1, 3]


def test_loop_gets_a_delay_and_a_subgraph_is_dissolved(write: Write) -> None:
    weight = {"type": "Linear", "weight": np.eye(2)}
    inner = {"nodes": {"lif": lif(2), "w_rec": weight}, "edges": [
        ("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]}  # fmt: skip
    nodes, edges = chain(a=weight, cell=inner)
    module = made(write({"input": {"type": "Input", "shape": [2]}, **nodes}, edges, "0.1"))
    delays = {op.out: op.delay for op in module.of_type(snn.ProjectionOp)}
    assert delays == {"a": 0, "cell.w_rec": 1} and module.of_type(snn.Output)[0].data.name == "cell.lif"


def test_all_problems_at_once(write: Write, refusal: Refusal) -> None:
    nodes, edges = chain(a={"type": "Linear", "weight": np.ones((2, 3))}, b={"type": "Sigmoid"}, c=lif(2, tau=[-1.0]),
                         d={"type": "Affine", "weight": np.ones((2, 2))})  # fmt: skip
    path = write({"input": {"type": "Input", "shape": [3]}, **nodes}, [*edges, ("a", "nowhere")])
    codes = [item.code for item in refusal(path)]
    assert codes == ["E0342", "E0343", "E0343", "E0344"]


def test_unknown_field_is_ignored_and_told(write: Write) -> None:
    nodes, edges = chain(n=lif(1, colour=3))
    module = made(write({"input": {"type": "Input", "shape": [1]}, **nodes}, edges))
    assert "n: unknown field colour ignored" in module.attr("evidence")


def test_shapes_that_do_not_fit(write: Write, refusal: Refusal) -> None:
    nodes, edges = chain(a={"type": "Linear", "weight": np.ones((2, 3))}, n=lif(5))
    (problem,) = refusal(write({"input": {"type": "Input", "shape": [3]}, **nodes}, edges))
    assert problem.code == "E0345" and '"n"' in problem.where


@pytest.mark.parametrize("r", [3.7, 25.0])
def test_resistance_that_fits_no_formula_is_refused(write: Write, refusal: Refusal, r: float) -> None:
    nodes, edges = chain(n=lif(2, r=[r, r + 1]))
    (problem,) = refusal(write({"input": {"type": "Input", "shape": [2]}, **nodes}, edges))
    assert problem.code == "E0346" and "no exporter" in problem.message


def test_loop_without_neurons_is_refused(write: Write, refusal: Refusal) -> None:
    weight = {"type": "Linear", "weight": np.eye(2)}
    nodes, edges = chain(n=lif(2), a=weight)
    path = write({"input": {"type": "Input", "shape": [2]}, **nodes}, [*edges, ("a", "a")])
    assert {item.code for item in refusal(path, dt=0.1, convention="nir")} == {"E0344"}


def test_nengo_is_not_claimed_where_it_is_not_reproduced(write: Write, refusal: Refusal) -> None:
    nodes, edges = chain(
        n={"type": "CubaLIF", **dict.fromkeys(["tau_syn", "tau_mem", "r", "v_leak", "v_threshold"], [1.0])}
    )
    path = write({"input": {"type": "Input", "shape": [1]}, **nodes}, edges)
    assert [item.code for item in refusal(path, semantics="nengo", dt=0.1)] == ["E0347"]


@pytest.mark.parametrize("cut", [0, 8, 100, 800, 2000, 4000])
def test_damaged_file_is_refused(write: Write, refusal: Refusal, cut: int, tmp_path: Path) -> None:
    nodes, edges = chain(n=lif(1))
    data = write({"input": {"type": "Input", "shape": [1]}, **nodes}, edges).read_bytes()
    path = tmp_path / "cut.nir"
    path.write_bytes(data[:cut])
    assert [item.code for item in refusal(path)] == ["E0341"]


def test_links_and_huge_claims_are_refused(write: Write, refusal: Refusal) -> None:
    import h5py  # type: ignore[import-untyped]

    nodes, edges = chain(n=lif(1))
    path = write({"input": {"type": "Input", "shape": [1]}, **nodes}, edges)
    with h5py.File(path, "a") as file:
        file["node/nodes/n/extra"] = h5py.ExternalLink("/etc/passwd", "/x")
    assert "link" in refusal(path)[0].message
    with h5py.File(path, "a") as file:
        del file["node/nodes/n/extra"]
        file["node/nodes/n"].create_dataset("huge", shape=(1 << 40,), dtype="f8", chunks=(1 << 16,))
    assert "bytes" in refusal(path)[0].message


def test_nir_package_writes_what_we_read(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    one = np.ones(3)
    graph = nir.NIRGraph.from_list(
        nir.Affine(weight=np.ones((3, 2)), bias=one),
        nir.LIF(tau=one, r=one, v_leak=one, v_threshold=one, v_reset=0.5 * one),
    )
    nir.write(tmp_path / "n.nir", graph)
    module = made(tmp_path / "n.nir")
    assert module.attr("nir")["neurons"] == 3 and "reset=to-value" in str(module)


def test_convention_norse_is_the_equations_as_written(write: Write, refusal: Refusal) -> None:
    nodes, edges = chain(n=lif(2))
    path = write({"input": {"type": "Input", "shape": [2]}, **nodes}, edges)
    assert made(path, convention="norse") == made(path, convention="nir")
    assert "norse" in refusal(path, dt=0.1, convention="nosre")[0].message


def test_command_line_imports_with_a_time_step(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    from nmc.cli import main

    nodes, edges = chain(n=lif(2))
    path = write({"input": {"type": "Input", "shape": [2]}, **nodes}, edges)
    assert main(["import", str(path), "--dt", "0.1", "--convention", "nir", "--semantics", "norse"]) == 0
    assert "semantics=norse" in capsys.readouterr().out
    assert main(["import", str(path), "--dt", "-1"]) == 1
