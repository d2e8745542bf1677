"""What the host does alike for every chip; no target of its own."""
