"""`python -m stackd.cli`: the same as the console script."""

from stackd.cli.main import main

main()
