"""``python -m micota COMMAND ...``, the same as ``micota COMMAND ...``."""

from micota.cli.app import main

if __name__ == "__main__":
    main()
