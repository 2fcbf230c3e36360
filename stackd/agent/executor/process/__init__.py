"""Tasks as processes of this host, with no engine at all.

executor    the port: one per state directory
task        the controller: one per task
spec        from a task's spec to a monitor's plan, and faults for what can't be done
plan        what a monitor is told
host        directories, roots, volumes, network and control groups that tasks share
directory   what is found of a task on disk
channel     the daemon's end of a monitor
listeners   who has a port that is taken
health      what counts as healthy (pure)
logs        reading and following a task's log

The monitor itself is `stackd.agent.executor.monitor`: a program of its own that imports none of this.
"""

from stackd.agent.executor.process.executor import ProcessExecutor

__all__ = ["ProcessExecutor"]
