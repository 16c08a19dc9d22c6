"""`python -m brim` is the `brim` command."""

import sys

from brim.cli import main

sys.exit(main())
