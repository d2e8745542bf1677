"""The program text: ops of the four levels, types, printer and parser, verifier, reference interpreter."""

if __name__ != "nmc.ir":  # `import ir` from the checkout would load everything twice
    raise ImportError(f"this package is nmc.ir, not {__name__!r}")
