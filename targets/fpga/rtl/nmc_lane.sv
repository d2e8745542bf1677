// The arithmetic of one lane. Law: targets/fpga/ops.py. Names end in the stage in which the value stands.
// Events: weight and payload at stage 3, state row at 4, new state at 5.
// Ticks: state row at stage 2, class at 4 to 7, what fires at 7, new state at 10.
module nmc_lane #(
    parameter int WB = 8, VB = 20, CB = 8, BB = 0, TB = 0, PB = 2, LEAK = 1, STBIF = 1, CUBA = 0, LATE = 1
) (
    input  logic                 clk,
    // events
    input  logic signed [WB-1:0] weight3,
    input  logic signed [PB-1:0] payload3,
    input  logic                 valid4,        // else what would be written is zero: writers are joined by OR
    // state as read: at stage 4 of events, stage 2 of ticks
    input  logic signed [VB-1:0] v,
    input  logic        [CB-1:0] c,
    input  logic signed [VB-1:0] i,
    output logic signed [VB-1:0] v5,
    output logic        [CB-1:0] c5,
    output logic signed [VB-1:0] i5,
    // ticks: own parameters at stage 2, those of the class where they are needed
    input  logic signed [(BB > 0 ? BB : 1)-1:0] own_bias2,
    input  logic        [(TB > 0 ? TB : 1)-1:0] own_theta2,
    input  logic                 clear3, biased4, signed4,
    input  logic signed [VB-1:0] bias4, reset_to4,
    input  logic        [VB-2:0] theta5,
    input  logic        [CB-1:0] limit5,
    input  logic                 strict5, signed5,
    input  logic signed [VB-1:0] reset_to6,
    input  logic        [CB-1:0] limit6,
    input  logic        [1:0]    reset6,
    input  logic                 late_reset6, signed6, window6,
    input  logic        [12:0]   keep7, keep_i7,
    input  logic                 valid9,
    output logic                 up7, down7,
    output logic signed [VB-1:0] after7,
    output logic                 saturated5,
    output logic signed [VB-1:0] v10,
    output logic        [CB-1:0] c10,
    output logic signed [VB-1:0] i10
);
    // ---- events: modulo 2**VB
    logic signed [WB+PB-1:0] product4;
    logic signed [VB-1:0]    addend4;
    if (WB + PB > VB) begin : g_narrow
        assign addend4 = product4[VB-1:0];
    end else begin : g_wide
        assign addend4 = VB'(product4);
    end
    always_ff @(posedge clk) begin
        product4 <= weight3 * payload3;
        c5 <= valid4 ? c : '0;
        if (CUBA != 0) begin
            v5 <= valid4 ? v : '0;
            i5 <= valid4 ? i + addend4 : '0;
        end else begin
            v5 <= valid4 ? v + addend4 : '0;
            i5 <= 0;
        end
    end

    // ---- ticks, stage 2 to 4: the row waits for its class; what is cleared is zero from here on
    logic signed [VB-1:0] v3, v4, i3, i4, i5t, i7;
    logic        [CB-1:0] c3, c4, c5t, c7, c8, c9;
    logic signed [(BB > 0 ? BB : 1)-1:0] own_bias3, own_bias4;
    logic        [(TB > 0 ? TB : 1)-1:0] own_theta3, own_theta4, own_theta5;
    always_ff @(posedge clk) begin
        v3 <= v;
        v4 <= clear3 ? '0 : v3;
        i3 <= i;
        i4 <= clear3 ? '0 : i3;
        c3 <= c;
        c4 <= clear3 ? '0 : c3;
        own_bias3 <= own_bias2;
        own_bias4 <= own_bias3;
        own_theta3 <= own_theta2;
        own_theta4 <= own_theta3;
        own_theta5 <= own_theta4;
    end

    // ---- stage 4: sum and saturation, hold while refractory; the first value when cleared
    logic signed [VB-1:0] bias_in4;
    logic signed [VB+1:0] sum4;
    logic                 beyond4, hold4, above4, below4;
    if (BB > 0) begin : g_own_bias
        assign bias_in4 = biased4 ? VB'(own_bias4) : '0;
    end else begin : g_class_bias
        assign bias_in4 = biased4 ? bias4 : '0;
    end
    if (CUBA != 0) begin : g_current
        assign sum4 = (VB+2)'(v4) + (VB+2)'(i4) + (VB+2)'(bias_in4);
    end else begin : g_direct
        assign sum4 = (VB+2)'(v4) + (VB+2)'(bias_in4);
    end
    assign beyond4  = sum4[VB+1:VB-1] != {3{sum4[VB+1]}};
    assign hold4    = c4 != 0 && !(STBIF != 0 && signed4);
    logic signed [VB-1:0] s5;
    logic                 hold5;
    assign above4 = beyond4 && !hold4 && !sum4[VB+1];
    assign below4 = beyond4 && !hold4 && sum4[VB+1];
    always_ff @(posedge clk) begin
        // all ones below the sign, or all zeros (by the reset of the flip-flops): a LUT a bit
        s5[VB-1]   <= hold4 ? reset_to4[VB-1] : sum4[VB+1];
        s5[VB-2:0] <= below4 ? '0 : (hold4 ? reset_to4[VB-2:0] : sum4[VB-2:0]) | {(VB-1){above4}};
        saturated5 <= beyond4;
        hold5      <= hold4;
        c5t        <= c4;
        i5t        <= i4;
    end

    // ---- stage 5: compare, and what a spike would leave
    logic signed [VB-1:0] theta, theta6, s6, moved5, moved6;
    logic                 signed_now5, negative5, may_up6, may_down6;
    logic        [CB-1:0] c6;
    logic signed [VB-1:0] i6;
    if (TB > 0) begin : g_own_theta
        assign theta = VB'({1'b0, own_theta5});
    end else begin : g_class_theta
        assign theta = {1'b0, theta5};
    end
    assign signed_now5 = STBIF != 0 && signed5;
    assign negative5   = s5[VB-1];
    // of two numbers that are not negative the difference fits: its sign is the comparison
    assign moved5      = signed_now5 && negative5 ? s5 + theta : s5 - theta;
    always_ff @(posedge clk) begin
        may_up6   <= !hold5 && !negative5 && !moved5[VB-1] && !(strict5 && s5 == theta)
                     && !(signed_now5 && c5t >= limit5);
        may_down6 <= signed_now5 && negative5 && c5t != 0;
        moved6    <= moved5;
        theta6    <= theta;
        s6        <= s5;
        c6        <= c5t;
        i6        <= i5t;
    end

    // ---- stage 6: reset
    logic is_signed, up6, down6;
    assign is_signed = STBIF != 0 && signed6;
    assign up6       = may_up6 && window6;
    assign down6     = may_down6 && window6;
    always_ff @(posedge clk) begin
        up7    <= up6;
        down7  <= down6;
        after7 <= down6 || (up6 && (is_signed || (reset6 == 1 && !late_reset6))) ? moved6
                  : up6 && !is_signed && reset6 == 2 ? reset_to6 : s6;
        c7     <= is_signed ? (up6 ? c6 + 1'b1 : down6 ? c6 - 1'b1 : c6)
                  : up6 ? limit6 : c6 != 0 ? c6 - 1'b1 : '0;
        i7     <= i6;
    end

    // ---- stages 7 to 9: leak, and what is subtracted after it; nothing is left where nothing is to be written
    logic signed [VB-1:0] kept9, kept_i9;
    always_ff @(posedge clk) begin
        c8  <= c7;
        c9  <= c8;
        c10 <= valid9 ? c9 : '0;
        i10 <= CUBA != 0 && valid9 ? kept_i9 : '0;
    end
    if (LATE != 0) begin : g_late
        logic signed [VB-1:0] late7, late8, late9;
        always_ff @(posedge clk) begin
            late7 <= up6 && late_reset6 && !is_signed && reset6 == 1 ? theta6 : '0;
            late8 <= late7;
            late9 <= late8;
            v10   <= valid9 ? kept9 - late9 : '0;
        end
    end else begin : g_never_late
        always_ff @(posedge clk) v10 <= valid9 ? kept9 : '0;
    end
    nmc_leak #(.VB(VB), .LEAK(LEAK)) leak_v (.clk, .value7(after7), .keep7, .kept9(kept9));
    if (CUBA != 0) begin : g_leak_i
        nmc_leak #(.VB(VB), .LEAK(LEAK)) leak_i (.clk, .value7(i7), .keep7(keep_i7), .kept9(kept_i9));
    end else begin : g_no_leak_i
        assign kept_i9 = '0;
    end
endmodule
