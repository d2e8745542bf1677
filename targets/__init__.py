"""The chips: one folder each, holding its limits as data, its image format and its emulator."""

if __name__ != "nmc.targets":  # `import targets` from the checkout would load everything twice
    raise ImportError(f"this package is nmc.targets, not {__name__!r}")
