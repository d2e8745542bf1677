"""What the tests of the .snn language share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nmc.frontends.snn import read_snn
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module

Make = Callable[..., Module]
Wrong = Callable[..., list[Diagnostic]]


@pytest.fixture
def make() -> Make:
    """Read a program with a header of 1 ms steps."""

    def run(
        body: str, header: str = "dt = 1 ms, seed = 5", folder: Path | None = None, **params: object
    ) -> Module:
        return read_snn(f"network test({header})\n{body}", "test.snn", params, folder)

    return run


@pytest.fixture
def wrong() -> Wrong:
    """Read a program that is wrong and give what is said about it."""

    def run(text: str, **params: object) -> list[Diagnostic]:
        with pytest.raises(NmcError) as caught:
            read_snn(text, "test.snn", params)
        return list(caught.value.diagnostics)

    return run


@pytest.fixture
def examples(repo: Path) -> Path:
    """The folder of example programs."""
    return repo / "examples" / "snn"
