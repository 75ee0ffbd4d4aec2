"""`python -m effnas` is `effnas`."""

from effnas.cli import main

main()
