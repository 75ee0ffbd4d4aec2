"""`python -m effnas` is `effnas`."""

from effnas.cli.app import main

main()
