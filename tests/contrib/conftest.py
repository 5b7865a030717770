"""The scripts of contrib call the lastgood of the tests, in a folder of their own."""

from __future__ import annotations

from tests.cli.conftest import child_environment as child_environment
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import database as database
from tests.cli.conftest import lastgood as lastgood
