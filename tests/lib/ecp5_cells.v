// Models of the two ECP5 cells that Yosys has none of, as far as the core uses them.

// One port writes, one reads; a row of 1, 2, 4, 9 or 18 bits each (FPGA-TN-02204). Bits of a row lie side by side in a
// memory of 18 x 1024; rows of 1, 2 and 4 bits leave every ninth bit out. A port of 18 bits has its byte enables in ADA1 and ADA0.
module DP16KD (
`define BUS18(P) input P``17, P``16, P``15, P``14, P``13, P``12, P``11, P``10, P``9, P``8, P``7, P``6, P``5, P``4, P``3, P``2, P``1, P``0
`define BUS14(P) input P``13, P``12, P``11, P``10, P``9, P``8, P``7, P``6, P``5, P``4, P``3, P``2, P``1, P``0
    `BUS18(DIA), `BUS18(DIB), `BUS14(ADA), `BUS14(ADB),
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0, CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
`define ROW(P) {P``17, P``16, P``15, P``14, P``13, P``12, P``11, P``10, P``9, P``8, P``7, P``6, P``5, P``4, P``3, P``2, P``1, P``0}
`define ADDR(P) {P``13, P``12, P``11, P``10, P``9, P``8, P``7, P``6, P``5, P``4, P``3, P``2, P``1, P``0}
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG", RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC";
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", GSR = "AUTO";
    parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB", CEAMUX = "CEA", CEBMUX = "CEB", OCEAMUX = "OCEA", OCEBMUX = "OCEB";
    parameter WEAMUX = "WEA", WEBMUX = "WEB", RSTAMUX = "RSTA", RSTBMUX = "RSTB", WID = 0, INIT_DATA = "STATIC";
`define INITS(H) parameter [319:0] INITVAL_``H``0 = 0, INITVAL_``H``1 = 0, INITVAL_``H``2 = 0, INITVAL_``H``3 = 0, \
    INITVAL_``H``4 = 0, INITVAL_``H``5 = 0, INITVAL_``H``6 = 0, INITVAL_``H``7 = 0, INITVAL_``H``8 = 0, \
    INITVAL_``H``9 = 0, INITVAL_``H``A = 0, INITVAL_``H``B = 0, INITVAL_``H``C = 0, INITVAL_``H``D = 0, \
    INITVAL_``H``E = 0, INITVAL_``H``F = 0;
    `INITS(0) `INITS(1) `INITS(2) `INITS(3)

    reg  [17:0] mem [0:1023];
    reg  [17:0] got_a = 0, got_b = 0, kept_a = 0, kept_b = 0;
    wire [13:0] at_a = `ADDR(ADA), at_b = `ADDR(ADB);
    wire [17:0] in_a = `ROW(DIA), in_b = `ROW(DIB);
    integer k;
    initial for (k = 0; k < 1024; k = k + 1) mem[k] = 0;

    // number of a bit of a row, counted in the whole memory
    function [13:0] place(input integer width, input [13:0] address, input integer bit_of);
        case (width)
            1:       place = (address >> 3) * 9 + address[2:0];
            2:       place = (address >> 3) * 9 + address[2:1] * 2 + bit_of;
            4:       place = (address >> 3) * 9 + address[2] * 4 + bit_of;
            9:       place = (address >> 3) * 9 + bit_of;
            default: place = (address >> 4) * 18 + bit_of;
        endcase
    endfunction

    // places of 14 bits: 18 x 1024 are 18,432
    function [14:0] whole(input integer width, input [13:0] address, input integer bit_of);
        case (width)
            1:       whole = (address >> 3) * 15'd9 + address[2:0];
            2:       whole = (address >> 3) * 15'd9 + address[2:1] * 2 + bit_of;
            4:       whole = (address >> 3) * 15'd9 + address[2] * 4 + bit_of;
            9:       whole = (address >> 3) * 15'd9 + bit_of;
            default: whole = (address >> 4) * 15'd18 + bit_of;
        endcase
    endfunction

    function [17:0] row(input integer width, input [13:0] address);
        integer n;
        reg [14:0] w;
        begin
            row = 0;
            for (n = 0; n < width; n = n + 1) begin
                w = whole(width, address, n);
                row[n] = mem[w / 18][w % 18];
            end
        end
    endfunction

    task put(input integer width, input [13:0] address, input [17:0] value);
        integer n;
        reg [14:0] w;
        for (n = 0; n < width; n = n + 1)
            if (width != 18 || address[n / 9]) begin
                w = whole(width, address, n);
                mem[w / 18][w % 18] = value[n];
            end
    endtask

    // the core writes through one port and reads through the other, with the same clock
    always @(posedge CLKA) begin
        if (OCEA) kept_a <= got_a;
        if (OCEB) kept_b <= got_b;
        if (CEA && !WEA) got_a <= row(DATA_WIDTH_A, at_a);
        if (CEB && !WEB) got_b <= row(DATA_WIDTH_B, at_b);
        if (CEA && WEA) put(DATA_WIDTH_A, at_a, in_a);
        if (CEB && WEB) put(DATA_WIDTH_B, at_b, in_b);
    end
    assign `ROW(DOA) = REGMODE_A == "OUTREG" ? kept_a : got_a;
    assign `ROW(DOB) = REGMODE_B == "OUTREG" ? kept_b : got_b;
endmodule
