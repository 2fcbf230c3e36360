"""The `stackd` command: reads files, asks the daemon, prints. It decides nothing and stores nothing."""
