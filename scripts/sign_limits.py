"""Sign a limit library, on the signer's own machine; the service never sees a private key.

``python scripts/sign_limits.py keygen PRIVATE.pem``  make a key; prints the public half (base64)
``python scripts/sign_limits.py pack PAYLOAD.json LIBRARY.json``  put a payload in an envelope
``python scripts/sign_limits.py sign LIBRARY.json PRIVATE.pem PERSON KEY_ID``  add one signature

Two different persons sign, each on their own, after reading the payload. The public halves go into
the site's file of signers: ``[{"person": ..., "key_id": ..., "public_key": ...}]``.
"""

from __future__ import annotations

import base64
import getpass
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

SIGNED_PREFIX = b"clinfer limits 1\x00"


def keygen(path: Path, password: bytes) -> str:
    """Write a new encrypted private key and return its public half in base64."""
    key = Ed25519PrivateKey.generate()
    with path.open("xb") as out:
        path.chmod(0o600)
        out.write(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
        )
    return base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def pack(payload: bytes) -> str:
    """Return an envelope without signatures around the exact bytes of a payload."""
    json.loads(payload)
    text = base64.b64encode(payload).decode("ascii")
    return json.dumps({"payload": text, "signatures": []}, indent=1) + "\n"


def sign(envelope: str, key: Ed25519PrivateKey, person: str, key_id: str) -> str:
    """Return the envelope with one more signature."""
    document = json.loads(envelope)
    payload = base64.b64decode(document["payload"], validate=True)
    signature = base64.b64encode(key.sign(SIGNED_PREFIX + payload)).decode("ascii")
    document["signatures"].append({"person": person, "key_id": key_id, "signature": signature})
    return json.dumps(document, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    """Run one of the three commands; return the exit code."""
    match arguments:
        case ["keygen", private]:
            password = getpass.getpass("password for the new key: ").encode()
            sys.stdout.write(keygen(Path(private), password) + "\n")
        case ["pack", payload, library]:
            Path(library).write_text(pack(Path(payload).read_bytes()), encoding="ascii")
        case ["sign", library, private, person, key_id]:
            password = getpass.getpass("password of the key: ").encode()
            key = load_pem_private_key(Path(private).read_bytes(), password)
            if not isinstance(key, Ed25519PrivateKey):
                sys.stderr.write("not an Ed25519 key\n")
                return 2
            path = Path(library)
            path.write_text(sign(path.read_text(encoding="ascii"), key, person, key_id), "ascii")
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
