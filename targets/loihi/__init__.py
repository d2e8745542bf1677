"""The Loihi target: first-generation Loihi as limits, memory image and bit-exact emulator."""
