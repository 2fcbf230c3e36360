"""Entry: `python -I -S .../monitor/__main__.py TASKDIR`, with the plan on file descriptor 0."""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/stackd/agent/executor/")[0])
    from stackd.agent.executor.monitor.supervisor import main

    main(sys.argv[1])
