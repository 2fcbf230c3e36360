"""From a desired network to the kernel. Knows endpoints, addresses and ports; knows no tasks."""
