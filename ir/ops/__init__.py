"""The ops of the four levels, one file a level; a target's own ops live in its folder."""
