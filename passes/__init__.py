"""Everything that rewrites a program: the pass manager and the passes, one file each."""

if __name__ != "nmc.passes":  # `import passes` from the checkout would load everything twice
    raise ImportError(f"this package is nmc.passes, not {__name__!r}")
