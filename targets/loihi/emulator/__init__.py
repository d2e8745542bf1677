"""Emulator of the Loihi image: it reads the image and the inputs, nothing else."""
