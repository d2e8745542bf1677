// What a leak leaves, two clocks: LEAK 0 all; 1 value * keep / 4096, cut towards zero; 2 value - (value >>> keep).
module nmc_leak #(
    parameter int VB = 20, LEAK = 1
) (
    input  logic                 clk,
    input  logic signed [VB-1:0] value7,
    input  logic        [12:0]   keep7,
    output logic signed [VB-1:0] kept9
);
    if (LEAK == 1) begin : g_multiply
        logic signed [VB+13:0] product9;
        logic                  up9;
        if (VB <= 18) begin : g_one
            // one multiplier of 18 x 18 bits
            // kept: ice40_dsp of Yosys 0.70 loses a product of at most 16 bits that two registers follow
            (* keep *) logic signed [VB+13:0] product8;
            always_ff @(posedge clk) begin
                product8 <= value7 * $signed({1'b0, keep7});
                product9 <= product8;
            end
        end else begin : g_two
            // two multipliers, summed a clock later
            logic signed [31:0]    low8;
            logic signed [VB-4:0]  high8;
            always_ff @(posedge clk) begin
                low8     <= $signed({1'b0, value7[16:0]}) * $signed({1'b0, keep7});
                high8    <= $signed(value7[VB-1:17]) * $signed({1'b0, keep7});
                product9 <= (VB+14)'(low8) + $signed({high8, 17'd0});
            end
        end
        assign up9   = product9[VB+13] && product9[11:0] != 0;
        assign kept9 = product9[VB+11:12] + VB'(up9);
    end else if (LEAK == 2) begin : g_shift
        // apart from the choice below: beside an unsigned '0 the shift would not be arithmetic
        logic signed [VB-1:0] lost7, lost8, lost9, value8, value9;
        assign lost7 = value7 >>> keep7[3:0];
        always_ff @(posedge clk) begin
            lost8 <= keep7[3:0] == 0 ? '0 : lost7;
            lost9 <= lost8;
            value8 <= value7;
            value9 <= value8;
        end
        assign kept9 = value9 - lost9;
    end else begin : g_none
        logic signed [VB-1:0] value8, value9;
        always_ff @(posedge clk) begin
            value8 <= value7;
            value9 <= value8;
        end
        assign kept9 = value9;
    end
endmodule
