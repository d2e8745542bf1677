// A small table: written by the host, read in the same clock (distributed RAM, or registers).
module nmc_table #(
    parameter int W = 32,
    parameter int DEPTH = 16,
    parameter int AW = DEPTH <= 2 ? 1 : $clog2(DEPTH)
) (
    input  logic          clk,
    input  logic          we,
    input  logic [AW-1:0] waddr,
    input  logic [W-1:0]  wdata,
    input  logic [AW-1:0] raddr,
    output logic [W-1:0]  rdata
);
    if (DEPTH <= 2) begin : g_registers
        // a mux of two is smaller than LUTs as memory
        logic [W-1:0] low, high;
        always_ff @(posedge clk)
            if (we && waddr[0]) high <= wdata;
            else if (we) low <= wdata;
        assign rdata = raddr[0] ? high : low;
    end else begin : g_memory
        logic [W-1:0] mem [0:DEPTH-1];
        always_ff @(posedge clk) if (we) mem[waddr] <= wdata;
        assign rdata = mem[raddr];
    end
endmodule
