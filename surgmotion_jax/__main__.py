"""`surgmotion COMMAND`, also `python -m surgmotion_jax COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from surgmotion_jax import registry


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Returns its exit code: 2 for bad input, 130 for Ctrl-C, each with a line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(registry.overview())
        return 0
    try:
        name, rest = registry.resolve(arguments)
        return registry.load(name)(rest)
    except ValueError as error:
        print(f"surgmotion: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("surgmotion: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
