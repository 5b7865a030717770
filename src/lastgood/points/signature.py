"""Signatures of manifests: HMAC-SHA256 with a key that only the operator's machines have.

A manifest has the SHA-256 of its dump. With a signature, not only a damaged dump is noticed, but also a replaced one.
The signature covers the content of the JSON document, whatever its layout and the version that wrote it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import stat

from lastgood.config.signing import Signing
from lastgood.errors import Refused, os_reason

FIELD = "signature"
MIN_KEY_BYTES = 32
NOT_SIGNED = (
    "Choose another restore point: lastgood points. If you know where this one comes from, repeat the command with: "
    '--trust-unsigned "REASON"'
)
_METHOD = "hmac-sha256:"
_PURPOSE = b"lastgood manifest 1\0"


def key() -> bytes | None:
    """The key, None where none is configured. Raises Refused when the file cannot be used."""
    path = Signing.key_file
    if path is None:
        return None
    create = f'Create one: (umask 077; head -c 32 /dev/urandom | base64 > "{path}"). Or correct "key_file".'
    try:
        mode = path.stat().st_mode
        text = path.read_bytes().strip()
    except OSError as error:
        why = os_reason(error)
        raise Refused(f'cannot read the key file "{path}": {why}', hint=create) from error
    if stat.S_IMODE(mode) & 0o077:
        raise Refused(f'cannot use the key file "{path}": other users can read it', hint=f'Run: chmod 600 "{path}"')
    if len(text) < MIN_KEY_BYTES:
        raise Refused(f'cannot use the key file "{path}": it has fewer than {MIN_KEY_BYTES} bytes', hint=create)
    return text


def signed(document: bytes) -> bytes:
    """The JSON document with its signature, unchanged without a key. Raises Refused."""
    secret = key()
    if secret is None:
        return document
    content = json.loads(document)
    content.pop(FIELD, None)
    return json.dumps({**content, FIELD: _signature(secret, content)}, indent=1).encode()


def why_not_signed(document: bytes | None) -> str:
    """Return the reason why a JSON document does not prove its origin; empty if it does, or if there is no key.
    ``document``: None where there is none. Raises Refused when the key cannot be used."""
    secret = key()
    if secret is None:
        return ""
    if document is None:
        return "it has no manifest that could be signed"
    try:
        content = json.loads(document, object_pairs_hook=_unique)
    except ValueError as error:
        return f"its manifest cannot be verified: {error}"
    signature = content.pop(FIELD, None) if isinstance(content, dict) else None
    if not isinstance(signature, str) or not signature:
        return "its manifest is not signed"
    if not hmac.compare_digest(signature.encode(), _signature(secret, content).encode()):
        return f'its manifest was not signed with the key in "{Signing.key_file}", or was changed since'
    return ""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys mean the same to every reader."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _signature(secret: bytes, content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return _METHOD + hmac.new(secret, _PURPOSE + text, hashlib.sha256).hexdigest()
