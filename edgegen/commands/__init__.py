"""The sub-commands of `edgegen`, one file each: `add_arguments(parser)` and `run(args) -> exit code`."""
