"""Simulation of the RTL itself: a C shim around Verilator's or CXXRTL's model, called with numpy buffers."""
