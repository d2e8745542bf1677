// AXI4-Stream shell: 32-bit words in and out. `m_axis_tlast` marks the last word before the chip comes to rest.
module nmc_axis (
    input  logic        aclk,
    input  logic        aresetn,
    input  logic        s_axis_tvalid,
    output logic        s_axis_tready,
    input  logic [31:0] s_axis_tdata,
    output logic        m_axis_tvalid,
    input  logic        m_axis_tready,
    output logic [31:0] m_axis_tdata,
    output logic        m_axis_tlast,
    // to and from nmc_chip
    output logic        rst,
    output logic        in_valid,
    input  logic        in_ready,
    output logic [31:0] in_word,
    input  logic        out_valid,
    output logic        out_ready,
    input  logic [31:0] out_word,
    input  logic        idle,
    output logic        rest            // the chip is idle and no word is kept
);
    // one word is kept until it is known whether another one follows
    logic        kept, shown, last;
    logic [31:0] word;
    always_ff @(posedge aclk) rst <= !aresetn;
    assign in_valid      = s_axis_tvalid && !rst;
    assign in_word       = s_axis_tdata;
    assign s_axis_tready = in_ready && !rst;
    assign m_axis_tvalid = shown;
    assign m_axis_tdata  = word;
    assign m_axis_tlast  = last;
    assign rest          = idle && !kept;
    assign out_ready     = !kept || (shown && m_axis_tready);
    always_ff @(posedge aclk)
        if (rst) {kept, shown, last} <= '0;
        else if (out_valid && out_ready) begin
            kept  <= 1;
            shown <= 0;
            last  <= 0;
        end else if (shown && m_axis_tready) {kept, shown, last} <= '0;
        else if (kept && !shown && (out_valid || idle)) begin
            shown <= 1;
            last  <= !out_valid;
        end
    always_ff @(posedge aclk) if (out_valid && out_ready) word <= out_word;
endmodule
