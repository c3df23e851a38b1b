"""Show the comparison of all arms, as a table and a page: ``python report.py experiment=tiny``."""

from micota import doors, experiments
from micota.config import ReportConfig
from micota.stages.dashboard import dashboard
from micota.stages.report import report


def main(config: ReportConfig) -> None:
    if config.wandb:
        dashboard(config)
    else:
        report(config, experiments.cases(config))


if __name__ == "__main__":
    doors.run(__file__, main)
