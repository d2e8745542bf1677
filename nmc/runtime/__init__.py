"""Running compiled networks: evaluation, reference runs, the demo."""
