"""The part of the build that pyproject.toml cannot describe: the top folder conf becomes micota/conf in a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    """Builds the packages and, unless the install is editable, the YAML groups inside them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "micota", "conf")
            shutil.rmtree(target, ignore_errors=True)  # an earlier build may have options that no longer exist
            shutil.copytree(Path(__file__).with_name("conf"), target)


setup(cmdclass={"build_py": BuildWithConf})
