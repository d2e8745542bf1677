// A queue in distributed RAM. `almost` is set while fewer than SLACK places are free.
module nmc_fifo #(
    parameter int W = 16,
    parameter int DEPTH = 16,
    parameter int SLACK = 1
) (
    input  logic         clk,
    input  logic         rst,
    input  logic         push,
    input  logic [W-1:0] in,
    input  logic         pop,
    output logic [W-1:0] out,
    output logic         valid,
    output logic         almost
);
    localparam int AW = $clog2(DEPTH);
    logic [W-1:0]  mem [0:DEPTH-1];
    logic [AW-1:0] head, tail;
    logic [AW:0]   count;

    assign out    = mem[head];
    assign valid  = count != 0;
    assign almost = count > (AW + 1)'(DEPTH - SLACK);

    always_ff @(posedge clk) if (push) mem[tail] <= in;

    always_ff @(posedge clk)
        if (rst) begin
            head  <= 0;
            tail  <= 0;
            count <= 0;
        end else begin
            if (push) tail <= tail + 1;
            if (pop) head <= head + 1;
            if (push && !pop) count <= count + 1;
            if (pop && !push) count <= count - 1;
        end
endmodule
