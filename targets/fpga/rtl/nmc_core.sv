// One core: synapses of events (phase A), neurons at the tick (phase B), one group of LANES a clock in both.
// Layout of the memories: targets/fpga/shape.py. The law: targets/fpga/ops.py.
module nmc_core #(
    parameter int LANES = 4, NEURONS = 256, AXONS = 256, WROWS = 16384, WB = 8, VB = 20, CB = 8, CLASSES = 16,
    parameter int GEOS = 16, BB = 0, TB = 0, PB = 2, LEAK = 1, SPARSE = 1, CONV = 1, STBIF = 1, CUBA = 0,
    parameter int LATE = 1, WINDOWS = 1, PROBES = 1, STDP = 0, FIFO = 16, MW = 160,
    parameter WINIT = "",            // first contents of the weights, and whether their RAM has one port (nmc_ram)
    parameter int PART = 0, ONE = 0,
    parameter int GROUPS = NEURONS / LANES,
    parameter int AB = AXONS <= 2 ? 1 : $clog2(AXONS),
    parameter int GB = GROUPS <= 2 ? 1 : $clog2(GROUPS)
) (
    input  logic                 clk,
    input  logic                 rst,
    // events
    input  logic                 ev_push,
    input  logic [AB-1:0]        ev_axon,
    input  logic signed [PB-1:0] ev_payload,
    output logic                 ev_full,
    // ticks
    input  logic                 go_tick,
    input  logic                 go_clear,
    input  logic [15:0]          tick,
    input  logic [GB-1:0]        last_group,
    input  logic [23:0]          cost, reach,
    input  logic                 probe_on,
    input  logic [GB-1:0]        probe_first, probe_last,
    output logic                 busy,
    // memories: host_re, host_row, bus_at stay until the word has come, five clocks later
    input  logic                 host_we,
    input  logic                 host_re,
    input  logic                 bus_here,      // this core is meant; the others answer zero
    input  logic [3:0]           host_space,
    input  logic [23:0]          host_row,
    input  logic [MW-1:0]        host_wdata,
    input  logic [5:0]           bus_at,
    output logic [31:0]          bus_rdata,
    // spikes (kind 0), first word (1) and membranes (2) of probes; `more`: the next one belongs to this one
    output logic                 out_valid,
    input  logic                 out_ready,
    output logic [1:0]           out_kind,
    output logic                 out_more,
    output logic [13:0]          out_index,
    output logic                 out_negative,
    output logic [31:0]          out_data,
    // statistics
    output logic                 did_event,
    output logic                 did_walk,
    output logic                 did_saturate
);
    localparam int RB = WROWS <= 2 ? 1 : $clog2(WROWS);
    localparam int EB = GEOS <= 2 ? 1 : $clog2(GEOS);
    localparam int KB = CLASSES <= 2 ? 1 : $clog2(CLASSES);
    localparam int XB = AXONS <= 2 ? 1 : $clog2(AXONS);
    localparam int LW = WB + (STDP != 0 ? 1 : 0);
    localparam int DESC = RB + GB + EB + 6 + 1 + (STDP != 0 ? 1 : 0);
    localparam int GEO_ALL = GB + 6 + 2 * GB + 2 * RB;
    localparam int GEO = CONV != 0 ? GEO_ALL : GB;
    // where the fields of a class begin: those that are not built take no bits
    localparam int C_BIAS = TB > 0 ? 0 : VB - 1;
    localparam int C_TO = C_BIAS + (BB > 0 ? 0 : VB);
    localparam int C_KEEP = C_TO + VB;
    localparam int C_KEEP_I = C_KEEP + (LEAK != 0 ? 13 : 0);
    localparam int C_LIMIT = C_KEEP_I + (LEAK != 0 && CUBA != 0 ? 13 : 0);
    localparam int C_RESET = C_LIMIT + CB;
    localparam int C_LATE = C_RESET + 3;
    localparam int C_SIGNED = C_LATE + (LATE != 0 ? 1 : 0);
    localparam int C_ONCE = C_SIGNED + (STBIF != 0 ? 1 : 0);
    localparam int C_OPEN = C_ONCE + 1;
    localparam int CLASS = C_OPEN + (WINDOWS != 0 ? 32 : 0);
    localparam int PARAM = KB + LANES * (BB + TB);
    localparam int CUR = CUBA != 0 ? VB : 0;
    localparam int SEEN = STDP != 0 ? 16 : 0;
    localparam int STATE = LANES * (VB + CB + CUR + SEEN);

    localparam logic [3:0] WEIGHTS = 0, GROUP_IDS = 1, AXON = 2, GEOMETRY = 3, CLASS_TABLE = 4, PARAMS = 5, STATES = 6,
        TRACES = 10;

    // ------------------------------------------------------------------ what the host writes and reads, a clock later:
    // the memories of a core lie far from the chip's machine, and each core has registers of its own
    logic          bus_we, bus_re;
    logic [3:0]    bus_space;
    logic [23:0]   bus_row;
    logic [MW-1:0] bus_wdata;
    always_ff @(posedge clk) begin
        bus_we <= !rst && bus_here && host_we;
        bus_re <= !rst && bus_here && host_re;
        if (bus_here) {bus_space, bus_row, bus_wdata} <= {host_space, host_row, host_wdata};
    end

    // ------------------------------------------------------------------ input queue
    logic                 ev_valid, ev_pop;
    logic [AB-1:0]        head_axon;
    logic signed [PB-1:0] head_payload;
    logic                 ev_almost;
    // one event may be on its way when the queue says, a clock late, that it is full
    nmc_fifo #(.W(AB + PB), .DEPTH(FIFO), .SLACK(2)) events (
        .clk, .rst, .push(ev_push), .in({ev_axon, ev_payload}), .pop(ev_pop), .out({head_axon, head_payload}),
        .valid(ev_valid), .almost(ev_almost));
    always_ff @(posedge clk) ev_full <= !rst && ev_almost;

    // ------------------------------------------------------------------ descriptor of the next event
    logic [1:0]      fetch;
    logic [DESC-1:0] desc;
    logic [GEO-1:0]  geo;
    logic [GEO_ALL-1:0] walk;
    logic [RB-1:0]   d_base;
    logic [GB-1:0]   d_first;
    logic [EB-1:0]   d_geo;
    logic [5:0]      d_ny;
    logic            d_sparse, d_learn;
    nmc_ram #(.W(DESC), .DEPTH(AXONS)) axons (
        .clk, .we(bus_we && bus_space == AXON), .waddr(bus_row[XB-1:0]), .wdata(bus_wdata[DESC-1:0]),
        .re(1'b1), .raddr(bus_re ? bus_row[XB-1:0] : head_axon), .rdata(desc));
    assign {d_sparse, d_ny, d_geo, d_first, d_base} = desc[RB+GB+EB+6:0];
    if (STDP != 0) begin : g_learn
        assign d_learn = desc[DESC-1];
    end else begin : g_no_learn
        assign d_learn = 1'b0;
    end
    nmc_table #(.W(GEO), .DEPTH(GEOS)) geometries (
        .clk, .we(bus_we && bus_space == GEOMETRY), .waddr(bus_row[EB-1:0]), .wdata(bus_wdata[GEO-1:0]),
        .raddr(bus_re ? bus_row[EB-1:0] : d_geo), .rdata(geo));
    assign walk = GEO_ALL'(geo);

    logic                 n_valid, n_sparse, n_learn, w_take;
    logic [RB-1:0]        n_row, n_dwx, n_dwy;
    logic [GB-1:0]        n_group, n_len, n_dgx, n_dgy;
    logic [5:0]           n_nx, n_ny;
    logic signed [PB-1:0] n_payload;
    logic                 load_next, is_sparse;
    assign is_sparse = SPARSE != 0 && d_sparse;
    assign load_next = fetch == 2 && (!n_valid || w_take);
    assign ev_pop    = load_next;
    assign did_event = load_next;
    always_ff @(posedge clk)
        if (rst) begin
            fetch   <= 0;
            n_valid <= 0;
        end else begin
            if (fetch != 2) fetch <= ev_valid && !bus_re ? fetch + 1'b1 : '0;
            else if (load_next) fetch <= 0;
            if (load_next) n_valid <= d_ny != 0;
            else if (w_take) n_valid <= 0;
        end
    always_ff @(posedge clk)
        if (load_next) begin
            n_sparse  <= is_sparse;
            n_row     <= d_base;
            n_group   <= is_sparse ? '0 : d_first;
            n_len     <= is_sparse ? d_first : walk[GB-1:0];
            n_nx      <= is_sparse || CONV == 0 ? 6'd0 : walk[GB+:6];
            n_ny      <= is_sparse || CONV == 0 ? 6'd0 : d_ny - 6'd1;
            n_dgx     <= walk[GB+6+:GB];
            n_dgy     <= walk[2*GB+6+:GB];
            n_dwx     <= walk[3*GB+6+:RB];
            n_dwy     <= walk[3*GB+6+RB+:RB];
            n_payload <= head_payload;
        end

    // ------------------------------------------------------------------ walk: stage 0 is the walker itself
    logic                 w_valid, w_sparse, w_learn, en, quiet;
    logic [RB-1:0]        w_row, w_dwx, w_dwy;
    logic [GB-1:0]        w_group, w_k, w_len, w_dgx, w_dgy;
    logic [5:0]           w_j, w_nx, w_i;
    logic signed [PB-1:0] w_payload;
    logic                 last_k, last_j, last;
    assign last_k = w_k == 0;
    assign last_j = last_k && (CONV == 0 || w_j == 0);
    assign last   = last_j && (CONV == 0 || w_i == 0);
    // an event that learns starts when all before it is done: its weights may be those of the event before
    assign w_take = n_valid && en && (!w_valid || last) && (!(n_learn || w_learn) || quiet);
    always_ff @(posedge clk)
        if (rst) w_valid <= 0;
        else if (w_take) w_valid <= 1;
        else if (en && last) w_valid <= 0;
    always_ff @(posedge clk)
        if (w_take) begin
            w_sparse  <= n_sparse;
            w_row     <= n_row;
            w_group   <= n_group;
            w_k       <= n_len;
            w_len     <= n_len;
            w_j       <= n_nx;
            w_nx      <= n_nx;
            w_i       <= n_ny;
            w_dgx     <= n_dgx;
            w_dgy     <= n_dgy;
            w_dwx     <= n_dwx;
            w_dwy     <= n_dwy;
            w_payload <= n_payload;
        end else if (en && w_valid) begin
            w_row   <= w_row + (!last_k || CONV == 0 ? RB'(1) : last_j ? w_dwy : w_dwx);
            w_group <= w_group + (!last_k || CONV == 0 ? GB'(1) : last_j ? w_dgy : w_dgx);
            w_k     <= last_k ? w_len : w_k - 1'b1;
            if (CONV != 0 && last_k) w_j <= last_j ? w_nx : w_j - 1'b1;
            if (CONV != 0 && last_j) w_i <= w_i - 1'b1;
        end

    logic                weight_we, clearing;
    logic [RB-1:0]       weight_waddr;
    logic [LANES*LW-1:0] weight_wdata;
    logic [15:0]         trace;
    // stages 1 and 2: weights and group numbers come; 2r: they are compared with the groups in work
    logic                  v1, v2, v2r, v3, v4, v5, s1, s2, clash;
    logic [GB-1:0]         g1, g2, g2r, g2_dense, g3, g4, g5, id2;
    logic signed [PB-1:0]  p1, p2, p2r, p3;
    logic [LANES*LW-1:0]   weights2, weights2r, weights3;
    nmc_ram #(.W(LANES * LW), .DEPTH(WROWS), .INIT(WINIT), .PART(PART), .ONE(STDP != 0 ? 0 : ONE)) weights (
        .clk, .we(weight_we), .waddr(weight_waddr), .wdata(weight_wdata),
        .re(en || bus_re), .raddr(bus_re ? bus_row[RB-1:0] : w_row), .rdata(weights2));
    if (SPARSE != 0) begin : g_ids
        nmc_ram #(.W(GB), .DEPTH(WROWS)) group_ids (
            .clk, .we(bus_we && bus_space == GROUP_IDS), .waddr(bus_row[RB-1:0]), .wdata(bus_wdata[GB-1:0]),
            .re(en || bus_re), .raddr(bus_re ? bus_row[RB-1:0] : w_row), .rdata(id2));
    end else begin : g_no_ids
        assign id2 = '0;
    end
    assign g2 = SPARSE != 0 && s2 ? id2 : g2_dense;
    // a group in work cannot be read: wait. Whether the next row must is found a clock before it comes
    logic clash_next, clash_still;
    assign clash_next  = v2 && ((v2r && g2r == g2) || (v3 && g3 == g2) || (v4 && g4 == g2));
    assign clash_still = (v3 && g3 == g2r) || (v4 && g4 == g2r);
    assign en          = !clash;
    always_ff @(posedge clk) clash <= !rst && (en ? clash_next : clash_still);
    assign quiet = !(w_valid || v1 || v2 || v2r || v3 || v4 || v5);
    always_ff @(posedge clk)
        if (rst) {v1, v2, v2r, v3, v4, v5} <= '0;
        else begin
            if (en) {v1, v2, v2r} <= {w_valid, v1, v2};
            v3 <= v2r && en;
            v4 <= v3;
            v5 <= v4;
        end
    always_ff @(posedge clk) begin
        if (en) begin
            g1       <= w_group;
            g2_dense <= g1;
            s1       <= w_sparse;
            s2       <= s1;
            p1       <= w_payload;
            p2       <= p1;
            g2r       <= g2;
            p2r       <= p2;
            weights2r <= weights2;
        end
        g3       <= g2r;
        g4       <= g3;
        g5       <= v4 ? g4 : '0;     // zero where nothing is written: writers are joined by OR
        p3       <= p2r;
        weights3 <= weights2r;
    end
    assign did_walk = v5;

    // ------------------------------------------------------------------ walk of a tick
    logic          b_run, b_clear, begins, clears, fires_almost;
    logic [GB-1:0] b_group;
    logic [10:1]   tv;
    logic [6:1]    tc;
    logic [GB-1:0] tg [1:10];
    logic          issue;
    assign issue = b_run && !fires_almost;
    always_ff @(posedge clk)
        if (rst) begin
            b_run  <= 0;
            begins <= 0;
            tv     <= '0;
        end else begin
            begins <= go_tick || go_clear;
            if (begins) b_run <= 1;
            else if (issue && b_group == (b_clear ? GB'(GROUPS - 1) : last_group)) b_run <= 0;
            tv <= {tv[9:1], issue};
        end
    always_ff @(posedge clk) begin
        clears <= go_clear;
        if (begins) begin
            b_group <= '0;
            b_clear <= clears;
        end else if (issue) b_group <= b_group + 1'b1;
        tc    <= {tc[5:1], b_clear};
        tg[1] <= b_group;
        for (int k = 2; k <= 9; k++) tg[k] <= tg[k-1];
        tg[10] <= tv[9] ? tg[9] : '0;
    end

    // ------------------------------------------------------------------ parameters and classes
    logic [PARAM-1:0] param2;
    logic [KB-1:0]    class2;
    logic [CLASS-1:0] class_row, class3;
    nmc_ram #(.W(PARAM), .DEPTH(GROUPS)) params (
        .clk, .we(bus_we && bus_space == PARAMS), .waddr(bus_row[GB-1:0]), .wdata(bus_wdata[PARAM-1:0]),
        .re(1'b1), .raddr(bus_re ? bus_row[GB-1:0] : b_group), .rdata(param2));
    assign class2 = param2[KB-1:0];
    nmc_table #(.W(CLASS), .DEPTH(CLASSES)) classes (
        .clk, .we(bus_we && bus_space == CLASS_TABLE), .waddr(bus_row[KB-1:0]), .wdata(bus_wdata[CLASS-1:0]),
        .raddr(bus_re ? bus_row[KB-1:0] : class2), .rdata(class_row));
    logic [VB-2:0]        theta3, theta4, theta5;
    logic signed [VB-1:0] bias3, bias4, to3, to4, to5, to6;
    logic [12:0]          keep3, keep4, keep5, keep6, keep7, keep_i3, keep_i4, keep_i5, keep_i6, keep_i7;
    logic [CB-1:0]        limit3, limit4, limit5, limit6;
    logic [1:0]           reset3, reset4, reset5, reset6;
    logic                 strict3, late3, signed3, once3, strict4, late4, signed4, strict5, late5, signed5;
    logic                 late6, signed6;
    logic [15:0]          open3, close3;
    logic                 begun3, biased4, window4, window5, window6, clear7;
    localparam logic [12:0] ALL_KEPT = LEAK == 1 ? 13'd4096 : 13'd0;
    if (TB > 0) begin : g_no_theta
        assign theta3 = '0;
    end else begin : g_theta
        assign theta3 = class3[VB-2:0];
    end
    if (BB > 0) begin : g_no_bias
        assign bias3 = '0;
    end else begin : g_bias
        assign bias3 = class3[C_BIAS+:VB];
    end
    assign to3 = class3[C_TO+:VB];
    if (LEAK != 0) begin : g_keep
        assign keep3 = class3[C_KEEP+:13];
    end else begin : g_no_keep
        assign keep3 = '0;
    end
    if (LEAK != 0 && CUBA != 0) begin : g_keep_i
        assign keep_i3 = class3[C_KEEP_I+:13];
    end else begin : g_no_keep_i
        assign keep_i3 = '0;
    end
    assign limit3  = class3[C_LIMIT+:CB];
    assign reset3  = class3[C_RESET+:2];
    assign strict3 = class3[C_RESET+2];
    assign late3   = LATE != 0 && class3[C_LATE];
    assign signed3 = STBIF != 0 && class3[C_SIGNED];
    assign once3   = class3[C_ONCE];
    if (WINDOWS != 0) begin : g_window
        assign {close3, open3} = class3[C_OPEN+:32];
        assign begun3 = tick >= open3;
    end else begin : g_always
        assign {close3, open3, begun3} = {16'hFFFF, 16'd0, 1'b1};
    end
    always_ff @(posedge clk) begin
        class3  <= class_row;
        biased4 <= tc[3] ? once3 : begun3 && !once3;
        window4 <= begun3 && (tick < close3 || close3 == 16'hFFFF);
        {theta4, bias4, to4, keep4, keep_i4, limit4} <= {theta3, bias3, to3, keep3, keep_i3, limit3};
        {reset4, strict4, late4, signed4} <= {reset3, strict3, late3, signed3};
        {theta5, to5, keep5, keep_i5, limit5} <= {theta4, to4, keep4, keep_i4, limit4};
        {reset5, strict5, late5, signed5, window5} <= {reset4, strict4, late4, signed4, window4};
        {to6, keep6, keep_i6, limit6} <= {to5, keep5, keep_i5, limit5};
        {reset6, late6, signed6, window6} <= {reset5, late5, signed5, window5 && !tc[5]};
        // what is cleared is kept as it is
        keep7   <= tc[6] ? ALL_KEPT : keep6;
        keep_i7 <= tc[6] ? ALL_KEPT : keep_i6;
        clear7  <= tc[6];
    end

    // ------------------------------------------------------------------ state and lanes
    logic [STATE-1:0]    state, state5, state10;
    logic [LANES-1:0]    up7, down7, saturated5;
    logic [LANES*VB-1:0] after7;
    nmc_ram #(.W(STATE), .DEPTH(GROUPS)) states (
        .clk, .we(v5 || tv[10] || (bus_we && bus_space == STATES)),
        .waddr(g5 | tg[10] | (bus_we ? bus_row[GB-1:0] : '0)),
        .wdata(state5 | state10 | (bus_we ? bus_wdata[STATE-1:0] : '0)),
        .re(1'b1), .raddr(bus_re ? bus_row[GB-1:0] : b_run ? b_group : g2r), .rdata(state));
    for (genvar n = 0; n < LANES; n++) begin : g_lane
        logic signed [VB-1:0] i_in, i5, i10;
        logic signed [(BB > 0 ? BB : 1)-1:0] own_bias;
        logic        [(TB > 0 ? TB : 1)-1:0] own_theta;
        if (BB > 0) begin : g_bias
            assign own_bias = param2[KB+n*BB+:BB];
        end else begin : g_no_bias
            assign own_bias = '0;
        end
        if (TB > 0) begin : g_theta
            assign own_theta = param2[KB+LANES*BB+n*TB+:TB];
        end else begin : g_no_theta
            assign own_theta = '0;
        end
        if (CUBA != 0) begin : g_current
            assign i_in = state[LANES*(VB+CB)+n*VB+:VB];
            assign state5[LANES*(VB+CB)+n*VB+:VB] = i5;
            assign state10[LANES*(VB+CB)+n*VB+:VB] = i10;
        end else begin : g_direct
            assign i_in = '0;
        end
        nmc_lane #(.WB(WB), .VB(VB), .CB(CB), .BB(BB), .TB(TB), .PB(PB), .LEAK(LEAK), .STBIF(STBIF), .CUBA(CUBA),
                   .LATE(LATE)) lane (
            .clk, .weight3(weights3[n*WB+:WB]), .payload3(p3), .valid4(v4),
            .v(state[n*VB+:VB]), .c(state[LANES*VB+n*CB+:CB]), .i(i_in),
            .v5(state5[n*VB+:VB]), .c5(state5[LANES*VB+n*CB+:CB]), .i5(i5),
            .own_bias2(own_bias), .own_theta2(own_theta), .clear3(tc[3]), .biased4, .signed4, .bias4, .reset_to4(to4),
            .theta5, .limit5, .strict5, .signed5, .reset_to6(to6), .limit6, .reset6, .late_reset6(late6), .signed6, .window6,
            .keep7, .keep_i7, .valid9(tv[9]), .up7(up7[n]), .down7(down7[n]), .after7(after7[n*VB+:VB]),
            .saturated5(saturated5[n]), .v10(state10[n*VB+:VB]), .c10(state10[LANES*VB+n*CB+:CB]), .i10(i10));
    end
    assign did_saturate = tv[5] && |saturated5;

    // ------------------------------------------------------------------ learning (law: targets/fpga/learning.py)
    if (STDP != 0) begin : g_stdp
        nmc_stdp #(.LANES(LANES), .AXONS(AXONS), .RB(RB)) stdp (
            .clk, .rst, .tick, .cost, .reach, .fetch_axon(head_axon), .load(load_next), .learn(d_learn), .take(w_take),
            .en, .row(w_row), .valid4(v4), .weights3, .seen(state[LANES*(VB+CB)+:LANES*16]), .up7, .clear7, .valid9(tv[9]),
            .go_clear, .seen5(state5[LANES*(VB+CB)+:LANES*16]), .seen10(state10[LANES*(VB+CB)+:LANES*16]),
            .next_learns(n_learn), .learning(w_learn), .clearing, .bus_re, .bus_row,
            .bus_weight_we(bus_we && bus_space == WEIGHTS), .bus_trace_we(bus_we && bus_space == TRACES),
            .bus_wdata(bus_wdata[LANES*LW-1:0]), .trace, .weight_we, .weight_waddr, .weight_wdata);
    end else begin : g_no_stdp
        assign weight_we    = bus_we && bus_space == WEIGHTS;
        assign weight_waddr = bus_row[RB-1:0];
        assign weight_wdata = bus_wdata[LANES*LW-1:0];
        assign trace        = '0;
        assign n_learn      = 1'b0;
        assign w_learn      = 1'b0;
        assign clearing     = 1'b0;
    end

    // ------------------------------------------------------------------ what has fired, one by one
    localparam int PROBE = PROBES != 0 ? LANES * VB : 1;
    localparam int FW = GB + 2 * LANES + 1 + PROBE;
    logic             probed7, fires_push, fires_valid, fires_pop;
    logic [PROBE-1:0] shown7, f_shown;
    logic [GB-1:0]    f_group;
    logic [LANES-1:0] f_up, f_down;
    logic             f_probed;
    assign shown7     = PROBES != 0 ? after7[PROBE-1:0] : '0;
    assign probed7    = PROBES != 0 && probe_on && tg[7] >= probe_first && tg[7] <= probe_last;
    assign fires_push = tv[7] && !clear7 && (|up7 || |down7 || probed7);
    // seven groups may be on their way when the queue says stop
    nmc_fifo #(.W(FW), .DEPTH(16), .SLACK(9)) fires (
        .clk, .rst, .push(fires_push), .in({tg[7], up7, down7, probed7, shown7}), .pop(fires_pop),
        .out({f_group, f_up, f_down, f_probed, f_shown}), .valid(fires_valid), .almost(fires_almost));

    logic             o_busy, o_probed, o_head, one_left, o_last;
    logic [GB-1:0]    o_group;
    logic [LANES-1:0] o_any, o_down, lowest;
    logic [PROBE-1:0] o_shown;
    logic [4:0]       o_words;
    logic [3:0]       lane;
    assign lowest   = o_any & (~o_any + 1'b1);
    assign one_left = (o_any & ~lowest) == 0;
    always_comb begin
        lane = '0;
        for (int k = LANES - 1; k >= 0; k--) if (o_any[k]) lane = 4'(k);
    end
    assign out_valid    = o_busy;
    assign out_kind     = PROBES == 0 || o_any != 0 ? 2'd0 : o_head ? 2'd1 : 2'd2;
    assign out_more     = PROBES != 0 && o_any == 0 && (o_head || o_words != 1);
    assign out_index    = o_any != 0 ? 14'(o_group) * 14'(LANES) + 14'(lane) : 14'(o_group);
    assign out_negative = |(o_down & lowest);
    if (PROBES != 0) begin : g_shown
        assign out_data = 32'($signed(o_shown[VB-1:0]));
    end else begin : g_not_shown
        assign out_data = '0;
    end
    assign o_last    = PROBES == 0 ? one_left : o_any != 0 ? one_left && !o_probed : !o_head && o_words == 1;
    assign fires_pop = fires_valid && (!o_busy || (out_ready && o_last));
    always_ff @(posedge clk)
        if (rst) o_busy <= 0;
        else if (fires_pop) o_busy <= 1;
        else if (out_ready && o_last) o_busy <= 0;
    always_ff @(posedge clk)
        if (fires_pop) begin
            o_group  <= f_group;
            o_any    <= f_up | f_down;
            o_down   <= f_down;
            o_probed <= f_probed;
            o_head   <= f_probed;
            o_words  <= 5'(LANES);
            o_shown  <= f_shown;
        end else if (out_ready && o_busy) begin
            if (o_any != 0) o_any <= o_any & ~lowest;
            else if (o_head) o_head <= 0;
            else begin
                o_words <= o_words - 1'b1;
                o_shown <= PROBE'({{VB{1'b0}}, o_shown} >> VB);
            end
        end

    always_ff @(posedge clk)
        busy <= go_tick || go_clear || begins || ev_push || ev_valid || n_valid || w_valid || v1 || v2 || v2r || v3 || v4 || v5 || b_run
                || tv != 0 || fires_valid || o_busy || clearing;

    // ------------------------------------------------------------------ readback: word bus_at of the row.
    // Every word has flip-flops that are zero unless it is the one: an OR is smaller than a multiplexer
    localparam int N0 = (LANES * LW + 31) / 32, N2 = (DESC + 31) / 32, N3 = (GEO + 31) / 32, N4 = (CLASS + 31) / 32;
    localparam int N5 = (PARAM + 31) / 32, N6 = (STATE + 31) / 32;
    localparam int ALL = N0 + 1 + N2 + N3 + N4 + N5 + N6 + 1;
    logic [32*ALL-1:0] rows, taken;
    logic [ALL-1:0]    wanted;
    logic [6:0]        from;
    logic [31:0]       joined;
    assign rows = {32'(trace), (32*N6)'(state), (32*N5)'(param2), (32*N4)'(class_row), (32*N3)'(geo), (32*N2)'(desc),
                   32'(id2), (32*N0)'(weights2)};
    always_comb
        case (bus_space)
            WEIGHTS:     from = 7'd0;
            GROUP_IDS:   from = 7'(N0);
            AXON:        from = 7'(N0 + 1);
            GEOMETRY:    from = 7'(N0 + 1 + N2);
            CLASS_TABLE: from = 7'(N0 + 1 + N2 + N3);
            PARAMS:      from = 7'(N0 + 1 + N2 + N3 + N4);
            STATES:      from = 7'(N0 + 1 + N2 + N3 + N4 + N5);
            TRACES:      from = 7'(ALL - 1);
            default:     from = 7'(ALL);
        endcase
    always_comb begin
        joined = '0;
        for (int k = 0; k < ALL; k++) joined = joined | taken[k*32+:32];
    end
    always_ff @(posedge clk) begin
        for (int k = 0; k < ALL; k++) begin
            wanted[k]        <= bus_here && from + 7'(bus_at) == 7'(k);
            taken[k*32+:32] <= wanted[k] ? rows[k*32+:32] : '0;
        end
        bus_rdata <= joined;
    end
endmodule
