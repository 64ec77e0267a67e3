"""Passwords: Argon2id through passlib, off the event loop, a few at a time."""

import asyncio
import secrets
from concurrent.futures import Executor

from passlib.context import CryptContext
from pydantic import SecretStr

# OWASP's password storage cheat sheet, as read on 2026-11-25: 19 MiB, two passes, one lane.
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1


class Passwords:
    """`threads` bounds how many are worked on at once: each takes 19 MiB and about 30 ms of a core."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=MEMORY_KIB,
            argon2__time_cost=PASSES,
            argon2__parallelism=LANES,
        )
        self._nobodys = ""

    async def hash(self, password: SecretStr) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hash, password)

    async def verify(self, password: SecretStr, known: str | None) -> bool:
        """Whether it is the password behind `known`. None, for no such account, is False after the same work."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._verify, password, known)

    def _hash(self, password: SecretStr) -> str:
        hashed: str = self._context.hash(password.get_secret_value())
        return hashed

    def _verify(self, password: SecretStr, known: str | None) -> bool:
        # Made for known and unknown accounts alike, so that not even the first sign-in tells them apart.
        self._nobodys = self._nobodys or self._hash(SecretStr(secrets.token_urlsafe(16)))
        matches: bool = self._context.verify(password.get_secret_value(), known or self._nobodys)
        return matches and known is not None
