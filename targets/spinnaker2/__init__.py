"""The SpiNNaker2 target: one ELF for each processing element, run as ARM code or by engines that equal it."""
