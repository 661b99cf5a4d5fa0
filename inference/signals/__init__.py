"""Signals as they stream: beats, intervals, quality; the same results for any chunking."""
