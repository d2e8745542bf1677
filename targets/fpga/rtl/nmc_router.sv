// Spikes of all cores to the time wheel and to the host; events of a tick from the wheel to the cores.
// Two levels: pointers[core, neuron] -> a run of targets {core, axon, delay}. Tables: targets/fpga/shape.py.
module nmc_router #(
    parameter int CORES = 1, NEURONS = 256, AXONS = 256, TARGETS = 1024, DELAYS = 1, QUEUE = 1024, MW = 32,
    parameter int AB = AXONS <= 2 ? 1 : $clog2(AXONS),
    parameter int IB = CORES <= 2 ? 1 : $clog2(CORES)
) (
    input  logic              clk,
    input  logic              rst,
    input  logic              forget,      // nothing is in flight any more
    input  logic              deliver,     // start: hand out the events of this tick
    input  logic              advance,     // the tick is over
    output logic              busy,
    output logic              in_flight,   // the wheel holds events
    // from the cores
    input  logic [CORES-1:0]      in_valid,
    output logic [CORES-1:0]      in_ready,
    input  logic [CORES*2-1:0]    in_kind,
    input  logic [CORES-1:0]      in_more,
    input  logic [CORES*14-1:0]   in_index,
    input  logic [CORES-1:0]      in_negative,
    input  logic [CORES*32-1:0]   in_data,
    // to the cores
    input  logic [CORES-1:0]  ev_full,
    output logic              ev_push,
    output logic [IB-1:0]     ev_core,
    output logic [AB-1:0]     ev_axon,
    output logic              ev_negative,
    // to the host
    output logic              out_valid,
    input  logic              out_ready,
    output logic [31:0]       out_word,
    // statistics
    output logic              did_spike,
    output logic              did_drop,
    // memories
    input  logic              bus_we,
    input  logic              bus_re,
    input  logic [3:0]        bus_space,
    input  logic [IB-1:0]     bus_core,
    input  logic [23:0]       bus_row,
    input  logic [MW-1:0]     bus_wdata,
    output logic [31:0]       bus_rdata
);
    localparam int NB = NEURONS <= 2 ? 1 : $clog2(NEURONS);
    localparam int TB = TARGETS <= 2 ? 1 : $clog2(TARGETS);
    localparam int DB = DELAYS <= 2 ? 1 : $clog2(DELAYS);
    localparam int QB = $clog2(QUEUE);
    localparam int PTR = TB + 12 + 1;
    localparam int TGT = AB + IB + DB;
    localparam int EV = AB + IB + 1;
    localparam int SLOTS = DELAYS * QUEUE;
    localparam int SB = $clog2(SLOTS);
    localparam int PB = CORES * (1 << NB) <= 2 ? 1 : $clog2(CORES * (1 << NB));
    localparam logic [3:0] POINTERS = 7, TARGET_TABLE = 8, WHEEL = 9;

    // ------------------------------------------------------------------ pick: the first core that has something;
    // all words of a probe come without a break. A second place (spare) keeps what cannot go on, so that the
    // answer to the cores does not hang on what is done with a spike.
    localparam int ITEM = 6 + 2 + 14 + 1 + 32;
    logic            r_valid, r_take, r_negative, locked, spare_valid;
    logic [1:0]      r_kind;
    logic [13:0]     r_index;
    logic [31:0]     r_data;
    logic [5:0]      r_core, pick, hold;
    logic            any, accept;
    logic [ITEM-1:0] picked, spare;
    always_comb begin
        pick = hold;
        any  = in_valid[IB'(hold)];
        if (!locked) begin
            any = 0;
            for (int k = CORES - 1; k >= 0; k--)
                if (in_valid[k]) begin
                    pick = 6'(k);
                    any  = 1;
                end
        end
    end
    assign accept   = any && !spare_valid;
    assign in_ready = accept ? CORES'(1) << pick : '0;
    assign picked   = {pick, in_kind[IB'(pick)*2+:2], in_index[IB'(pick)*14+:14], in_negative[IB'(pick)],
                       in_data[IB'(pick)*32+:32]};
    always_ff @(posedge clk)
        if (rst) begin
            r_valid     <= 0;
            spare_valid <= 0;
            locked      <= 0;
            hold        <= '0;
        end else begin
            if (!r_valid || r_take) begin
                r_valid     <= spare_valid || accept;
                spare_valid <= 0;
            end else if (accept) spare_valid <= 1;
            if (accept) begin
                locked <= in_more[IB'(pick)];
                hold   <= pick;
            end
        end
    always_ff @(posedge clk) begin
        if (!r_valid || r_take) {r_core, r_kind, r_index, r_negative, r_data} <= spare_valid ? spare : picked;
        if (accept) spare <= picked;
    end

    // ------------------------------------------------------------------ pointer (two clocks), then a target a clock
    logic           look1, look2, negative1, negative2, move;
    logic [5:0]     core1, core2;
    logic [13:0]    index1, index2;
    logic [PTR-1:0] pointer;
    logic [PB-1:0]  pointer_row;
    logic           load, w_valid, w_last, w_host, w_negative, w_step, told, word_next;
    logic [TB-1:0]  w_base, w_row;
    logic [11:0]    w_left;
    logic [5:0]     w_core;
    logic [13:0]    w_index;
    if (CORES > 1) begin : g_pointer_row
        assign pointer_row = bus_re || bus_we ? {bus_core, bus_row[NB-1:0]} : {r_core[IB-1:0], r_index[NB-1:0]};
    end else begin : g_pointer_row_one
        assign pointer_row = bus_re || bus_we ? bus_row[NB-1:0] : r_index[NB-1:0];
    end
    nmc_ram #(.W(PTR), .DEPTH(CORES * (1 << NB))) pointers (
        .clk, .we(bus_we && bus_space == POINTERS), .waddr(pointer_row), .wdata(bus_wdata[PTR-1:0]),
        .re(move || bus_re), .raddr(pointer_row), .rdata(pointer));
    assign load      = look2 && (!w_valid || (w_step && w_last));
    assign move      = !look2 || load;
    // words of a probe wait until all spikes before them are told
    assign word_next = r_valid && r_kind != 0 && !look1 && !look2 && !w_valid;
    assign r_take    = r_kind == 0 ? move : word_next && out_ready;
    assign w_base    = pointer[TB-1:0];
    assign told      = !w_host || out_ready;
    assign w_step    = w_valid && told;
    always_ff @(posedge clk)
        if (rst) begin
            {look1, look2} <= '0;
            w_valid        <= 0;
        end else begin
            if (move) {look1, look2} <= {r_valid && r_kind == 0, look1};
            if (load) w_valid <= 1;
            else if (w_step && w_last) w_valid <= 0;
        end
    always_ff @(posedge clk) begin
        if (move) begin
            {negative1, core1, index1} <= {r_negative, r_core, r_index};
            {negative2, core2, index2} <= {negative1, core1, index1};
        end
        if (load) begin
            w_row      <= w_base;
            w_left     <= pointer[TB+:12];
            w_last     <= pointer[TB+1+:11] == 0;
            w_host     <= pointer[TB+12];
            w_negative <= negative2;
            w_core     <= core2;
            w_index    <= index2;
        end else if (w_step) begin
            w_row  <= w_row + 1'b1;
            w_left <= w_left - 1'b1;
            w_last <= w_left <= 2;
            w_host <= 0;
        end
    end
    assign did_spike = load;
    assign out_valid = (w_valid && w_host) || word_next;
    assign out_word  = w_valid ? {4'h8, w_negative, 7'd0, w_core, w_index}
                       : r_kind == 1 ? {4'hA, 2'd0, r_core, 6'd0, r_index} : r_data;

    // ------------------------------------------------------------------ targets into the wheel
    logic           e1, e2, m1, m2;
    logic [TGT-1:0] target;
    logic [DB-1:0]  slot, into;
    logic [QB:0]    filled [0:DELAYS-1];
    logic           full;
    nmc_ram #(.W(TGT), .DEPTH(TARGETS)) targets (
        .clk, .we(bus_we && bus_space == TARGET_TABLE), .waddr(bus_row[TB-1:0]), .wdata(bus_wdata[TGT-1:0]),
        .re(1'b1), .raddr(bus_re ? bus_row[TB-1:0] : w_row), .rdata(target));
    always_ff @(posedge clk)
        if (rst) {e1, e2} <= '0;
        else {e1, e2} <= {w_step && w_left != 0, e1};
    always_ff @(posedge clk) {m1, m2} <= {w_negative, m1};
    if (DELAYS > 1) begin : g_into
        assign into = slot + target[AB+IB+:DB] + 1'b1;
    end else begin : g_into_one
        assign into = '0;
    end
    assign full     = filled[into][QB];
    assign did_drop = e2 && full;

    // ------------------------------------------------------------------ the wheel, and delivery of one slot
    logic          d_run, d_valid, d1, d2, hold_out, q_push;
    logic [QB:0]   d_left;
    logic [QB-1:0] d_row;
    logic [SB-1:0] wheel_read, wheel_write;
    logic [EV-1:0] event_out;
    if (DELAYS > 1) begin : g_wheel
        assign wheel_read  = {slot, d_row};
        assign wheel_write = {into, filled[into][QB-1:0]};
    end else begin : g_wheel_one
        assign wheel_read  = d_row;
        assign wheel_write = filled[0][QB-1:0];
    end
    assign q_push = e2 && !full;
    nmc_ram #(.W(EV), .DEPTH(SLOTS)) wheel (
        .clk, .we(q_push || (bus_we && bus_space == WHEEL)), .waddr(q_push ? wheel_write : bus_row[SB-1:0]),
        .wdata(q_push ? {m2, target[AB+:IB], target[AB-1:0]} : bus_wdata[EV-1:0]),
        .re(!hold_out || bus_re), .raddr(bus_re ? bus_row[SB-1:0] : wheel_read), .rdata(event_out));
    assign d_valid  = d_run && d_left != 0;
    assign hold_out = d2 && ev_full[ev_core];
    assign ev_push  = d2 && !hold_out;
    assign {ev_negative, ev_core, ev_axon} = event_out;
    always_ff @(posedge clk)
        if (rst) begin
            d_run <= 0;
            {d1, d2} <= '0;
        end else begin
            if (deliver) d_run <= 1;
            else if (d_run && d_left == 0) d_run <= 0;
            if (!hold_out) {d1, d2} <= {d_valid, d1};
        end
    always_ff @(posedge clk)
        if (deliver) begin
            d_left <= filled[slot];
            d_row  <= '0;
        end else if (d_valid && !hold_out) begin
            d_left <= d_left - 1'b1;
            d_row  <= d_row + 1'b1;
        end
    always_ff @(posedge clk)
        if (rst || forget) begin
            slot <= '0;
            for (int k = 0; k < DELAYS; k++) filled[k] <= '0;
        end else begin
            if (deliver) filled[slot] <= '0;
            else if (q_push) filled[into] <= filled[into] + 1'b1;
            if (advance && DELAYS > 1) slot <= slot + 1'b1;
        end
    always_comb begin
        in_flight = 0;
        for (int k = 0; k < DELAYS; k++) if (filled[k] != 0) in_flight = 1;
    end
    // a clock late, as that of the cores: what leaves one of them is in the other before it ends
    always_ff @(posedge clk)
        busy <= !rst && (r_valid || spare_valid || look1 || look2 || w_valid || e1 || e2 || deliver || d_run || d1 || d2
                         || in_valid != 0);

    // ------------------------------------------------------------------ readback (all rows have one word)
    always_ff @(posedge clk)
        case (bus_space)
            POINTERS:     bus_rdata <= 32'(pointer);
            TARGET_TABLE: bus_rdata <= 32'(target);
            WHEEL:        bus_rdata <= 32'(event_out);
            default:      bus_rdata <= '0;
        endcase
endmodule
