// Pair-based learning with nearest neighbours, done when an event of a learning axon passes its weights.
// Law: targets/fpga/learning.py. Times are ticks + 1; 0 is never.
module nmc_stdp #(
    parameter int LANES = 4, AXONS = 256, RB = 14,
    parameter int XB = AXONS <= 2 ? 1 : $clog2(AXONS)
) (
    input  logic                clk,
    input  logic                rst,
    input  logic [15:0]         tick,
    input  logic [23:0]         cost,       // potentiation 15..8, depression 7..0
    input  logic [23:0]         reach,      // potentiation 23..12, depression 11..0
    // events: fetched, loaded, taken by the walker; stages as in nmc_core
    input  logic [XB-1:0]       fetch_axon,
    input  logic                load, learn, take, en,
    input  logic [RB-1:0]       row,
    input  logic                valid4,
    input  logic [LANES*9-1:0]  weights3,
    input  logic [LANES*16-1:0] seen,       // as read: stage 4 of events, stage 2 of ticks
    // ticks
    input  logic [LANES-1:0]    up7,
    input  logic                clear7, valid9, go_clear,
    output logic [LANES*16-1:0] seen5, seen10,
    output logic                next_learns, learning, clearing,
    // memories
    input  logic                bus_re,
    input  logic [23:0]         bus_row,
    input  logic                bus_weight_we, bus_trace_we,
    input  logic [LANES*9-1:0]  bus_wdata,
    output logic [15:0]         trace,
    output logic                weight_we,
    output logic [RB-1:0]       weight_waddr,
    output logic [LANES*9-1:0]  weight_wdata
);
    // ---- time of the last event of each axon
    logic [15:0]   now, n_trace, w_trace;
    logic [XB-1:0] clear_axon;
    assign now = tick + 16'd1;
    nmc_ram #(.W(16), .DEPTH(AXONS)) traces (
        .clk, .we(clearing || bus_trace_we || (load && learn)),
        .waddr(clearing ? clear_axon : bus_trace_we ? bus_row[XB-1:0] : fetch_axon),
        .wdata(clearing ? 16'd0 : bus_trace_we ? bus_wdata[15:0] : now),
        .re(1'b1), .raddr(bus_re ? bus_row[XB-1:0] : fetch_axon), .rdata(trace));
    always_ff @(posedge clk)
        if (rst) clearing <= 0;
        else if (go_clear) clearing <= 1;
        else if (clear_axon == XB'(AXONS - 1)) clearing <= 0;
    always_ff @(posedge clk) clear_axon <= clearing ? clear_axon + 1'b1 : '0;
    always_ff @(posedge clk)
        if (rst) {next_learns, learning} <= '0;
        else begin
            if (load) next_learns <= learn;
            if (take) learning <= next_learns;
        end
    always_ff @(posedge clk) begin
        if (load) n_trace <= trace;
        if (take) w_trace <= n_trace;
    end

    // ---- weights: changed at stage 4, written at 5
    logic [RB-1:0]       row1, row2, row2r, row3, row4;
    logic [LANES*9-1:0]  weights4, weights5, changed4;
    logic                write5;
    logic [RB-1:0]       row5;
    always_ff @(posedge clk) begin
        if (en) {row1, row2, row2r} <= {row, row1, row2};
        row3     <= row2r;
        row4     <= row3;
        row5     <= row4;
        weights4 <= weights3;
        weights5 <= changed4;
        seen5    <= valid4 ? seen : '0;
        write5   <= valid4 && learning;
    end
    for (genvar n = 0; n < LANES; n++) begin : g_lane
        logic [15:0]        post, age, lead;
        logic               depress, potentiate;
        logic signed [10:0] moved;
        logic signed [7:0]  old;
        assign post       = seen[n*16+:16];
        assign old        = weights4[n*8+:8];
        assign age        = now - post;
        assign lead       = post - w_trace;
        assign depress    = weights4[LANES*8+n] && post != 0 && age <= {4'd0, reach[11:0]};
        assign potentiate = weights4[LANES*8+n] && post != 0 && w_trace != 0 && post >= w_trace
                            && lead <= {4'd0, reach[23:12]};
        assign moved      = 11'(old) + (potentiate ? $signed({3'd0, cost[15:8]}) : 11'sd0)
                            - (depress ? $signed({3'd0, cost[7:0]}) : 11'sd0);
        assign changed4[n*8+:8]    = moved > 127 ? 8'h7F : moved < -128 ? 8'h80 : moved[7:0];
        assign changed4[LANES*8+n] = weights4[LANES*8+n];
    end
    assign weight_we    = bus_weight_we || write5;
    assign weight_waddr = write5 ? row5 : bus_row[RB-1:0];
    assign weight_wdata = write5 ? weights5 : bus_wdata;

    // ---- time of the last spike of each neuron, ticks: stage 2 to 10
    logic [LANES*16-1:0] seen3, seen4, seen5t, seen6, seen7, seen8, seen9;
    always_ff @(posedge clk) begin
        {seen3, seen4, seen5t, seen6, seen7} <= {seen, seen3, seen4, seen5t, seen6};
        for (int n = 0; n < LANES; n++)
            seen8[n*16+:16] <= clear7 ? 16'd0 : up7[n] ? now : seen7[n*16+:16];
        seen9  <= seen8;
        seen10 <= valid9 ? seen9 : '0;
    end
endmodule
