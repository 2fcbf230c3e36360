"""The node's side: one worker per task, executors at the edge."""
