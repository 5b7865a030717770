"""The kinds of rules. A new kind is a module here and a line in ``KINDS``."""

from lastgood.command.validate.kinds.checks import CHECKS, DOMAINS
from lastgood.command.validate.kinds.exclusion import EXCLUSION
from lastgood.command.validate.kinds.foreign_keys import FOREIGN_KEYS
from lastgood.command.validate.kinds.guesses import GUESSES
from lastgood.command.validate.kinds.indexes import CONTENTS, INDEXES
from lastgood.command.validate.kinds.own import OWN
from lastgood.command.validate.kinds.polymorphic import GUESSED, POLYMORPHIC
from lastgood.command.validate.kinds.readable import READABLE
from lastgood.command.validate.kinds.required import REQUIRED
from lastgood.command.validate.kinds.sequences import SEQUENCES
from lastgood.command.validate.kinds.unique import UNIQUE
from lastgood.command.validate.kinds.views import COLLATIONS, VIEWS
from lastgood.command.validate.rule import RuleKind

KINDS: tuple[RuleKind, ...] = (
    FOREIGN_KEYS,
    GUESSES,
    POLYMORPHIC,
    GUESSED,
    REQUIRED,
    CHECKS,
    DOMAINS,
    UNIQUE,
    EXCLUSION,
    SEQUENCES,
    INDEXES,
    CONTENTS,
    READABLE,
    VIEWS,
    COLLATIONS,
    OWN,
)
