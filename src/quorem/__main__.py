"""`python -m quorem`."""

import sys

from quorem.cli import main

sys.exit(main())
