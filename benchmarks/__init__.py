"""Benchmarks: scripts that print one JSON object per figure. Never run as tests."""
