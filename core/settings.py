"""Every setting of the service, in frozen groups, read once at each process entry.

A value comes from an argument of `load_settings`, else from the environment, else from `.env`; empty means unset.
A field's name in capitals is its variable. `scripts/docs.py` writes docs/settings.md and .env.example from here.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings

from core.setting_groups import (
    MINIMUM_SECRET_LENGTH,
    AccountSettings,
    DatabaseSettings,
    DebuggingSettings,
    DefaultSettings,
    LogSettings,
    ModerationSettings,
    ProviderSettings,
    QuotaSettings,
    RedisSettings,
    SecuritySettings,
    ServerSettings,
    StorageSettings,
    TaskSettings,
)

MINIMUM_SECRET_CHARACTERS = 8  # different ones; of 32 random digits all but one in 60,000 have as many
# What people copy out of examples and forget to change.
_PLACEHOLDER = re.compile(
    r"change.?(me|this|it)|change.?in.?production|your.?secret|insecure|placeholder", re.IGNORECASE
)


def embedded_database(data_dir: Path) -> Path:
    """The SQLite file of a service that has no DATABASE_URL."""
    return data_dir / "nbl.db"


class SettingsError(Exception):
    """One or more settings are wrong; `str()` names each on a line of its own, without secret values."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseModel):
    """All groups; frozen, handed down from the process entry."""

    model_config = ConfigDict(frozen=True)

    server: ServerSettings
    security: SecuritySettings
    database: DatabaseSettings
    redis: RedisSettings
    storage: StorageSettings
    providers: ProviderSettings
    accounts: AccountSettings
    quota: QuotaSettings
    tasks: TaskSettings
    moderation: ModerationSettings
    defaults: DefaultSettings
    log: LogSettings
    debugging: DebuggingSettings

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [
            *self._production_problems(),
            *self._exposure_problems(),
            *self._github_problems(),
            *self._bucket_problems(),
            *self._moderation_problems(),
        ]
        if problems:
            raise SettingsError(problems)
        return self

    def _production_problems(self) -> list[str]:
        if not self.server.production:
            return []
        problems = []
        if self.security.secret_key is None:
            problems.append(f"SECRET_KEY: must be set in production, with at least {MINIMUM_SECRET_LENGTH} characters")
        elif _is_guessable(self.security.secret_key):
            problems.append("SECRET_KEY: is not secret, it looks like an example; make one at random")
        if self.providers.demo_provider_enabled:
            problems.append("DEMO_PROVIDER_ENABLED: the demo provider is not for production")
        if self.debugging.fail_point:
            problems.append("FAIL_POINT: is for tests alone")
        if self.accounts.local_auth_enabled:
            problems.append("LOCAL_AUTH_ENABLED: registration open to all is not for production")
        return problems

    def _exposure_problems(self) -> list[str]:
        loopback = self.server.host in {"127.0.0.1", "::1", "localhost"}
        if loopback or self.server.production or self.accounts.local_auth_enabled is not None:
            return []
        return [
            "HOST: listening beyond this machine needs LOCAL_AUTH_ENABLED said explicitly (true or false), "
            "since local accounts are on by default in development"
        ]

    def _github_problems(self) -> list[str]:
        accounts = self.accounts
        if not accounts.auth_enabled or accounts.github_credentials:
            return []
        return ["AUTH_ENABLED: GitHub sign-in needs GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET"]

    def _bucket_problems(self) -> list[str]:
        storage, problems = self.storage, list[str]()
        if not storage.r2_enabled:
            return []
        if not storage.r2_endpoint:
            problems.append("R2_ACCOUNT_ID: must be set with R2_ENABLED, or else R2_ENDPOINT_URL")
        keys = {"R2_ACCESS_KEY_ID": storage.r2_access_key_id, "R2_SECRET_ACCESS_KEY": storage.r2_secret_access_key}
        problems += [f"{name}: must be set with R2_ENABLED" for name, key in keys.items() if key is None]
        private = storage.r2_private_bucket_name
        if storage.r2_public_url and private in {"", storage.r2_bucket_name}:
            problems.append(
                "R2_PRIVATE_BUCKET_NAME: with R2_PUBLIC_URL it must name another bucket than R2_BUCKET_NAME, for "
                "records and logs, which nobody may guess the address of"
            )
        return problems

    def _moderation_problems(self) -> list[str]:
        if not self.moderation.ai_moderation_enabled or self.providers.google_api_key is not None:
            return []
        return ["AI_MODERATION_ENABLED: needs GOOGLE_API_KEY, whose text model is asked"]

    @property
    def moderates_by_model(self) -> bool:
        asked = self.moderation.ai_moderation_enabled
        return self.providers.google_api_key is not None if asked is None else asked

    @property
    def demo_enabled(self) -> bool:
        asked = self.providers.demo_provider_enabled
        return not self.server.production if asked is None else asked

    @property
    def local_accounts_enabled(self) -> bool:
        asked = self.accounts.local_auth_enabled
        return not self.server.production if asked is None else asked

    @property
    def log_as_json(self) -> bool:
        asked = self.log.log_format
        return self.server.production if asked is None else asked == "json"


def _is_guessable(secret: SecretStr) -> bool:
    text = secret.get_secret_value()
    return len(set(text)) < MINIMUM_SECRET_CHARACTERS or _PLACEHOLDER.search(text) is not None


def _problem(group: type[BaseSettings], error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    field = group.model_fields.get(name)
    secret = field is not None and "SecretStr" in str(field.annotation)
    shown = "" if secret else f" (got {str(error.get('input'))[:80]!r})"
    return f"{name.upper()}: {error['msg'].removeprefix('Value error, ')}{shown}"


def setting_groups() -> dict[str, type[BaseSettings]]:
    """Group name to its class, in the order of the documentation."""
    groups = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            groups[name] = field.annotation
    return groups


def load_settings(overrides: Mapping[str, str] | None = None) -> Settings:
    """Read all groups.

    `overrides` maps variable names (`TRIAL_ENABLED`) to text and wins over the environment.
    Raises SettingsError with every wrong value, not only the first.
    """
    given = {name.lower(): value for name, value in (overrides or {}).items()}
    known = {field for group in setting_groups().values() for field in group.model_fields}
    problems = [f"{name.upper()}: no such setting" for name in sorted(given.keys() - known)]
    groups: dict[str, BaseSettings] = {}
    for name, group in setting_groups().items():
        values = {field: given[field] for field in group.model_fields if given.get(field)}
        make: Callable[..., BaseSettings] = group  # its own parameters are pydantic-settings' switches, not our fields
        try:
            groups[name] = make(**values)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError([f".env: can't be read: {error}"]) from None
        except ValidationError as error:
            problems.extend(_problem(group, entry) for entry in error.errors())
            # With its wrong values set aside the group can still be held against the others.
            wrong = {str(entry["loc"][0]) for entry in error.errors() if entry["loc"]}
            groups[name] = make(**values | {field: group.model_fields[field].default for field in wrong})
    try:
        settings = Settings.model_validate(groups)
    except SettingsError as error:
        raise SettingsError(problems + error.problems) from error
    if problems:
        raise SettingsError(problems)
    return settings
