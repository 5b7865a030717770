"""The kinds of rules. A new one is a module here, and a line in ``KINDS``."""

from lastgood.procedure.validate.kinds.checks import CHECKS, DOMAINS
from lastgood.procedure.validate.kinds.exclusion import EXCLUSION
from lastgood.procedure.validate.kinds.foreign_keys import FOREIGN_KEYS
from lastgood.procedure.validate.kinds.guesses import GUESSES
from lastgood.procedure.validate.kinds.indexes import CONTENTS, INDEXES
from lastgood.procedure.validate.kinds.own import OWN
from lastgood.procedure.validate.kinds.polymorphic import GUESSED, POLYMORPHIC
from lastgood.procedure.validate.kinds.readable import READABLE
from lastgood.procedure.validate.kinds.required import REQUIRED
from lastgood.procedure.validate.kinds.sequences import SEQUENCES
from lastgood.procedure.validate.kinds.unique import UNIQUE
from lastgood.procedure.validate.kinds.views import COLLATIONS, VIEWS
from lastgood.procedure.validate.rule import Kind

KINDS: tuple[Kind, ...] = (
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
