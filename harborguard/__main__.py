"""Entry point of `python -m harborguard`."""

from harborguard.cli import main

main(prog_name="harborguard")
