// CRC32 (zlib's: reflected 0x04C11DB7, all ones before, inverted after), a byte a clock.
module nmc_crc32 (
    input  logic        clk,
    input  logic        start,
    input  logic        step,
    input  logic [7:0]  octet,
    output logic [31:0] crc
);
    function automatic logic [31:0] next(input logic [31:0] sum, input logic [7:0] data);
        next = sum ^ 32'(data);
        for (int k = 0; k < 8; k++) next = next[0] ? (next >> 1) ^ 32'hEDB88320 : next >> 1;
    endfunction

    logic [31:0] sum;
    assign crc = ~sum;
    always_ff @(posedge clk)
        if (start) sum <= '1;
        else if (step) sum <= next(sum, octet);
endmodule
