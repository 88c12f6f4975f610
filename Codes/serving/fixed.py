"""One version in a folder, as an image holds it: it is served without a store or a registry, and stays what it is.

python -m Codes.serving.fixed FOLDER     # does it load? asked while an image is built
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from Codes.ground.errors import WorkbookError
from Codes.model_registry.registry import DIGEST, PRIVATE, PROBLEM, TRUSTED, Version

if TYPE_CHECKING:
    from Codes.saved_models.trust import Loaded

# of a version's tags: others change where it is promoted
KEPT = (DIGEST, PRIVATE, PROBLEM, TRUSTED)
FACTS, FILES = "version.json", "model"  # in the folder: a Version, and the files of its model


def is_folder(spec: str) -> bool:
    """Whether `spec` names such a folder, and no version of a registry."""
    return Path(spec, FACTS).is_file()


def facts(version: Version) -> str:
    """What the file FACTS holds of the `version`; its source lies in a store that is not there."""
    tags = {key: version.tags[key] for key in KEPT if key in version.tags}
    told = asdict(version) | {"source": FILES, "tags": tags}
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


class Folder:
    """What a server asks for its model, as it asks Codes.model_registry.registry."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        try:
            self.version = Version(**json.loads((self._folder / FACTS).read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise WorkbookError(
                f"{self._folder / FACTS} tells no version ({error}); make the folder by: workbook image"
            ) from error

    @property
    def spec(self) -> str:
        """The version as a command names it: flights/3."""
        return f"{self.version.name}/{self.version.number}"

    def find(self, spec: str) -> Version:
        """The version that is here, which is the `spec`."""
        assert spec == self.spec, spec
        return self.version

    def load(self, version: Version) -> "Loaded":
        """The model of the `version`, once its files are those that were registered."""
        from Codes.saved_models import trust

        return trust.load(self._folder / FILES, version.trusted, version.tags[DIGEST])


if __name__ == "__main__":
    try:
        (there := Folder(sys.argv[1])).load(there.version)
    except WorkbookError as told:
        sys.exit(f"Error: {told}")
