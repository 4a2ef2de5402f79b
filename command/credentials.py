"""Files with credentials for NATS, looked at before nats-py reads them: what it makes of a wrong one is no help."""

from __future__ import annotations

import re
from pathlib import Path

from natsgate.events.status import ContractError

_CREDS = re.compile(r'BEGIN NATS USER JWT-+\r?\n(\S+)\r?\n.*BEGIN USER NKEY SEED-+\r?\n(\S+)', re.DOTALL)


def creds_of(file: Path | None) -> str | None:
    """The path of a credentials file. Raises ContractError for one without a JWT and a seed."""
    if file is None:
        return None
    found = _CREDS.search(_read(file, 'nats-creds'))
    if not found or not _is_seed(found[2], 'nats-creds'):
        raise ContractError(f'nats-creds: {file}: no JWT and seed in it')
    return str(file)


def nkey_of(file: Path | None) -> str | None:
    """The path of a file with an nkey seed. Raises ContractError for one without."""
    if file is None:
        return None
    if not _is_seed(_read(file, 'nats-nkey').strip(), 'nats-nkey'):
        raise ContractError(f'nats-nkey: {file}: no nkey seed in it')
    return str(file)


def secret_of(file: Path | None, name: str) -> str | None:
    """What a file holds. Raises ContractError for one that cannot be read."""
    return None if file is None else _read(file, name).strip()


def _read(file: Path, name: str) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError:
        raise ContractError(f'{name}: {file}: it is not text') from None
    except OSError as error:
        raise ContractError(f'{name}: {file}: {error.strerror}') from error


def _is_seed(text: str, name: str) -> bool:
    try:
        import nkeys  # type: ignore[import-untyped]
    except ImportError:
        raise ContractError(f"{name}: it needs the package nkeys: pip install 'natsgate[nkeys]'") from None
    try:
        nkeys.from_seed(bytearray(text.encode())).wipe()
    except Exception:  # nkeys raises whatever it stumbles over, for example binascii.Error
        return False
    return True
