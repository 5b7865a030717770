"""What is built is started outside of the source tree."""

from tests.cli.conftest import child_environment as child_environment
