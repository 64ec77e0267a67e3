"""The user's own Google key: checked with Google, kept encrypted on the session, used in place of the operator's."""

from pydantic import SecretStr

from core.errors import Unauthorized
from core.security import Vault
from services.accounts.models import Caller
from services.accounts.sessions import SessionStore
from services.providers.errors import InvalidApiKey
from services.providers.service import ProviderService

PROVIDER = "gemini"
SHOWN_CHARACTERS = 4


class OwnKeys:
    def __init__(self, sessions: SessionStore, vault: Vault, providers: ProviderService) -> None:
        self._sessions = sessions
        self._vault = vault
        self._providers = providers

    async def save(self, caller: Caller, key: SecretStr) -> str:
        """Keep a key that Google takes, until this session ends; answers what may be shown of it.

        Raises InvalidApiKey or another ProviderError, and then the key before it stays.
        """
        await self._providers.check_key(PROVIDER, key)
        masked = "****" + key.get_secret_value()[-SHOWN_CHARACTERS:]
        sealed = self._vault.seal(key, _context(caller))
        if not await self._sessions.change(caller.session_id, sealed_key=sealed, masked_key=masked):
            raise Unauthorized("session_ended")
        return masked

    async def forget(self, caller: Caller) -> None:
        await self._sessions.change(caller.session_id, sealed_key="", masked_key="")

    def of(self, caller: Caller) -> SecretStr | None:
        """The caller's saved key. Raises InvalidApiKey for one that cannot be opened: the operator's is no stand-in."""
        if not caller.sealed_key:
            return None
        key = self._vault.open(caller.sealed_key, _context(caller))
        if key is None:
            raise InvalidApiKey("the saved key was sealed with a SECRET_KEY that is gone; it has to be saved again")
        return key


def _context(caller: Caller) -> str:
    return f"session:{caller.session_id}"
