"""`python -m scripts.init_prompts`: grow the prompt library by the text model, while the service runs or not.

Needs GOOGLE_API_KEY. Each category and language is filled up to `--count` prompts, the built-in ones counted; what is
new goes to `prompts/library/` of this installation's storage, where the service finds it within ten minutes. Run again
it goes on where it was, and asks for nothing when there is enough.

Ends with 0 when there are as many as wanted, with 1 when not, with 2 for wrong settings.
"""

import argparse
import sys

from core.settings import SettingsError
from scripts.parts import run_with_parts
from services.container import Container
from services.prompts.growth import Growth
from services.prompts.library_file import BrokenLibraryFile

DEFAULT_COUNT = 20
MOST = 500


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.init_prompts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=_count, default=DEFAULT_COUNT, help=f"prompts of each category and language; {DEFAULT_COUNT}"
    )
    growth = Growth(parser.parse_args().count, tell=say)

    async def grow(container: Container) -> None:
        if not container.providers.has_text_model:
            raise SettingsError(["GOOGLE_API_KEY: is needed, the text model writes the prompts"])
        try:
            await container.prompts.grower.run(growth)
        except BrokenLibraryFile as error:
            print(f"not finished, this file is left as it is: {error}", file=sys.stderr)

    code = run_with_parts(grow)
    for line in growth.lines():
        say(line)
    return code or int(not growth.is_complete)


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= MOST:
        raise argparse.ArgumentTypeError(f"must be 1 to {MOST}")
    return count


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
