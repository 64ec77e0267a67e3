"""How many tries may go on side by side on one worker, so that nobody holds up the others.

Of one user to one receiver, of one user, to one receiver, and together: who hangs takes his places and no more, and who
has thousands to tell leaves the rest to others. A user's receivers do not wait for each other either.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from services.webhooks.models import Delivery

AT_ONCE = 100
OF_ONE_USER = 8
TO_ONE_HOST = 16
OF_ONE_USER_TO_ONE_HOST = 4


@dataclass(frozen=True)
class Full:
    """Whose tries, and where to, have to wait."""

    users: tuple[str, ...]
    hosts: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


class Shares:
    """What is taken by the tries that are under way."""

    def __init__(self, under_way: Iterable[Delivery]) -> None:
        self._users: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        for delivery in under_way:
            self._count(delivery)

    @property
    def room(self) -> int:
        """How many more there may be, whosever they are."""
        return AT_ONCE - self._pairs.total()

    def fits(self, delivery: Delivery) -> bool:
        """Whether there is a place for one more like it."""
        return (
            self.room > 0
            and self._users[delivery.user_id] < OF_ONE_USER
            and self._hosts[delivery.host] < TO_ONE_HOST
            and self._pairs[delivery.user_id, delivery.host] < OF_ONE_USER_TO_ONE_HOST
        )

    def take(self, delivery: Delivery) -> bool:
        """Give it a place, if there is one."""
        fits = self.fits(delivery)
        if fits:
            self._count(delivery)
        return fits

    def full(self) -> Full:
        return Full(
            tuple(user for user, count in self._users.items() if count >= OF_ONE_USER),
            tuple(host for host, count in self._hosts.items() if count >= TO_ONE_HOST),
            tuple(pair for pair, count in self._pairs.items() if count >= OF_ONE_USER_TO_ONE_HOST),
        )

    def _count(self, delivery: Delivery) -> None:
        self._users[delivery.user_id] += 1
        self._hosts[delivery.host] += 1
        self._pairs[delivery.user_id, delivery.host] += 1
