"""What only shows when a stack is looked at as a whole: settings, ports and services that contradict each other.

Everything here is about what can't be meant, or can't be on any cluster; whether a cluster has room is the scheduler's
to say. What stackd itself can't do yet is a warning, and stands in one place (`ports.py`).
"""
