"""`python -m facesyn`."""

from facesyn.cli import main

if __name__ == "__main__":
    main()
