"""`python -m ofasys_lite VERB ...` is `ofasys-lite VERB ...`."""

import sys

from ofasys_lite.commands.app import main

if __name__ == "__main__":
    sys.exit(main())
