"""Executors: what really runs a task."""
