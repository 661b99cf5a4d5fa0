"""Where a network runs: Triton, this process, or a stand-in."""
