// A block RAM: one write port, one read port of two clocks (block RAMs are slow without their output register).
// `re` moves both read stages. A read that meets a write of the same row is never used: no bypass is needed.
// INIT names what it holds at first: file INIT + PART (two digits) + .hex, whose rows are a multiple of 64, so that
// each column of a block RAM can be told from all others when contents are exchanged (targets/fpga/synth/swap.py).
// ONE: a single port that writes or reads, for the large RAMs of an iCE40.
module nmc_ram #(
    parameter int W = 32,
    parameter int DEPTH = 256,
    parameter int AW = DEPTH <= 2 ? 1 : $clog2(DEPTH),
    parameter INIT = "",
    parameter int PART = 0,
    parameter int ONE = 0
) (
    input  logic          clk,
    input  logic          we,
    input  logic [AW-1:0] waddr,
    input  logic [W-1:0]  wdata,
    input  logic          re,
    input  logic [AW-1:0] raddr,
    output logic [W-1:0]  rdata
);
    localparam int ROWS = INIT == "" ? DEPTH : (DEPTH + 63) / 64 * 64;
    logic [W-1:0] first;

    if (ONE != 0) begin : g_one
        (* ram_style = "huge" *)
        logic [W-1:0]  mem [0:DEPTH-1];
        logic [AW-1:0] addr;
        assign addr = we ? waddr : raddr;
        always_ff @(posedge clk)
            if (we) mem[addr] <= wdata;
            else if (re) first <= mem[addr];
    end else begin : g_two
        (* no_rw_check *)
        logic [W-1:0] mem [0:ROWS-1];
        always_ff @(posedge clk) if (we) mem[waddr] <= wdata;
        always_ff @(posedge clk) if (re) first <= mem[raddr];
        if (INIT != "") begin : g_init
            initial $readmemh({INIT, 8'(48 + PART / 10), 8'(48 + PART % 10), ".hex"}, mem);
        end
    end
    always_ff @(posedge clk) if (re) rdata <= first;
endmodule
