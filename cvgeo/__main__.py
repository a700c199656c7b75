"""`python -m cvgeo`."""

from cvgeo.cli.app import run

if __name__ == "__main__":
    run()
