"""The passes in pipelines: the check after each pass holds the spike code to its promise."""

import pytest

from exact_nets import random_data, random_net
from nmc.passes.manager import ManagerOptions, run_pipeline
from nmc.passes.pipeline import parse_pipeline


@pytest.mark.parametrize("code", ["stbif", "stbif, schedule=spread", "graded", "phased-if", "bit-serial"])
def test_each_code_passes_the_check_after_each_pass(code: str) -> None:
    module = random_net(6, pools=False)
    told: list[str] = []
    options = ManagerOptions(check_each=random_data(module, 6), sink=told.append)
    run_pipeline(module, parse_pipeline(f"spike-code{{code={code}}}"), options)
    assert any("%r is equal" in line for line in told)
