// A block RAM: one write port, one read port of two clocks (block RAMs are slow without their output register).
// `re` moves both read stages. A read that meets a write of the same row is never used: no bypass is needed.
module nmc_ram #(
    parameter int W = 32,
    parameter int DEPTH = 256,
    parameter int AW = DEPTH <= 2 ? 1 : $clog2(DEPTH)
) (
    input  logic          clk,
    input  logic          we,
    input  logic [AW-1:0] waddr,
    input  logic [W-1:0]  wdata,
    input  logic          re,
    input  logic [AW-1:0] raddr,
    output logic [W-1:0]  rdata
);
    (* no_rw_check *)
    logic [W-1:0] mem [0:DEPTH-1];
    logic [W-1:0] first;

    always_ff @(posedge clk) if (we) mem[waddr] <= wdata;

    always_ff @(posedge clk)
        if (re) begin
            first <= mem[raddr];
            rdata <= first;
        end
endmodule
