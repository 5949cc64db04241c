"""One self-contained HTML page about a pretraining run: `build.build_report(workdir)`."""
