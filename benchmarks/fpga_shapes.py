"""Shapes whose areas `fpga_area.py` measures: each feature alone, what the compiler chooses, and drawn ones.

Those whose name begins with "new" take no part in any fit; they were chosen or drawn before they were measured.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from nmc.targets.fpga.devices import Family

Fields = dict[str, Any]
_BARE: Fields = {
    "vb": 18, "counter": 1, "classes": 2, "geometries": 2, "sparse": False, "conv": False, "stbif": False,
    "late": False, "windows": False, "probes": False,
}  # fmt: skip
_EXACT: Fields = {
    "leak": "none", "payload_bits": 8, "bias_bits": 12, "theta_bits": 10, "classes": 4, "counter": 4, "windows": True,
}  # fmt: skip
_SMALL: Fields = {
    **_BARE, "vb": 16, "lanes": 1, "neurons": 128, "axons": 64, "queue": 256, "targets": 256, "fifo": 4,
}  # fmt: skip
#: As the compiler makes them: with probes and longer queues.
_CHOSEN: Fields = {**_SMALL, "fifo": 16, "probes": True}
_ECP5: dict[str, Fields] = {
    "bare": _BARE,
    "1 lane": {**_BARE, "lanes": 1},
    "8 lanes": {**_BARE, "lanes": 8},
    "4 x 2": {**_BARE, "cores": 4, "lanes": 2, "axons": 128},
    "30 bits": {**_BARE, "vb": 30, "lanes": 2},
    "probes": {**_BARE, "probes": True, "vb": 24},
    "rows": {**_BARE, "sparse": True, "conv": True, "geometries": 8},
    "exact": {**_BARE, **_EXACT, "stbif": True, "vb": 20},
    "full": {"vb": 18, "lanes": 2},
    "current": {**_BARE, "cuba": True, "lanes": 2},
    "shift": {**_BARE, "leak": "shift", "vb": 16, "late": True},
    "2 x 4 full": {"cores": 2, "vb": 16, "delays": 8},
    "new int4": {**_BARE, **_EXACT, "weights": "int4", "neurons": 1024, "lanes": 8, "vb": 16},
    "new conv": {"vb": 22, "lanes": 2, "neurons": 128, "axons": 96, "probes": False},
}
_FULL: Fields = {
    "sparse": True, "conv": True, "stbif": True, "late": True, "windows": True, "probes": True, "classes": 16,
    "geometries": 16, "counter": 8, "fifo": 16,
}  # fmt: skip
#: What differs from `_SMALL`.
_ALONE: dict[str, Fields] = {
    "small": {},
    "small full": _FULL,
    "small 2": {"lanes": 2},
    "small 4 of 8 bits": {"lanes": 4},
    "small none": {"leak": "none"},
    "small 24 bits": {"vb": 24},
    "small int4": {"weights": "int4"},
    "small signed": {"stbif": True},
    "small conv": {"conv": True, "geometries": 4},
    "small sparse": {"sparse": True},
    "small probes alone": {"probes": True},
    "small windows": {"windows": True},
    "small late": {"late": True},
    "small 8 classes": {"classes": 8},
    "small 4 classes": {"classes": 4},
    "small queue": {"fifo": 16},
    "small 2 cores": {"cores": 2},
    "small delays": {"delays": 4},
    "small cuba": {"cuba": True},
    "small shift alone": {"leak": "shift"},
    "small payload": {"payload_bits": 8},
    "small biases": {"bias_bits": 12},
    "small exact": {**_EXACT, "stbif": True, "vb": 20},
    "small wide": {"vb": 28},
    "small shift": {"leak": "shift", "lanes": 2, "late": True},
    "small rows": {"sparse": True, "conv": True, "geometries": 4, "leak": "none"},
    "small probes": {"probes": True, "classes": 8, "windows": True},
    "small current": {"cuba": True, "delays": 4},
    "small 2 x 1": {"cores": 2, "leak": "none", "neurons": 64},
    "small 4": {"lanes": 4, "leak": "none", "weights": "int4", "payload_bits": 4},
    "small 512 neurons": {"neurons": 512, "weight_rows": 4096},
    "small 12 bits": {"vb": 12},
    "new small": {"vb": 24, "classes": 4, "axons": 128},
    "new small 2": {**_EXACT, "lanes": 2, "stbif": True, "conv": True, "vb": 16},
}
#: What differs from `_CHOSEN`: networks of the examples and tests, as compiled for an up5k.
_COMPILED: dict[str, Fields] = {
    "chosen": {"vb": 17, "neurons": 21, "axons": 52, "weight_rows": 588, "classes": 4, "queue": 16, "targets": 12},
    "chosen mlp": {
        "vb": 19, "neurons": 138, "axons": 912, "weight_rows": 50000, "classes": 4, "geometries": 4, "bias_bits": 7,
        "sparse": True, "windows": True, "queue": 128, "targets": 128,
    },
    "chosen 2 x 2": {
        "cores": 2, "lanes": 2, "leak": "none", "counter": 4, "payload_bits": 8, "stbif": True, "bias_bits": 9,
        "windows": True, "neurons": 64, "axons": 100, "weight_rows": 3000, "classes": 4, "queue": 128, "targets": 128,
    },
    "chosen exact": {
        "leak": "none", "payload_bits": 8, "counter": 4, "stbif": True, "windows": True, "bias_bits": 10,
        "theta_bits": 9, "classes": 4, "geometries": 8, "conv": True, "sparse": True, "neurons": 256, "axons": 300,
        "weight_rows": 3000, "queue": 512, "targets": 512,
    },
    "chosen synfire": {
        "vb": 17, "counter": 3, "neurons": 160, "axons": 141, "weight_rows": 1420, "classes": 16, "sparse": True,
        "delays": 16, "queue": 256, "targets": 140,
    },
    "chosen wide rows": {
        "vb": 20, "neurons": 330, "axons": 400, "weight_rows": 132000, "queue": 4, "targets": 2,
    },
}  # fmt: skip
#: Drawn shapes: how many; those that take part in fits; the first one of those that do not. The rest was not measured.
_DRAWN, _FITTED, _NEW, _SEED = 24, (0, 1, 2, 3, 6, 8), 12, 20261128


def _drawn(rng: random.Random) -> Fields:
    """A shape such as a small network has."""
    pick = rng.choice
    lanes, cores = pick([1, 1, 1, 2, 2, 4]), pick([1, 1, 1, 1, 2])
    leak = pick(["multiply", "multiply", "none", "none", "shift"])
    exact = leak == "none" and rng.random() < 0.6
    return {
        "cores": cores, "lanes": lanes, "neurons": lanes * rng.randint(4, 200 // lanes), "axons": rng.randint(8, 600),
        "weight_rows": int(10 ** rng.uniform(2, 4.3)), "weights": pick(["ternary", "int2", "int4", "int8", "int8"]),
        "vb": rng.randint(10, 26), "counter": 4 if exact else pick([1, 1, 3, 8]), "classes": pick([2, 2, 4, 8]),
        "geometries": pick([2, 2, 4, 8]), "bias_bits": pick([0, 7, 10]), "theta_bits": pick([0, 0, 0, 9]),
        "payload_bits": 8 if exact else 2, "leak": leak, "sparse": rng.random() < 0.5, "conv": rng.random() < 0.3,
        "stbif": exact, "cuba": leak != "none" and rng.random() < 0.2, "late": leak != "none" and rng.random() < 0.3,
        "windows": rng.random() < 0.4, "probes": rng.random() < 0.8, "delays": pick([1, 1, 1, 4, 8]),
        "queue": 2 ** rng.randint(2, 10), "targets": rng.randint(2, 900), "fifo": 16,
    }  # fmt: skip


def shapes() -> Mapping[str, tuple[Family, Fields]]:
    """Family and fields by name."""
    rng = random.Random(_SEED)
    drawn = [_drawn(rng) for _ in range(_DRAWN)]
    found: dict[str, tuple[Family, Fields]] = {name: ("ecp5", fields) for name, fields in _ECP5.items()}
    found |= {name: ("ice40", {**_SMALL, **fields}) for name, fields in _ALONE.items()}
    found |= {name: ("ice40", {**_CHOSEN, **fields}) for name, fields in _COMPILED.items()}
    for number, fields in enumerate(drawn):
        if number in _FITTED or number >= _NEW:
            found[f"{'' if number in _FITTED else 'new '}drawn {number}"] = ("ice40", fields)
    return found
