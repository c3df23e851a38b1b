"""Show the comparison of all recipes, as a table and a page: ``python report.py experiment=tiny``."""

from micota.cli import app as commands
from micota.cli import experiments
from micota.cli.dashboard import dashboard
from micota.cli.report import report
from micota.config import ReportConfig


def main(config: ReportConfig) -> None:
    if config.wandb:
        dashboard(config)
    else:
        report(config, experiments.cases(config))


if __name__ == "__main__":
    commands.run(__file__, main)
