"""Tasks as containers of a Docker engine (API 1.41 and later). Importing it loads docker-py, some 12 MB and 0.3 s.

executor    the port: one per engine
task        the controller: one per task
spec        stackd's records to the engine's JSON and back (pure)
watch       what the event stream says of containers, and waiting for it
files       contents of configs and secrets
logs        lines from frames
engine      the one door to docker-py: lanes of threads, the event thread
"""

from stackd.agent.executor.docker.engine import ping
from stackd.agent.executor.docker.executor import DockerExecutor

__all__ = ["DockerExecutor", "ping"]
