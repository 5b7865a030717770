"""``python -m lastgood.cli``."""

import sys

from lastgood.cli import main

sys.exit(main())
