"""deploy.yaml: how a version runs at SageMaker, checked before anything is sent."""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic

from Codes.ground import plain_yaml
from Codes.ground.errors import WorkbookError

Count = Annotated[int, pydantic.Field(ge=1)]
BUCKET = r"^s3://[^/]+(/.*)?$"
INSTANCE = r"^ml\.[a-z0-9-]+\.[a-z0-9]+$"
WORD = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,62})$"
REGION = r"^[a-z]{2}(-[a-z]+)+-\d$"
ROLE = r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$"
REPOSITORY = r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+"
IMAGE = REPOSITORY + r"(:[\w.-]*(\{version\})?[\w.-]*|@sha256:[0-9a-f]{64})$"
LIKE = {  # what an error shows in place of a pattern
    BUCKET: "s3://bucket/folder",
    INSTANCE: "ml.m5.large",
    WORD: "blue-1: at most 63 letters, digits and hyphens",
    REGION: "eu-west-1",
    IMAGE: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/flights:{version}, or …/flights@sha256:… with 64 digits",
    ROLE: "arn:aws:iam::123456789012:role/NAME",
}
Bucket = Annotated[str, pydantic.Field(pattern=BUCKET)]
Instance = Annotated[str, pydantic.Field(pattern=INSTANCE)]
Word = Annotated[str, pydantic.Field(pattern=WORD)]
OURS = "workbook:"  # so begin the tags that we set
Seconds = Annotated[float, pydantic.Field(gt=0, le=86400)]
Key = Annotated[str, pydantic.Field(min_length=1, max_length=128)]  # of a tag, as AWS allows it
Value = Annotated[str, pydantic.Field(max_length=256)]
MOST = 45  # tags beside ours: AWS allows 50
SHOWN = 3  # mistakes that one line tells


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False
    )


class Variant(_Part):
    """Machines that answer a part of the requests: `weight` of the sum of all weights."""

    name: Word = "all"
    instance_type: Instance
    count: Count = 1
    weight: Annotated[float, pydantic.Field(ge=0)] = 1.0


class Vpc(_Part):
    """The private network that the containers are in."""

    subnets: Annotated[list[str], pydantic.Field(min_length=1)]
    security_groups: Annotated[list[str], pydantic.Field(min_length=1)]


class Capture(_Part):
    """Where SageMaker keeps requests and answers, and the share of them."""

    s3: Bucket
    share: Annotated[float, pydantic.Field(ge=0.01, le=1)] = 1.0


class Config(_Part):
    """What deploy.yaml says; either `instance_type` (and `count`) or `variants`.

    `image` is the image's address in ECR, by its digest, or with {version} where the number stands in its tag;
    `wait_seconds` how long a command waits for the end.
    """

    region: Annotated[str, pydantic.Field(pattern=REGION)]
    role: Annotated[str, pydantic.Field(pattern=ROLE)]
    image: Annotated[str, pydantic.Field(pattern=IMAGE)]
    instance_type: Instance | None = None
    count: Count = 1
    variants: list[Variant] = []
    vpc: Vpc | None = None
    capture: Capture | None = None
    tags: Annotated[dict[Key, Value], pydantic.Field(max_length=MOST)] = {}
    wait_seconds: Seconds = 1800.0
    poll_seconds: Seconds = 10.0

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.instance_type is None) == (not self.variants):
            raise ValueError("either 'instance_type' or 'variants' is needed, and not both")
        named = [each.name for each in self.variants]
        if len(set(named)) < len(named):
            raise ValueError(f"two of the variants are called {max(named, key=named.count)!r}")
        if self.variants and not sum(each.weight for each in self.variants):
            raise ValueError("one of the variants needs a weight above 0")
        if wrong := next((tag for tag in self.tags if tag.startswith(("aws:", OURS))), None):
            raise ValueError(f"the tag {wrong!r} begins as those of AWS or of the workbook do")
        return self

    def of(self, version: int) -> Self:
        """The same for this `version`: with its image."""
        return self.model_copy(update={"image": self.image.replace("{version}", str(version))})

    @property
    def machines(self) -> list[Variant]:
        """The variants, where there is only one, too."""
        if self.instance_type is None:
            return self.variants
        return [Variant(instance_type=self.instance_type, count=self.count)]


def read(path: str | Path) -> Config:
    """The Config in the file at `path`; a WorkbookError of one line tells each mistake in it."""
    if not Path(path).is_file():
        raise WorkbookError(
            f"there is no file '{path}'; Resources/deploy/deploy.yaml shows each key."
        )
    path = Path(path)
    fields = plain_yaml.read(path)
    try:
        return Config.model_validate(fields)
    except pydantic.ValidationError as error:
        told = list(_mistakes(error))
        more = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
        raise WorkbookError(f"{path.name}: {'; '.join(told[:SHOWN] + more)}") from None


def _mistakes(error: pydantic.ValidationError) -> Iterator[str]:
    for each in error.errors():
        key = ".".join(str(part) for part in each["loc"] if part != "[key]")
        if each["type"] == "extra_forbidden":
            known = _keys(each["loc"][:-1])
            near = difflib.get_close_matches(str(each["loc"][-1]), known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
            yield f"{key}: there is no such key; {hint}"
        elif each["type"] == "missing":
            yield f"{key}: is needed"
        else:
            told = _rule(each) or re.sub(r"^Value error, ", "", each["msg"])
            given = "" if each["type"] == "value_error" else f", not {repr(each['input'])[:80]}"
            yield f"{key}: {told}{given}".removeprefix(": ")


def _rule(mistake: Mapping[str, Any]) -> str:
    """What is allowed in place of a `mistake`, where pydantic shows a pattern or the name of a class."""
    if mistake["type"] == "model_type":
        return f"must have the keys {', '.join(_keys(mistake['loc']))}"
    if mistake["type"] in ("too_long", "string_too_long"):
        of = " characters" * mistake["type"].startswith("string")
        return f"at most {mistake['ctx']['max_length']}{of} are allowed"
    like = LIKE.get(mistake.get("ctx", {}).get("pattern"))
    return f"must be like {like}" if like else ""


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that there are at this `location`."""
    parts: dict[Any, Any] = {"variants": Variant, "vpc": Vpc, "capture": Capture}
    part = next((parts[each] for each in location if each in parts), Config)
    return list(part.model_fields)


def check_bucket(given: str) -> None:
    """Refuse what is no address on S3, before anything is sent."""
    if not re.match(BUCKET, given):
        raise WorkbookError(f"{given!r} is not on S3; give s3://BUCKET/FOLDER.")
