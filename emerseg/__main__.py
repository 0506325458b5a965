"""`python -m emerseg`: the command line, as the console script `emerseg` starts it."""

from fusion.cli import main

if __name__ == "__main__":
    main()
