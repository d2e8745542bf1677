// 8N1 receiver: samples in the middle of each bit. `valid` for one clock; `broken` where the stop bit is missing.
module nmc_uart_rx #(
    parameter int DIVIDER = 100     // clocks a bit, at least 4
) (
    input  logic       clk,
    input  logic       rst,
    input  logic       rx,
    output logic       valid,
    output logic       broken,
    output logic [7:0] octet
);
    localparam int W = $clog2(DIVIDER + 1);
    logic [2:0]   line;
    logic [W-1:0] wait_left;
    logic [3:0]   bits;
    logic         running;
    always_ff @(posedge clk) begin
        valid  <= 0;
        broken <= 0;
        if (rst) begin
            line    <= '1;
            running <= 0;
        end else begin
            line <= {line[1:0], rx};
            if (!running) begin
                if (!line[1] && line[2]) begin
                    running   <= 1;
                    bits      <= 0;
                    wait_left <= W'(DIVIDER / 2 - 1);
                end
            end else if (wait_left != 0) wait_left <= wait_left - 1'b1;
            else begin
                wait_left <= W'(DIVIDER - 1);
                bits      <= bits + 1'b1;
                if (bits == 0) running <= !line[1];          // a start bit lasts
                else if (bits <= 8) octet <= {line[1], octet[7:1]};
                else begin
                    running <= 0;
                    valid   <= line[1];
                    broken  <= !line[1];
                end
            end
        end
    end
endmodule
