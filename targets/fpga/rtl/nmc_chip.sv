// Cores, router and the machine that reads the word stream (targets/fpga/words.py).
module nmc_chip #(
    parameter int CORES = 1, LANES = 4, NEURONS = 256, AXONS = 256, WROWS = 16384, WB = 8, VB = 20, CB = 8,
    parameter int CLASSES = 16, GEOS = 16, BB = 0, TB = 0, PB = 2, LEAK = 1, SPARSE = 1, CONV = 1, STBIF = 1,
    parameter int CUBA = 0, LATE = 1, WINDOWS = 1, PROBES = 1, STDP = 0, DELAYS = 1, QUEUE = 1024, TARGETS = 1024, FIFO = 16, ONE = 0,
    parameter WINIT = "",
    parameter logic [31:0] HASH = 0
) (
    input  logic        clk,
    input  logic        rst,
    input  logic        in_valid,
    output logic        in_ready,
    input  logic [31:0] in_word,
    output logic        out_valid,
    input  logic        out_ready,
    output logic [31:0] out_word,
    output logic        idle        // no instruction is being worked on, and nothing moves
);
    localparam logic [31:0] MAGIC = 32'hC0F1A501;
    localparam int GROUPS = NEURONS / LANES;
    localparam int AB = AXONS <= 2 ? 1 : $clog2(AXONS);
    localparam int GB = GROUPS <= 2 ? 1 : $clog2(GROUPS);
    localparam int RB = WROWS <= 2 ? 1 : $clog2(WROWS);
    localparam int EB = GEOS <= 2 ? 1 : $clog2(GEOS);
    localparam int KB = CLASSES <= 2 ? 1 : $clog2(CLASSES);
    localparam int IB = CORES <= 2 ? 1 : $clog2(CORES);
    localparam int DB = DELAYS <= 2 ? 1 : $clog2(DELAYS);
    localparam int TGB = TARGETS <= 2 ? 1 : $clog2(TARGETS);

    // bits of a row of each memory, and words to move one
    localparam int LEARN = STDP != 0 ? 1 : 0;
    localparam int W_WEIGHTS = LANES * (WB + LEARN);
    localparam int W_AXONS = RB + GB + EB + 7 + LEARN;
    localparam int W_GEO = CONV != 0 ? 3 * GB + 6 + 2 * RB : GB;
    localparam int W_CLASS = (TB > 0 ? 0 : VB - 1) + (BB > 0 ? 0 : VB) + VB + (LEAK == 0 ? 0 : CUBA != 0 ? 26 : 13) + CB + 4
        + (LATE != 0 ? 1 : 0) + (STBIF != 0 ? 1 : 0) + (WINDOWS != 0 ? 32 : 0);
    localparam int W_PARAMS = KB + LANES * (BB + TB);
    localparam int W_STATE = LANES * (VB + CB + (CUBA != 0 ? VB : 0) + 16 * LEARN);
    localparam int W_POINTER = TGB + 13;
    localparam int W_TARGET = AB + IB + DB;
    localparam int W_QUEUE = AB + IB + 1;
    function automatic integer most(input integer a, input integer b);
        most = a > b ? a : b;
    endfunction
    function automatic integer words(input integer bits);
        words = (bits + 31) / 32;
    endfunction
    localparam int MOST = most(most(most(W_WEIGHTS, W_AXONS), most(W_GEO, W_CLASS)),
                               most(most(W_PARAMS, W_STATE), most(W_POINTER, most(W_TARGET, W_QUEUE))));
    localparam int MW = 32 * words(MOST);
    localparam int NW = MW / 32;
    localparam int NWB = $clog2(NW + 1);

    function automatic logic [5:0] row_words(input logic [3:0] space);
        case (space)
            4'd0:    row_words = 6'(words(W_WEIGHTS));
            4'd1:    row_words = SPARSE != 0 ? 6'd1 : 6'd0;
            4'd2:    row_words = 6'(words(W_AXONS));
            4'd3:    row_words = 6'(words(W_GEO));
            4'd4:    row_words = 6'(words(W_CLASS));
            4'd5:    row_words = 6'(words(W_PARAMS));
            4'd6:    row_words = 6'(words(W_STATE));
            4'd7:    row_words = 6'(words(W_POINTER));
            4'd8:    row_words = 6'(words(W_TARGET));
            4'd9:    row_words = 6'(words(W_QUEUE));
            4'd10:   row_words = STDP != 0 ? 6'd1 : 6'd0;
            default: row_words = 6'd0;
        endcase
    endfunction

    function automatic logic [24:0] rows_of(input logic [3:0] space);
        case (space)
            4'd0, 4'd1:  rows_of = 25'(WROWS);
            4'd2, 4'd10: rows_of = 25'(AXONS);
            4'd3:        rows_of = 25'(GEOS);
            4'd4:        rows_of = 25'(CLASSES);
            4'd5, 4'd6:  rows_of = 25'(GROUPS);
            4'd7:        rows_of = 25'(NEURONS);
            4'd8:        rows_of = 25'(TARGETS);
            4'd9:        rows_of = 25'(DELAYS * QUEUE);
            default:     rows_of = 25'd0;
        endcase
    endfunction

    // ------------------------------------------------------------------ cores and router
    logic [CORES-1:0]    core_busy, ev_full, core_push, s_valid, s_ready, s_more, s_negative, probe_on;
    logic [CORES-1:0]    did_event, did_walk, did_saturate;
    logic [CORES*2-1:0]  s_kind;
    logic [CORES*14-1:0] s_index;
    logic [CORES*32-1:0] s_data;
    logic [31:0]         core_rdata [CORES];
    logic [31:0]         router_rdata, read;
    logic [MW-1:0]       stage;
    logic [11:0]         probe_first [CORES], probe_last [CORES];
    logic                go_tick, go_clear, deliver, advance, forget, router_busy, in_flight, did_spike, did_drop;
    logic                r_push, r_negative, r_out_valid, host_push;
    logic [IB-1:0]       r_core, sel, push_core;
    logic [AB-1:0]       r_axon, push_axon;
    logic [31:0]         r_out_word;
    logic signed [PB-1:0] push_payload;
    logic [15:0]         tick;
    logic [GB-1:0]       last_group;
    logic [23:0]         cost, reach, row;
    logic [3:0]          space;
    logic                bus_we, bus_re, all_idle;

    assign push_core    = host_push ? IB'(in_word[19:14]) : r_core;
    assign push_axon    = host_push ? AB'(in_word[13:0]) : r_axon;
    assign push_payload = host_push ? PB'($signed(in_word[27:20])) : r_negative ? '1 : PB'(1);
    for (genvar k = 0; k < CORES; k++) begin : g_core
        assign core_push[k] = (host_push || r_push) && push_core == IB'(k);
        nmc_core #(
            .LANES(LANES), .NEURONS(NEURONS), .AXONS(AXONS), .WROWS(WROWS), .WB(WB), .VB(VB), .CB(CB),
            .CLASSES(CLASSES), .GEOS(GEOS), .BB(BB), .TB(TB), .PB(PB), .LEAK(LEAK), .SPARSE(SPARSE), .CONV(CONV),
            .STBIF(STBIF), .CUBA(CUBA), .LATE(LATE), .WINDOWS(WINDOWS), .PROBES(PROBES), .STDP(STDP), .FIFO(FIFO), .MW(MW),
            .WINIT(WINIT), .PART(k), .ONE(ONE)
        ) core (
            .clk, .rst, .ev_push(core_push[k]), .ev_axon(push_axon), .ev_payload(push_payload), .ev_full(ev_full[k]),
            .go_tick, .go_clear, .tick, .last_group, .cost, .reach, .probe_on(probe_on[k]),
            .probe_first(GB'(probe_first[k])), .probe_last(GB'(probe_last[k])), .busy(core_busy[k]),
            .host_we(bus_we), .host_re(bus_re), .bus_here(sel == IB'(k)), .host_space(space), .host_row(row),
            .host_wdata(stage), .bus_at(6'(at)),
            .bus_rdata(core_rdata[k]), .out_valid(s_valid[k]), .out_ready(s_ready[k]), .out_kind(s_kind[k*2+:2]),
            .out_more(s_more[k]), .out_index(s_index[k*14+:14]), .out_negative(s_negative[k]),
            .out_data(s_data[k*32+:32]), .did_event(did_event[k]), .did_walk(did_walk[k]),
            .did_saturate(did_saturate[k]));
    end
    nmc_router #(
        .CORES(CORES), .NEURONS(NEURONS), .AXONS(AXONS), .TARGETS(TARGETS), .DELAYS(DELAYS), .QUEUE(QUEUE), .MW(MW)
    ) router (
        .clk, .rst, .forget, .deliver, .advance, .busy(router_busy), .in_flight, .in_valid(s_valid),
        .in_ready(s_ready), .in_kind(s_kind), .in_more(s_more), .in_index(s_index), .in_negative(s_negative),
        .in_data(s_data), .ev_full, .ev_push(r_push), .ev_core(r_core), .ev_axon(r_axon), .ev_negative(r_negative),
        .out_valid(r_out_valid), .out_ready, .out_word(r_out_word), .did_spike, .did_drop, .bus_we, .bus_re,
        .bus_space(space), .bus_core(sel), .bus_row(row), .bus_wdata(stage), .bus_rdata(router_rdata));
    assign all_idle = core_busy == 0 && !router_busy;
    always_comb begin
        read = router_rdata;
        for (int k = 0; k < CORES; k++) read = read | core_rdata[k];
    end

    // ------------------------------------------------------------------ the machine
    typedef enum logic [3:0] {
        DECODE, HEAD_HASH, HEAD_COUNT, SKIP, FILL, STORE, LOAD, EMIT, VALUE, CLEAR, DELIVER, GATHER, FIRE, DONE, NEXT
    } state_t;
    state_t       state;
    logic         open, right, report, forever_off, fired, said;
    logic [3:0]   op, waited, index;
    logic [23:0]  left, quiet_from, ticks;
    logic [NWB-1:0] at, per_row;
    logic [5:0]   errors;
    logic [31:0]  cycles, events, walks, spikes, dropped, value;
    logic         take, quiet_now, wants_quiet, in_range;
    assign tick        = ticks[23:16] != 0 ? 16'hFFFF : ticks[15:0];
    assign op          = in_word[31:28];
    assign per_row     = NWB'(row_words(space));
    // ticks begin while events of the host are still worked on: GATHER waits for them
    assign wants_quiet = op != 0 && op != 8 && op != 9 && op != 11 && op != 12;
    assign take        = in_valid && in_ready;
    assign in_range    = 8'(in_word[19:14]) < 8'(CORES) && 16'(in_word[13:0]) < 16'(AXONS);
    // not by way of `take`: whether a spike is taken does not hang on whether all is quiet
    assign host_push   = in_valid && state == DECODE && op == 8 && open && in_range && !ev_full[IB'(in_word[19:14])];
    always_comb
        case (state)
            DECODE:  in_ready = op == 8 ? !ev_full[IB'(in_word[19:14])] || !open : !wants_quiet || all_idle;
            HEAD_HASH, HEAD_COUNT, SKIP, FILL: in_ready = 1;
            default: in_ready = 0;
        endcase
    assign idle = state == DECODE && all_idle && !in_valid;

    assign deliver   = state == DELIVER;
    assign go_tick   = state == GATHER && all_idle;
    assign go_clear  = state == CLEAR && !said;
    assign forget    = go_clear;
    assign advance   = state == FIRE && all_idle;
    assign bus_we    = state == STORE;
    assign bus_re    = state == LOAD;
    assign quiet_now = forever_off && !fired && !in_flight && ticks >= quiet_from;

    always_comb begin
        out_valid = r_out_valid;
        out_word  = r_out_word;
        if (state == EMIT) begin
            out_valid = 1;
            out_word  = !said ? {4'h4, space, left} : stage[31:0];
        end else if (state == VALUE) begin
            out_valid = 1;
            out_word  = !said ? {4'h6, index, 24'd0} : value;
        end else if (state == DONE && report) begin
            out_valid = 1;
            out_word  = {4'h9, 4'd0, ticks};
        end
    end

    always_ff @(posedge clk)
        if (rst) begin
            state      <= DECODE;
            open       <= 0;
            report     <= 1;
            quiet_from <= '0;
            last_group <= GB'(GROUPS - 1);
            cost       <= '0;
            reach      <= '0;
            sel        <= '0;
            space      <= '0;
            row        <= '0;
            probe_on   <= '0;
            ticks      <= '0;
            said       <= 0;
        end else
            case (state)
                DECODE:
                    if (take) begin
                        left  <= in_word[23:0];
                        index <= in_word[27:24];
                        said  <= 0;
                        at    <= '0;
                        waited <= '0;
                        if (op == 12) begin
                            right <= in_word == MAGIC;
                            state <= HEAD_HASH;
                        end else if (op == 13) begin
                            left  <= 24'd1;
                            state <= SKIP;
                        end else if (op == 6) state <= VALUE;
                        else if (!open) begin
                            if (op == 3 && in_word[23:0] != 0) state <= SKIP;
                        end else
                            case (op)
                                4'd1: if (in_word[27:0] < 28'(CORES)) sel <= IB'(in_word[7:0]);
                                4'd2: {space, row} <= in_word[27:0];
                                4'd3: if (in_word[23:0] != 0) state <= per_row == 0 ? SKIP : FILL;
                                4'd4: if (in_word[23:0] != 0 && per_row != 0) state <= EMIT;
                                4'd5: begin
                                    if (in_word[27:24] == 0) report <= in_word[0];
                                    if (in_word[27:24] == 1) quiet_from <= in_word[23:0];
                                    if (in_word[27:24] == 2 && in_word[23:0] != 0 && in_word[23:0] <= 24'(GROUPS))
                                        last_group <= GB'(in_word[23:0] - 1);
                                    if (in_word[27:24] == 3) cost <= in_word[23:0];
                                    if (in_word[27:24] == 4) reach <= in_word[23:0];
                                end
                                4'd7: state <= CLEAR;
                                4'd9, 4'd11: begin
                                    forever_off <= op == 11;
                                    if (in_word[23:0] != 0) state <= DELIVER;
                                end
                                4'd10: begin
                                    probe_on[sel]    <= in_word[23:12] <= in_word[11:0];
                                    probe_first[sel] <= in_word[23:12];
                                    probe_last[sel]  <= in_word[11:0];
                                end
                                default: ;
                            endcase
                    end
                HEAD_HASH: if (take) begin
                    right <= right && in_word == HASH;
                    state <= HEAD_COUNT;
                end
                HEAD_COUNT: if (take) begin
                    open  <= right;
                    state <= DECODE;
                end
                SKIP: if (take) begin
                    left <= left - 1'b1;
                    if (left == 1) state <= DECODE;
                end
                FILL: if (take) begin
                    stage[at*32+:32] <= in_word;
                    left             <= left - 1'b1;
                    at               <= at + 1'b1;
                    if (at == per_row - 1'b1) state <= 25'(row) < rows_of(space) ? STORE : NEXT;
                    else if (left == 1) state <= DECODE;
                end
                STORE, NEXT: begin
                    row   <= row + 1'b1;
                    at    <= '0;
                    state <= left == 0 ? DECODE : FILL;
                end
                LOAD: begin
                    waited <= waited + 1'b1;
                    if (waited == 5) begin
                        stage[31:0] <= read;
                        state <= EMIT;
                    end
                end
                EMIT: if (out_ready) begin
                    waited <= '0;
                    if (!said) begin
                        said  <= 1;
                        state <= LOAD;
                    end else begin
                        at <= at + 1'b1;
                        state <= LOAD;
                        if (at == per_row - 1'b1) begin
                            at   <= '0;
                            row  <= row + 1'b1;
                            left <= left - 1'b1;
                            if (left == 1) state <= DECODE;
                        end
                    end
                end
                VALUE: if (out_ready) begin
                    said <= 1;
                    if (said) state <= DECODE;
                end
                CLEAR: begin
                    said  <= 1;
                    ticks <= '0;
                    if (said && all_idle) state <= DECODE;
                end
                DELIVER: begin
                    fired <= 0;
                    state <= GATHER;
                end
                GATHER: if (all_idle) state <= FIRE;
                FIRE: begin
                    if (did_spike) fired <= 1;
                    if (all_idle) begin
                        ticks <= ticks + 1'b1;
                        state <= DONE;
                    end
                end
                DONE: if (out_ready || !report) begin
                    left  <= left - 1'b1;
                    state <= left == 1 || quiet_now ? DECODE : DELIVER;
                end
                default: state <= DECODE;
            endcase

    // ------------------------------------------------------------------ statistics and errors
    function automatic logic [6:0] ones(input logic [CORES-1:0] bits);
        ones = '0;
        for (int k = 0; k < CORES; k++) ones = ones + 7'(bits[k]);
    endfunction
    logic [6:0] events_now, walks_now;
    logic       wipe, wrong_op, wrong_row, wrong_word;
    assign wipe      = state == CLEAR && !said && left[0];
    assign wrong_op  = take && state == DECODE && open && op > 13;
    assign wrong_row = (state == NEXT) || (state == LOAD && 25'(row) >= rows_of(space))
                       || (state == FILL && take && left == 1 && at != per_row - 1'b1)
                       || (take && state == DECODE && open
                           && ((op == 1 && in_word[27:0] >= 28'(CORES)) || ((op == 3 || op == 4) && per_row == 0)
                               || (op == 8 && !in_range)
                               || (op == 5 && in_word[27:24] == 2 && (in_word[23:0] == 0 || in_word[23:0] > 24'(GROUPS)))));
    assign wrong_word = take && state == DECODE && !open && op != 0 && op != 6 && op != 12 && op != 13;
    always_ff @(posedge clk) begin
        events_now <= ones(did_event);
        walks_now  <= ones(did_walk);
        if (rst || wipe) begin
            errors <= '0;
            {cycles, events, walks, spikes, dropped} <= '0;
        end else begin
            if (!idle) cycles <= cycles + 1;
            events <= events + 32'(events_now);
            walks  <= walks + 32'(walks_now);
            if (did_spike) spikes <= spikes + 1;
            if (did_drop) dropped <= dropped + 1;
            errors <= errors | {|did_saturate, wrong_row, wrong_word,
                                state == HEAD_COUNT && take && !right, wrong_op, did_drop};
        end
    end
    // flip-flops that are zero unless asked for, and an OR: smaller than a multiplexer
    logic [31:0] shown [0:12];
    always_ff @(posedge clk) begin
        shown[0]  <= index == 0 ? 32'(report) : '0;
        shown[1]  <= index == 1 ? 32'(quiet_from) : '0;
        shown[2]  <= index == 2 ? 32'(last_group) + 1 : '0;
        shown[3]  <= index == 3 ? 32'(cost) : '0;
        shown[4]  <= index == 4 ? 32'(reach) : '0;
        shown[5]  <= index == 5 ? 32'(ticks) : '0;
        shown[6]  <= index == 6 ? HASH : '0;
        shown[7]  <= index == 7 ? 32'(errors) : '0;
        shown[8]  <= index == 8 ? cycles : '0;
        shown[9]  <= index == 9 ? events : '0;
        shown[10] <= index == 10 ? walks : '0;
        shown[11] <= index == 11 ? spikes : '0;
        shown[12] <= index == 12 ? dropped : '0;
    end
    always_comb begin
        value = '0;
        for (int k = 0; k < 13; k++) value = value | shown[k];
    end
endmodule
