"""Cells of an ECP5 as Verilog that simulates.

Tables, carries and small RAMs are Yosys' own models. It has none of block RAMs and multipliers: ours are below, of
what the flow uses of them (Lattice, FPGA-TN-02204, ECP5 memory usage guide; FPGA-TN-02205, sysDSP usage guide).
"""

from __future__ import annotations

import re
from pathlib import Path

from fpga_netlist_bits import Cell, bit_of, value_of, vector_of

#: Both ports have the same clock and width. A row of 36 bits is written by port A and read by port B, with the pins of
#: both; one of 18 or 36 has enables of nine bits each in the lowest bits of its address.
_OURS = """
module nmc_ebr #(parameter W = 18, REG_A = 0, REG_B = 0) (
    input clk, input [13:0] ada, adb, input [17:0] dia, dib, input cea, wea, ocea, ceb, web, oceb,
    output [17:0] doa, dob
);
    reg [8:0] mem [0:2047];
    reg [35:0] got_a = 0, got_b = 0, kept_a = 0, kept_b = 0;
    integer k;
    initial for (k = 0; k < 2048; k = k + 1) mem[k] = 0;
    function [35:0] row(input [13:0] at);
        case (W)
            1: row = 36'(mem[at[13:3]][at[2:0]]);
            2: row = 36'(mem[at[13:3]][{at[2:1], 1'b0}+:2]);
            4: row = 36'(mem[at[13:3]][{at[2], 2'b0}+:4]);
            9: row = 36'(mem[at[13:3]]);
            18: row = 36'({mem[{at[13:4], 1'd1}], mem[{at[13:4], 1'd0}]});
            default: row = {mem[{at[13:5], 2'd3}], mem[{at[13:5], 2'd2}], mem[{at[13:5], 2'd1}], mem[{at[13:5], 2'd0}]};
        endcase
    endfunction
    task put(input [13:0] at, input [35:0] value);
        case (W)
            1: mem[at[13:3]][at[2:0]] = value[0];
            2: mem[at[13:3]][{at[2:1], 1'b0}+:2] = value[1:0];
            4: mem[at[13:3]][{at[2], 2'b0}+:4] = value[3:0];
            9: mem[at[13:3]] = value[8:0];
            18: for (k = 0; k < 2; k = k + 1) if (at[k]) mem[{at[13:4], k[0]}] = value[9*k+:9];
            default: for (k = 0; k < 4; k = k + 1) if (at[k]) mem[{at[13:5], k[1:0]}] = value[9*k+:9];
        endcase
    endtask
    always @(posedge clk) begin
        if (ocea) kept_a <= got_a;
        if (oceb) kept_b <= got_b;
        if (cea && !wea) got_a <= row(ada);
        if (ceb && !web) got_b <= row(adb);
        if (cea && wea) put(ada, {dib, dia});
        if (ceb && web) put(adb, {dia, dib});
    end
    wire [35:0] told_b = REG_B ? kept_b : got_b;
    assign doa = W == 36 ? told_b[17:0] : REG_A ? kept_a[17:0] : got_a[17:0];
    assign dob = W == 36 ? told_b[35:18] : told_b[17:0];
endmodule
module nmc_mult(input [17:0] a, b, input signed_a, signed_b, output [35:0] p);
    wire signed [18:0] left = {signed_a & a[17], a}, right = {signed_b & b[17], b};
    wire signed [37:0] product = left * right;
    assign p = product[35:0];
endmodule
"""
_THEIRS = ("LUT4", "LUT2", "TRELLIS_DPR16X4", "CCU2C")


def models(share: Path) -> str:
    """Models of all cells that are instances; delays are left out."""
    files = ("common_sim.vh", "ccu2c_sim.vh")
    text = "\n".join((share / "lattice" / name).read_text() for name in files)
    text = re.sub(r"\bspecify\b.*?\bendspecify\b", "", text, flags=re.DOTALL)
    found = {name: body for body, name in re.findall(r"(\bmodule (\w+).*?\bendmodule\n)", text, re.DOTALL)}
    return "".join(found[name] for name in _THEIRS) + _OURS


def first(register: Cell) -> int:
    """What a flip-flop holds at first, and after a reset."""
    return int(register["parameters"].get("REGSET", "RESET") == "SET")


def step_of(cell: Cell) -> str:
    """A flip-flop's part of the clock's edge: the reset is stronger than the enable."""
    given, wires = cell["parameters"], cell["connections"]
    assert given["CLKMUX"] == "CLK" and given.get("SRMODE", "LSR_OVER_CE") == "LSR_OVER_CE", given
    gate, reset, state = given.get("CEMUX", "1").strip(), bit_of(wires.get("LSR")), bit_of(wires["Q"])
    step = f"{state} <= {bit_of(wires['DI'])};\n"
    if gate != "1":
        step = f"if ({_sign(gate)}{bit_of(wires.get('CE'))}) {step}"
    if reset == "1'b0":
        return step
    return f"if ({_sign(given.get('LSRMUX', 'LSR'))}{reset}) {state} <= {first(cell)}; else {step}"


def _sign(chosen: str) -> str:
    """A pin that can be taken the other way round."""
    assert chosen in ("CE", "LSR", "INV"), chosen
    return "!" if chosen == "INV" else ""


def cell_of(number: int, cell: Cell) -> str:
    """Any other cell, as an instance."""
    kind = cell["type"]
    if kind == "DP16KD":
        return _block(number, cell)
    if kind == "MULT18X18D":
        return _multiplier(number, cell)
    assert kind in _THEIRS, kind
    given = ", ".join(f".{name}({value_of(text)})" for name, text in cell["parameters"].items())
    connected = ", ".join(
        f".{name}({vector_of(bits)})" for name, bits in cell["connections"].items() if _used(cell, name)
    )
    return f"{kind} #({given}) cell{number} ({connected});\n"


def _used(cell: Cell, name: str) -> bool:
    """Whether a port is an input, or an output that has wires."""
    bits = cell["connections"][name]
    return cell["port_directions"][name] == "input" or any(isinstance(bit, int) for bit in bits)


def _bus(cell: Cell, name: str, width: int) -> str:
    return vector_of([(cell["connections"].get(f"{name}{k}") or ["0"])[0] for k in range(width)])


def _outputs(number: int, name: str, cell: Cell, port: str, width: int) -> str:
    """Wires of an output; those of no matter get none."""
    wires = [(k, cell["connections"].get(f"{port}{k}")) for k in range(width)]
    text = f"wire [{width - 1}:0] {name}{number};\n"
    return text + "".join(
        f"assign n{bits[0]} = {name}{number}[{k}];\n"
        for k, bits in wires
        if bits and isinstance(bits[0], int)
    )


def _block(number: int, cell: Cell) -> str:
    given, wires = cell["parameters"], cell["connections"]
    widths = {int(given[f"DATA_WIDTH_{side}"], 2) for side in "AB"}
    assert len(widths) == 1 and bit_of(wires["CLKA"]) == bit_of(wires["CLKB"]), given
    assert not any(set(text) & {"1", "x"} for name, text in given.items() if name.startswith("INITVAL")), (
        given
    )
    parts = [f".clk({bit_of(wires['CLKA'])}), .doa(doa{number}), .dob(dob{number})"]
    for side in "AB":
        assert bit_of(wires.get(f"RST{side}")) == "1'b0", wires
        parts += [
            f".ad{side.lower()}({_bus(cell, f'AD{side}', 14)}), .di{side.lower()}({_bus(cell, f'DI{side}', 18)})"
        ]
        parts += [
            f".{name.lower()}{side.lower()}({bit_of(wires.get(name + side))})" for name in ("CE", "WE", "OCE")
        ]
    registers = ", ".join(f".REG_{side}({int(given[f'REGMODE_{side}'] == 'OUTREG')})" for side in "AB")
    outputs = _outputs(number, "doa", cell, "DOA", 18) + _outputs(number, "dob", cell, "DOB", 18)
    return f"{outputs}nmc_ebr #(.W({widths.pop()}), {registers}) cell{number} ({', '.join(parts)});\n"


def _multiplier(number: int, cell: Cell) -> str:
    wires = cell["connections"]
    clocks = {
        cell["parameters"].get(f"REG_{name}_CLK", "NONE")
        for name in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
    }
    assert clocks == {"NONE"}, cell["parameters"]
    return (
        f"{_outputs(number, 'p', cell, 'P', 36)}nmc_mult cell{number} (.a({_bus(cell, 'A', 18)}), "
        f".b({_bus(cell, 'B', 18)}), .signed_a({bit_of(wires['SIGNEDA'])}), .signed_b({bit_of(wires['SIGNEDB'])}), "
        f".p(p{number}));\n"
    )
