"""Start a command of the checkout by its script: ``python train.py ...`` is ``micota train ...``."""

import sys
from pathlib import Path


def start(script: str) -> None:
    """Run the command that a script is named for."""
    try:
        from micota.__main__ import main
    except ModuleNotFoundError as error:
        if error.name != "micota":  # anything else that is missing is a bug, or a broken installation
            raise
        print(f"error: {sys.executable} has no micota; make install, then source .venv/bin/activate", file=sys.stderr)
        sys.exit(2)
    main([Path(script).stem, *sys.argv[1:]], as_script=True)
