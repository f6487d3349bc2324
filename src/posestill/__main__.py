"""`python -m posestill` is the command `posestill`, as torchrun starts it."""

from posestill.cli.main import main

if __name__ == "__main__":
    main()
