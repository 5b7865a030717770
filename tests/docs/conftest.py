"""Pages are followed as by a user: in a folder of their own, with nothing inherited."""

from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood
