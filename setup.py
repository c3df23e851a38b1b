"""What pyproject.toml cannot say: the folder conf, which stands at the top, becomes micota/conf in a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    """Packages and, unless they are installed in place, the YAML groups inside of them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "micota", "conf")
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build, whose options may be gone
            shutil.copytree(Path(__file__).with_name("conf"), target)


setup(cmdclass={"build_py": BuildWithConf})
