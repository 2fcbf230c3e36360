"""stackd makes a cluster of container hosts run exactly what a git repository says."""

__version__ = "0.1.0"
