"""The textual form of the IR: printer, parser and the side file of large constants."""
