"""The FPGA target: an integrate-and-fire core of our own in SystemVerilog, its law, words and simulation."""
