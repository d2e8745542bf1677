// What a leak leaves, one clock: LEAK 0 all; 1 value * keep / 4096, cut towards zero; 2 value - (value >>> keep).
module nmc_leak #(
    parameter int VB = 20, LEAK = 1
) (
    input  logic                 clk,
    input  logic signed [VB-1:0] value7,
    input  logic        [12:0]   keep7,
    input  logic                 clear8,
    output logic signed [VB-1:0] kept8
);
    logic signed [VB-1:0] value8;
    always_ff @(posedge clk) value8 <= value7;

    if (LEAK == 1) begin : g_multiply
        logic signed [VB+13:0] product8;
        logic                  up8;
        always_ff @(posedge clk) product8 <= value7 * $signed({1'b0, keep7});
        assign up8   = product8[VB+13] && product8[11:0] != 0;
        assign kept8 = clear8 ? value8 : product8[VB+11:12] + VB'(up8);
    end else if (LEAK == 2) begin : g_shift
        logic signed [VB-1:0] lost8;
        always_ff @(posedge clk)
            if (keep7[3:0] == 0) lost8 <= '0;
            else lost8 <= value7 >>> keep7[3:0];
        assign kept8 = clear8 ? value8 : value8 - lost8;
    end else begin : g_none
        assign kept8 = value8;
    end
endmodule
