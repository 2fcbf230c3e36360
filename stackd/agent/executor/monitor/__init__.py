"""One program per task that outlives the daemon: builds the task's world, holds it at the gate, keeps its log, records its end.

Only modules of the standard library that cost little memory may be imported here, and of stackd nothing but this package:
a node runs one monitor per task.
"""
