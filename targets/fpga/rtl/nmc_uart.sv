// Words over a serial line (host side and frames: targets/fpga/uart.py). A frame is executed only when all of it is
// there and its checksum is right; one that is damaged or breaks off is answered with NAK and leaves no trace.
//   to the core:  A5, words - 1, 4 * words bytes, CRC32 of all after A5    answered by ACK (06, executed) or NAK (15)
//   to the host:  5A, words - 1, 4 * words bytes, CRC32 of all after 5A
module nmc_uart #(
    parameter int DIVIDER = 100,
    parameter int PATIENCE = 40      // bit times without a byte after which a frame has broken off
) (
    input  logic        clk,
    input  logic        rst,
    input  logic        rx,
    output logic        tx,
    // to and from nmc_chip
    output logic        in_valid,
    input  logic        in_ready,
    output logic [31:0] in_word,
    input  logic        out_valid,
    output logic        out_ready,
    input  logic [31:0] out_word
);
    localparam int TW = $clog2(DIVIDER * PATIENCE + 1);

    // ------------------------------------------------------------------ frames from the host
    logic       rx_valid, rx_broken, r_first;
    logic [7:0] rx_octet, r_last, r_at, p_at;
    logic [1:0] r_byte;
    logic [31:0] r_shift, r_crc, buffer_out, shifted;
    logic [TW-1:0] silence;
    typedef enum logic [2:0] { HUNT, LENGTH, BODY, CHECK, FETCH, WAIT, PLAY, ANSWER } rx_state_t;
    rx_state_t  r_state;
    logic       refused, r_late, r_step, r_word, answered;
    nmc_uart_rx #(.DIVIDER(DIVIDER)) receiver (
        .clk, .rst, .rx, .valid(rx_valid), .broken(rx_broken), .octet(rx_octet));
    assign r_first = r_state == HUNT;
    assign r_step  = rx_valid && (r_state == LENGTH || r_state == BODY);
    assign r_word  = rx_valid && r_state == BODY && r_byte == 3;
    nmc_crc32 r_sum (.clk, .start(r_first), .step(r_step), .octet(rx_octet), .crc(r_crc));
    assign shifted = {rx_octet, r_shift[31:8]};
    nmc_ram #(.W(32), .DEPTH(256)) buffer (
        .clk, .we(r_word), .waddr(r_at), .wdata(shifted),
        .re(1'b1), .raddr(p_at), .rdata(buffer_out));
    assign r_late   = rx_broken || silence == TW'(DIVIDER * PATIENCE);
    assign in_valid = r_state == PLAY;
    assign in_word  = buffer_out;
    always_ff @(posedge clk)
        if (rst) begin
            r_state <= HUNT;
            silence <= '0;
        end else begin
            silence <= r_first || rx_valid ? '0 : silence + TW'(silence != '1);
            if (rx_valid) r_shift <= shifted;
            case (r_state)
                HUNT: begin
                    r_at    <= '0;
                    p_at    <= '0;
                    r_byte  <= '0;
                    refused <= 0;
                    if (rx_valid && rx_octet == 8'hA5) r_state <= LENGTH;
                end
                LENGTH: if (rx_valid) begin
                    r_last  <= rx_octet;
                    r_state <= BODY;
                end
                BODY: if (rx_valid) begin
                    r_byte <= r_byte + 1'b1;
                    if (r_byte == 3) begin
                        r_at <= r_at + 1'b1;
                        if (r_at == r_last) r_state <= CHECK;
                    end
                end
                CHECK: if (rx_valid) begin
                    r_byte <= r_byte + 1'b1;
                    if (r_byte == 3) begin
                        refused <= shifted != r_crc;
                        r_state <= shifted == r_crc ? FETCH : ANSWER;
                    end
                end
                FETCH: r_state <= WAIT;
                WAIT: r_state <= PLAY;
                PLAY: if (in_ready) begin
                    p_at    <= p_at + 1'b1;
                    r_state <= p_at == r_last ? ANSWER : FETCH;
                end
                default: if (answered) r_state <= HUNT;
            endcase
            if (r_late && (r_state == LENGTH || r_state == BODY || r_state == CHECK)) begin
                refused <= 1;
                r_state <= ANSWER;
            end
        end

    // ------------------------------------------------------------------ frames to the host
    logic        f_valid, f_full, f_pop, t_first, t_ready, t_valid, t_step;
    logic [31:0] f_word, t_crc;
    logic [4:0]  f_count, t_left;
    logic [7:0]  t_octet;
    logic [1:0]  t_byte;
    typedef enum logic [2:0] { REST, ACK, HEAD, COUNT, WORDS, SUM } tx_state_t;
    tx_state_t   t_state;
    nmc_fifo #(.W(32), .DEPTH(16), .SLACK(1)) answers (
        .clk, .rst, .push(out_valid && out_ready), .in(out_word), .pop(f_pop), .out(f_word), .valid(f_valid),
        .almost(f_full));
    assign out_ready = !f_full;
    assign t_first = t_state == HEAD;
    nmc_crc32 t_sum (.clk, .start(t_first), .step(t_step), .octet(t_octet), .crc(t_crc));
    nmc_uart_tx #(.DIVIDER(DIVIDER)) sender (.clk, .rst, .valid(t_valid), .ready(t_ready), .octet(t_octet), .tx);
    assign t_valid  = t_state != REST;
    assign t_step   = t_ready && (t_state == COUNT || t_state == WORDS);
    assign f_pop    = t_state == WORDS && t_ready && t_byte == 3;
    assign answered = t_state == ACK && t_ready;
    always_comb
        case (t_state)
            ACK:     t_octet = refused ? 8'h15 : 8'h06;
            HEAD:    t_octet = 8'h5A;
            COUNT:   t_octet = 8'(t_left - 1'b1);
            WORDS:   t_octet = f_word[t_byte*8+:8];
            default: t_octet = t_crc[t_byte*8+:8];
        endcase
    always_ff @(posedge clk)
        if (rst) begin
            t_state <= REST;
            f_count <= '0;
        end else begin
            f_count <= f_count + 5'(out_valid && out_ready) - 5'(f_pop);
            case (t_state)
                REST: begin
                    t_byte <= '0;
                    t_left <= f_count;
                    if (f_valid && f_count != 0) t_state <= HEAD;
                    else if (r_state == ANSWER) t_state <= ACK;
                end
                ACK: if (t_ready) t_state <= REST;
                HEAD: if (t_ready) t_state <= COUNT;
                COUNT: if (t_ready) t_state <= WORDS;
                default: if (t_ready) begin
                    t_byte <= t_byte + 1'b1;
                    if (t_byte == 3 && t_state == WORDS) begin
                        t_left <= t_left - 1'b1;
                        if (t_left == 1) t_state <= SUM;
                    end
                    if (t_byte == 3 && t_state == SUM) t_state <= REST;
                end
            endcase
        end
endmodule
