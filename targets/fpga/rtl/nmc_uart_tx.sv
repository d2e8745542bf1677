// 8N1 transmitter.
module nmc_uart_tx #(
    parameter int DIVIDER = 100
) (
    input  logic       clk,
    input  logic       rst,
    input  logic       valid,
    output logic       ready,
    input  logic [7:0] octet,
    output logic       tx
);
    localparam int W = $clog2(DIVIDER + 1);
    logic [9:0]   bits;
    logic [3:0]   left;
    logic [W-1:0] wait_left;
    assign ready = left == 0;
    assign tx    = bits[0];
    always_ff @(posedge clk)
        if (rst) begin
            bits <= '1;
            left <= '0;
        end else if (left == 0) begin
            if (valid) begin
                bits      <= {1'b1, octet, 1'b0};
                left      <= 4'd10;
                wait_left <= W'(DIVIDER - 1);
            end
        end else if (wait_left != 0) wait_left <= wait_left - 1'b1;
        else begin
            wait_left <= W'(DIVIDER - 1);
            bits      <= {1'b1, bits[9:1]};
            left      <= left - 1'b1;
        end
endmodule
