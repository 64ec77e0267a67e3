"""The product's words in en and zh. A leaf: it imports nothing of ours."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


class Translations:
    """Both dictionaries, read once at the process entry."""

    def __init__(self, default: Language = "en") -> None:
        self._default = default
        self.dictionaries = {language: self._load(language) for language in LANGUAGES}
        self._flat = {language: dict(_flatten(self.dictionaries[language])) for language in LANGUAGES}

    def text(self, language: Language, key: str, values: Mapping[str, object] | None = None) -> str:
        """The text of a dotted key with `{placeholders}` filled in. Raises KeyError for an unknown key."""
        return self._flat[language][key].format_map(_Missing(values or {}))

    def has(self, key: str) -> bool:
        return key in self._flat[self._default]

    def keys(self, language: Language) -> frozenset[str]:
        return frozenset(self._flat[language])

    def choose(self, accept_language: str | None) -> Language:
        """The first of our languages in the order of preference of an `Accept-Language` header."""
        ranked: list[tuple[float, int, Language]] = []
        for position, part in enumerate((accept_language or "").split(",")):
            tag, _, parameters = part.strip().partition(";")
            language = next((known for known in LANGUAGES if tag.lower().partition("-")[0] == known), None)
            quality = _quality(parameters)
            if language and quality > 0:
                ranked.append((-quality, position, language))
        return min(ranked)[2] if ranked else self._default

    @staticmethod
    def _load(language: Language) -> dict[str, object]:
        content = resources.files("i18n").joinpath(f"{language}.json").read_text(encoding="utf-8")
        loaded: dict[str, object] = json.loads(content)
        return loaded


class _Missing(dict[str, object]):
    """A text that mentions a value which is not there keeps its placeholder; it must not hide the error it tells of."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _flatten(tree: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.extend(_flatten(value, f"{prefix}{key}."))
        else:
            flat.append((f"{prefix}{key}", str(value)))
    return flat
