"""Commands as a user runs them."""

from tests.cli.conftest import child_environment as child_environment
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import database as database
from tests.cli.conftest import lastgood as lastgood
