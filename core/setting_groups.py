"""The groups of settings: each field with its default, its bounds and the line that the documents have of it."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.host_names import named_host

MIB = 1024 * 1024
MINIMUM_SECRET_LENGTH = 32
BUCKET_NAME = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _no_trailing_slash(value: str) -> str:
    return value.rstrip("/")


def _http_url(value: str) -> str:
    if value and not _HTTP_ADDRESS.fullmatch(value):
        raise ValueError("must be an address that starts with http:// or https://")
    return value.rstrip("/")


def _header_value(value: SecretStr | None) -> SecretStr | None:
    """A key that no header can carry would fail each call instead of the start."""
    if value is None:
        return None
    key = value.get_secret_value().strip()
    if not _VISIBLE.fullmatch(key):
        raise ValueError("must be one line of visible ASCII characters")
    return SecretStr(key)


# Several hosts, a Unix socket as `host` in the query, and everything that libpq takes there.
_POSTGRESQL_ADDRESS = re.compile(r"postgres(ql)?://([^\s/?#@:]+(:[^\s/?#@:]*)?@)?[^\s/?#@]*/[^\s/?#@]+(\?[^\s#]*)?")
_HTTP_ADDRESS = re.compile(r"https?://[\w.\-:\[\]@%]+(/[^\s?#]*)?", re.ASCII)
# Exactly as a browser says it; any other spelling would never be let in.
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:\d+)?")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
# Larger numbers are slips of the keyboard, and do not fit into what counts with them later.
_MOST = 10**9

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
HeaderSecret = Annotated[SecretStr | None, AfterValidator(_header_value)]
Positive = Annotated[int, Field(ge=1, le=_MOST)]
NotNegative = Annotated[int, Field(ge=0, le=_MOST)]


class _Group(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, case_sensitive=False
    )


class ServerSettings(_Group):
    environment: Literal["development", "production"] = Field(
        "development",
        description="production refuses default secrets, open registration and the demo provider",
    )
    debug: bool = Field(False, description="more in the log; never more in an answer")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    web_concurrency: Positive = Field(1, description="number of API processes")
    public_base_url: HttpUrl = Field(
        "",
        description="what links in answers and webhooks start with; empty: taken from the request, and from HOST and "
        "PORT in webhooks",
    )
    trusted_proxies: Names = Field(
        (), description="addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed"
    )
    cors_origins: Names = Field((), description="origins of other pages that may call the API from a browser")
    docs_enabled: bool | None = Field(
        None, description="serve /docs and /openapi.json; default: true, false in production"
    )
    rate_limit_requests: Positive = Field(
        60, description="requests a minute and caller on routes that make something; ten times that for reads"
    )
    request_timeout_seconds: float = Field(
        300, gt=0, le=3600, description="longest that one generation may take, all tries together"
    )
    max_request_bytes: Positive = Field(64 * MIB, description="largest request body")

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            ipaddress.ip_network(entry, strict=False)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if not _ORIGIN.fullmatch(entry):
                raise ValueError(f"{entry!r} is not an origin such as https://example.org")
        return value

    @property
    def production(self) -> bool:
        return self.environment == "production"

    @property
    def base_url(self) -> str:
        """PUBLIC_BASE_URL, or what is the best guess where there is no request to take it from."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_base_url or f"http://{host}:{self.port}"

    @property
    def shows_docs(self) -> bool:
        return not self.production if self.docs_enabled is None else self.docs_enabled


class SecuritySettings(_Group):
    secret_key: SecretStr | None = Field(
        None,
        description="at least 32 characters; everything signed or encrypted hangs on it; made and kept in "
        "DATA_DIR when empty, must be given in production",
    )
    secret_key_previous: SecretStr | None = Field(None, description="the key before; still verifies and decrypts")

    @field_validator("secret_key", "secret_key_previous")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MINIMUM_SECRET_LENGTH:
            raise ValueError(f"must have at least {MINIMUM_SECRET_LENGTH} characters")
        return value


class DatabaseSettings(_Group):
    database_url: SecretStr = Field(
        SecretStr(""), description="PostgreSQL as postgresql://user:password@host:5432/name; empty: SQLite in DATA_DIR"
    )

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr) -> SecretStr:
        # The driver's own complaint about an address may quote the password.
        address = value.get_secret_value()
        if address and not _POSTGRESQL_ADDRESS.fullmatch(address):
            raise ValueError(
                "must look like postgresql://user:password@host:5432/name, "
                "with whatever is no letter or digit in a password written as %40 and the like"
            )
        return value


class RedisSettings(_Group):
    redis_url: SecretStr | None = Field(
        None, description="redis://, rediss:// or unix://; empty: an embedded server in DATA_DIR"
    )

    @field_validator("redis_url")
    @classmethod
    def _scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value


class StorageSettings(_Group):
    data_dir: Path = Field(Path("data"), description="folder of everything embedded")
    r2_enabled: bool = Field(False, description="keep images in an S3-compatible bucket; false: local files")
    r2_account_id: str = Field("", pattern=r"^[A-Za-z0-9.-]*$", description="Cloudflare account id")
    r2_access_key_id: HeaderSecret = Field(None, description="bucket access key")
    r2_secret_access_key: HeaderSecret = Field(None, description="bucket secret key")
    r2_bucket_name: str = Field(
        "nano-banana-images", pattern=BUCKET_NAME, description="bucket of the images; this installation's alone"
    )
    r2_public_url: HttpUrl = Field("", description="public address of the bucket, when it has one")
    r2_endpoint_url: HttpUrl = Field("", description="any S3 endpoint; empty: Cloudflare's of the account")
    r2_private_bucket_name: str = Field(
        "", pattern=f"^$|{BUCKET_NAME}", description="bucket for everything but images; needed with R2_PUBLIC_URL"
    )
    image_url_ttl_seconds: Positive = Field(3600, description="life of a signed image link")
    trash_minutes: NotNegative = Field(10, description="how long a deleted image can be restored")
    guest_retention_hours: Positive = Field(24, description="how long what a guest made is kept")
    max_history_days: NotNegative = Field(0, description="images older than this are removed; 0 keeps all")
    max_storage_gb: float = Field(0, ge=0, le=_MOST, description="oldest images go above this (10^9 bytes); 0: no cap")
    local_retention_days: NotNegative = Field(
        0, description="days a local copy of an image stands in front of the bucket"
    )
    max_image_bytes: Positive = Field(20 * MIB, description="largest image that a caller may send")
    max_image_pixels: Positive = Field(50_000_000, description="most pixels of such an image, all frames added")

    @property
    def r2_endpoint(self) -> str:
        """R2_ENDPOINT_URL, else Cloudflare's of the account; empty without either."""
        account = self.r2_account_id
        return self.r2_endpoint_url or (f"https://{account}.r2.cloudflarestorage.com" if account else "")

    @property
    def public_bucket_url(self) -> str:
        """Where everybody reads the images; empty where nobody does but us."""
        return self.r2_public_url if self.r2_enabled else ""


class ProviderSettings(_Group):
    google_api_key: HeaderSecret = Field(None, description="the operator's Gemini key")
    google_gemini_base_url: HttpUrl = Field("https://generativelanguage.googleapis.com", description="Gemini endpoint")
    gemini_image_model: str = Field("gemini-3-pro-image", description="default image model of Gemini")
    gemini_text_model: str = Field("gemini-3-flash", description="text model of Gemini")
    demo_provider_enabled: bool | None = Field(
        None, description="pictures drawn without any AI, marked as such; default: true, false in production"
    )


class AccountSettings(_Group):
    auth_enabled: bool | None = Field(None, description="GitHub sign-in; default: on when client id and secret are set")
    github_client_id: str = Field("", description="GitHub OAuth app")
    github_client_secret: SecretStr | None = Field(None, description="its secret")
    github_redirect_uri: HttpUrl = Field("", description="the exact callback address registered with GitHub")
    github_base_url: HttpUrl = Field("https://github.com", description="for GitHub Enterprise")
    github_api_url: HttpUrl = Field("https://api.github.com", description="for GitHub Enterprise")
    admin_logins: Names = Field((), description="GitHub logins or numeric ids of admins")
    local_auth_enabled: bool | None = Field(
        None, description="accounts with e-mail and password; default: true, false in production"
    )
    guest_enabled: bool = Field(True, description="people may try without an account")
    guest_rate_per_hour: Positive = Field(30, description="guest accounts an hour and address")
    login_rate_per_minute: Positive = Field(10, description="sign-ins a minute and address")

    @property
    def github_credentials(self) -> bool:
        return bool(self.github_client_id) and self.github_client_secret is not None

    @property
    def github_enabled(self) -> bool:
        return self.github_credentials and self.auth_enabled is not False


class QuotaSettings(_Group):
    trial_enabled: bool = Field(True, description="people may generate on the operator's key")
    trial_global_quota: NotNegative = Field(50, description="points a day, shared by all")
    trial_quota_mode: Literal["manual", "auto"] = Field(
        "manual", description="auto derives a mode's limit from the pool"
    )
    trial_cooldown_seconds: float = Field(
        3, ge=0, le=24 * 3600, description="pause between two generations of one user"
    )
    trial_guest_share: float = Field(0.2, ge=0, le=1, description="part of the pool for guests of one address")
    trial_basic_1k_limit: NotNegative = Field(30, description="images a day and user, 1K and 2K")
    trial_basic_1k_cost: NotNegative = Field(1, description="points an image, 1K and 2K")
    trial_basic_4k_limit: NotNegative = Field(10, description="images a day and user, 4K")
    trial_basic_4k_cost: NotNegative = Field(3, description="points an image, 4K")
    trial_chat_limit: NotNegative = Field(20, description="chat turns a day and user")
    trial_chat_cost: NotNegative = Field(1, description="points a chat turn")
    trial_batch_1k_limit: NotNegative = Field(15, description="batch images a day and user, 1K and 2K")
    trial_batch_1k_cost: NotNegative = Field(1, description="points a batch image, 1K and 2K")
    trial_batch_4k_limit: NotNegative = Field(5, description="batch images a day and user, 4K")
    trial_batch_4k_cost: NotNegative = Field(3, description="points a batch image, 4K")
    trial_search_limit: NotNegative = Field(15, description="search-grounded images a day and user")
    trial_search_cost: NotNegative = Field(2, description="points a search-grounded image")
    trial_blend_limit: NotNegative = Field(10, description="blended images a day and user")
    trial_blend_cost: NotNegative = Field(2, description="points a blended image")
    trial_text_limit: NotNegative = Field(50, description="calls of the prompt tools a day and user")
    reservation_grace_seconds: NotNegative = Field(
        60, description="how long after REQUEST_TIMEOUT_SECONDS the points of a dead call come back"
    )


class TaskSettings(_Group):
    batch_concurrency: Positive = Field(4, description="images of one batch made side by side")
    max_tasks_per_user: Positive = Field(5, description="running tasks of one user")
    chat_ttl_days: Positive = Field(30, description="life of a chat after its last message")
    allowed_private_hosts: Names = Field(
        (), description="hosts, or hosts with a port, that callers' URLs may name although private"
    )

    @field_validator("allowed_private_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            try:
                named_host(entry)
            except ValueError:
                raise ValueError(
                    f"{entry!r} is no host such as receiver.internal, 10.0.0.5:9000 or [fd00::5]"
                ) from None
        return value


class ModerationSettings(_Group):
    content_filter_enabled: bool = Field(True, description="keyword filter")
    banned_keywords: Names = Field((), description="added to the built-in list")
    ai_moderation_enabled: bool | None = Field(
        None, description="text model classifies prompts; default: true where there is an operator key"
    )
    audit_logging_enabled: bool = Field(True, description="keep a record of every check")
    audit_log_prompts: bool = Field(False, description="with the prompt itself")


class DefaultSettings(_Group):
    default_language: Literal["en", "zh"] = Field("en", description="when Accept-Language names neither")
    default_resolution: Literal["1K", "2K", "4K"] = Field("1K", description="resolution of an image")
    default_aspect_ratio: str = Field("16:9", pattern=r"^\d{1,2}:\d{1,2}$", description="ratio of an image")
    default_safety_level: Literal["strict", "moderate", "relaxed", "none"] = Field(
        "moderate", description="safety level of an image"
    )


class DebuggingSettings(_Group):
    fail_point: str = Field(
        "",
        pattern=r"^(\w+(:\d+)?)?$",
        description="lets a process die at a named place, to prove recovery; refused in production",
    )


class LogSettings(_Group):
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="what is logged")
    log_format: Literal["console", "json"] | None = Field(None, description="default: console, json in production")
