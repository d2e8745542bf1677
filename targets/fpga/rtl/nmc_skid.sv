// Two places between a sender and a receiver far from each other: what either of them sees are flip-flops.
module nmc_skid #(
    parameter int W = 16
) (
    input  logic         clk,
    input  logic         rst,
    input  logic         in_valid,
    output logic         in_ready,
    input  logic [W-1:0] in,
    output logic         out_valid,
    input  logic         out_ready,
    output logic [W-1:0] out
);
    logic [W-1:0] spare;
    logic         accept, leaves;
    assign accept = in_valid && in_ready;
    assign leaves = !out_valid || out_ready;
    always_ff @(posedge clk)
        if (rst) begin
            in_ready  <= 1;
            out_valid <= 0;
        end else begin
            in_ready  <= leaves || (in_ready && !in_valid);
            out_valid <= !leaves || accept || !in_ready;
        end
    always_ff @(posedge clk) begin
        if (leaves) out <= in_ready ? in : spare;
        if (in_ready) spare <= in;
    end
endmodule
