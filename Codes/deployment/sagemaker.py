"""SageMaker: a version as an endpoint, created or exchanged without a gap; each step asks first what is there.

So a command that was killed anywhere is settled by the same command again.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from Codes.deployment.config import OURS, Config
from Codes.ground.errors import WorkbookError, first_line
from Codes.model_registry import registry
from Codes.model_registry.registry import Version

NAME = re.compile(
    r"[A-Za-z0-9](-*[A-Za-z0-9]){0,39}"
)  # with our ending it has 63 characters at most
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
RUNNING = ("InProgress", "Stopping")  # of a transform job
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
UNKNOWN_USER = (
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "ExpiredTokenException",
    "ExpiredToken",
)
DEPLOYMENT = f"{OURS}deployment"  # the tag that says whose all is
Tell = Callable[[str], None]


def check_name(name: str) -> None:
    """Refuse a `name` that no endpoint of ours may have."""
    if not NAME.fullmatch(name):
        raise WorkbookError(
            f"{name!r} cannot be an endpoint's name: letters, digits, and hyphens between them, 40 at most."
        )


class SageMaker:
    """One region's SageMaker, with the usual credentials of AWS."""

    def __init__(self, region: str) -> None:
        try:
            import boto3
            from botocore import exceptions
            from botocore.config import Config as Options
        except ImportError as error:
            raise WorkbookError("SageMaker needs boto3: pip install -e '.[sagemaker]'") from error
        options = Options(retries={"mode": "standard"}, connect_timeout=10)
        self.region = region
        with _one_line("reach SageMaker"):
            session = boto3.session.Session(region_name=region)
            self._client: Any = session.client("sagemaker", config=options)
            self._runtime: Any = session.client("sagemaker-runtime", config=options)
            if session.get_credentials() is None:
                raise exceptions.NoCredentialsError

    def deploy(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self,
        name: str,
        version: Version,
        config: Config,
        tags: Mapping[str, str],
        tell: Tell,
        wait: bool,
    ) -> str:
        """Let the endpoint `name` serve the `version`; its address (ARN).

        Args:
            tags: of the version, for each thing that is made.
            tell: is told each step.
            wait: whether until it serves; else it is left on its way.
        """
        check_name(name)
        wanted = f"{name}-{_digest(version, config)}"
        labels = _labels(config, tags)
        state = self._rest(name, config, tell)
        if state and not self._is_ours(name, state["EndpointArn"]):
            raise WorkbookError(
                f"the endpoint {name} was made by others: choose another --name, or give it the tag "
                f"{DEPLOYMENT}={name}, which hands it over."
            )
        if (
            state
            and state["EndpointStatus"] == "InService"
            and state["EndpointConfigName"] == wanted
        ):
            self._label(state["EndpointArn"], labels)  # which a killed command has not done
            tell(f"{name} serves it already")
            return state["EndpointArn"]
        self._describe_or_make("model", wanted, lambda: self._make_model(wanted, config, labels))
        self._describe_or_make(
            "endpoint_config", wanted, lambda: self._make_config(wanted, config, labels)
        )
        if state and state["EndpointStatus"] == "Failed":  # it never served, and can't be updated
            tell(
                f"{name} had failed ({state.get('FailureReason', 'no reason is given')}): it is made anew"
            )
            self._delete_endpoint(name, config.wait_seconds, config.poll_seconds)
            state = None
        step, call = (
            ("create", self._client.create_endpoint)
            if state is None
            else ("update", self._client.update_endpoint)
        )
        tell(f"{name}: {step} with {wanted}")
        with _one_line(f"{step} the endpoint"):
            made = call(
                EndpointName=name,
                EndpointConfigName=wanted,
                **({"Tags": labels} if step == "create" else {}),
            )
        if wait:
            self._wait(name, wanted, config, tell)
        if step == "update":  # what was rolled back keeps the tags of what serves
            self._label(made["EndpointArn"], labels)
        return made["EndpointArn"]

    def describe(self, name: str) -> dict[str, Any] | None:
        """What SageMaker says of the endpoint `name`; None where there is none."""
        return self._there("endpoint", name)

    def ask(self, name: str, body: bytes, kind: str = "application/json") -> bytes:
        """The answer of the endpoint `name` to a request."""
        with _one_line(f"ask {name}"):
            answer = self._runtime.invoke_endpoint(EndpointName=name, ContentType=kind, Body=body)
            return answer["Body"].read()

    def delete(self, name: str, tell: Tell, seconds: float = 600.0, every: float = 5.0) -> None:
        """Remove the endpoint `name`, and the models and configurations that were made for it."""
        state = self._there("endpoint", name)
        if state and not self._is_ours(name, state["EndpointArn"]):
            tell(f"the endpoint {name} was made by others: it stays")
        elif state:
            self._delete_endpoint(name, seconds, every)
            tell(f"{name} is gone")
        for kind, key in (("endpoint_config", "EndpointConfig"), ("model", "Model")):
            for each in [*self._made_for(name, kind, key)]:
                with _one_line(f"delete {each}"):
                    getattr(self._client, f"delete_{kind}")(**{f"{key}Name": each})
                tell(f"the {kind.replace('_', ' ')} {each} is gone")

    def transform(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self,
        name: str,
        version: Version,
        config: Config,
        source: str,
        target: str,
        tags: Mapping[str, str],
        tell: Tell,
        wait: bool = True,
    ) -> str:
        """Score CSV under `source` (s3://…) into `target` by the `version`, by a batch transform; its job's name."""
        check_name(name)
        wanted = f"{name}-{_digest(version, config)}"
        labels, machine = _labels(config, tags), config.machines[0]
        self._describe_or_make("model", wanted, lambda: self._make_model(wanted, config, labels))
        # the same question has the same stem: a command that was killed finds its job
        stem = f"{name}-{hashlib.sha256(json.dumps([wanted, source, target]).encode()).hexdigest()[:8]}"
        if job := self._under_way(stem):
            tell(f"{job} is under way from before: waiting for that")
        else:
            job = f"{stem}-{time.strftime('%y%m%d%H%M%S', time.gmtime())}"
            tell(f"{job}: begun")
            with _one_line("create the transform job"):
                self._client.create_transform_job(
                    TransformJobName=job,
                    ModelName=wanted,
                    TransformInput={
                        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
                        "ContentType": "text/csv",
                        "SplitType": "None",
                    },
                    TransformOutput={"S3OutputPath": target, "Accept": "application/json"},
                    TransformResources={
                        "InstanceType": machine.instance_type,
                        "InstanceCount": machine.count,
                    },
                    Tags=labels,
                )
        if wait:
            self._finish(job, config)
        return job

    # --- the steps

    def _finish(self, job: str, config: Config) -> None:
        """Wait for the end of the transform `job`; a WorkbookError where it is not a good one."""
        end = time.monotonic() + config.wait_seconds
        while (state := self._there("transform_job", job) or {})["TransformJobStatus"] in RUNNING:
            _pause(end, config, f"{job} is {state['TransformJobStatus']}")
        if state["TransformJobStatus"] != "Completed":
            raise WorkbookError(
                f"{job}: {state['TransformJobStatus']}: {state.get('FailureReason', 'no reason is given')}"
            )

    def _there(self, kind: str, name: str) -> dict[str, Any] | None:
        """What is known of the `kind` (endpoint, model, …) called `name`; None where it is not there."""
        key = {
            "endpoint": "EndpointName",
            "endpoint_config": "EndpointConfigName",
            "model": "ModelName",
        }
        with _one_line(f"look at {name}"):
            try:
                return getattr(self._client, f"describe_{kind}")(
                    **{key.get(kind, "TransformJobName"): name}
                )
            except self._client.exceptions.ClientError as error:
                text = str(error)
                if (
                    "Could not find" in text
                    or "ResourceNotFound" in text
                    or "does not exist" in text
                ):
                    return None
                raise

    def _under_way(self, stem: str) -> str:
        """The transform job that is running, of those whose name begins so; '' where none is."""
        with _one_line("list transform jobs"):
            pages = self._client.get_paginator("list_transform_jobs").paginate(NameContains=stem)
            jobs = [job for page in pages for job in page["TransformJobSummaries"]]
        running = [each for each in jobs if each["TransformJobStatus"] in RUNNING]
        return running[0]["TransformJobName"] if running else ""

    def _describe_or_make(self, kind: str, name: str, make: Callable[[], Any]) -> None:
        if self._there(kind, name) is None:
            with _one_line(f"create the {kind.replace('_', ' ')}"):
                make()

    def _make_model(self, name: str, config: Config, labels: list[dict[str, str]]) -> None:
        network: dict[str, Any] = {}
        if config.vpc:
            groups = {"SecurityGroupIds": config.vpc.security_groups}
            network["VpcConfig"] = {"Subnets": config.vpc.subnets, **groups}
        self._client.create_model(
            ModelName=name,
            PrimaryContainer={"Image": config.image},
            ExecutionRoleArn=config.role,
            Tags=labels,
            **network,
        )

    def _make_config(self, name: str, config: Config, labels: list[dict[str, str]]) -> None:
        variants = [
            {
                "VariantName": each.name,
                "ModelName": name,
                "InstanceType": each.instance_type,
                "InitialInstanceCount": each.count,
                "InitialVariantWeight": each.weight,
            }
            for each in config.machines
        ]
        kept = config.capture and {
            "EnableCapture": True,
            "InitialSamplingPercentage": max(1, round(100 * config.capture.share)),
            "DestinationS3Uri": config.capture.s3,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
        captured = {"DataCaptureConfig": kept} if kept else {}
        self._client.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=variants, Tags=labels, **captured
        )

    def _states(self, name: str, config: Config) -> Iterator[tuple[dict[str, Any] | None, str]]:
        """(what is known of the endpoint, its state in words): each change and each minute, until nothing moves."""
        begun, told = time.monotonic(), ""
        while True:
            state = self._there("endpoint", name)
            status = state["EndpointStatus"] if state else "gone"
            minutes = int((time.monotonic() - begun) // 60)
            words = f"{status} for {minutes} min" if minutes else status
            if words != told:
                told = words
                yield state, words
            if status not in MOVING:
                return
            _pause(begun + config.wait_seconds, config, f"{name} is {status}")

    def _rest(self, name: str, config: Config, tell: Tell) -> dict[str, Any] | None:
        """What is known of the endpoint once nothing moves: an earlier command may have been killed on its way."""
        state = None
        for state, words in self._states(name, config):
            if state and state["EndpointStatus"] in MOVING:
                tell(f"{name} is {words} from before: waiting for that")
        return state

    def _wait(self, name: str, wanted: str, config: Config, tell: Tell) -> None:
        """Wait until the endpoint serves by the configuration `wanted`; a WorkbookError tells another end."""
        state = None
        for state, words in self._states(name, config):
            tell(f"{name}: {words}")
        if state is None:
            raise WorkbookError(f"{name} was deleted meanwhile.")
        reason = state.get("FailureReason", "no reason is given")
        if state["EndpointStatus"] == "Failed":
            raise WorkbookError(f"{name} has failed: {reason}. The same command makes it anew.")
        if state["EndpointConfigName"] != wanted:
            raise WorkbookError(
                f"{name} was rolled back by SageMaker, what was there before serves: {reason}."
            )
        if state["EndpointStatus"] != "InService":
            raise WorkbookError(
                f"{name} is {state['EndpointStatus']}: {reason}. The same command tries again."
            )

    def _delete_endpoint(self, name: str, seconds: float, every: float) -> None:
        with _one_line(f"delete {name}"):
            self._client.delete_endpoint(EndpointName=name)
        end = time.monotonic() + seconds
        while self._there("endpoint", name):
            if time.monotonic() > end:
                raise WorkbookError(
                    f"{name} is being deleted for {seconds:g} s; the same command goes on."
                )
            time.sleep(every)

    def _made_for(self, name: str, kind: str, key: str) -> Iterator[str]:
        """The models or configurations that were made for the endpoint `name`: so tagged, whatever they are called."""
        with _one_line(f"list what was made for {name}"):
            pages = self._client.get_paginator(f"list_{kind}s").paginate(NameContains=f"{name}-")
            for each in [found for page in pages for found in page[f"{key}s"]]:
                if self._is_ours(name, each[f"{key}Arn"]):
                    yield each[f"{key}Name"]

    def _is_ours(self, name: str, address: str) -> bool:
        """Whether what is at the `address` was made for the deployment `name`."""
        return {"Key": DEPLOYMENT, "Value": name} in self._tags(address)

    def _tags(self, address: str) -> list[dict[str, str]]:
        with _one_line("read tags"):
            return self._client.list_tags(ResourceArn=address, MaxResults=100)["Tags"]

    def _label(self, address: str, labels: list[dict[str, str]]) -> None:
        """Let the endpoint at the `address` carry the `labels`."""
        if any(each not in self._tags(address) for each in labels):
            with _one_line("tag the endpoint"):
                self._client.add_tags(ResourceArn=address, Tags=labels)


def _labels(config: Config, tags: Mapping[str, str]) -> list[dict[str, str]]:
    """The tags of all that is made: those that `config` names, and ours."""
    every = config.tags | dict(tags)
    return [{"Key": key, "Value": value[:256]} for key, value in every.items()]


def _digest(version: Version, config: Config) -> str:
    """What tells this version, run this way, from any other: flights/3 by other machines is another."""
    how = config.model_dump(mode="json", exclude={"wait_seconds", "poll_seconds"})
    facts = json.dumps([version.number, version.tags.get(registry.DIGEST), how], sort_keys=True)
    return f"v{version.number}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"


def _pause(end: float, config: Config, what: str) -> None:
    """Wait for the next look; a WorkbookError once the time is up."""
    if time.monotonic() > end:
        raise WorkbookError(
            f"{what} after {config.wait_seconds:g} s (wait_seconds); the same command goes on waiting."
        )
    time.sleep(config.poll_seconds)


@contextlib.contextmanager
def _one_line(doing: str) -> Iterator[None]:
    """A WorkbookError instead of what boto3 raises while it tries to do this."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = error.response["Error"].get("Code", "")
        told = " ".join(error.response["Error"].get("Message", "").split())  # a proxy's is a page
        hints = {
            **dict.fromkeys(DENIED, "your role may not: ask for that permission"),
            **dict.fromkeys(
                UNKNOWN_USER, "AWS does not know these credentials, or they have run out"
            ),
            "ModelError": "that is the answer of the image",
            "ThrottlingException": "AWS asks for patience, after several tries, too: the same command goes on",
        }
        hint = hints.get(code, "the same command goes on once it is mended")
        raise WorkbookError(
            f"SageMaker refuses to {doing} ({code}: {told.rstrip('.')[:300]}); {hint}."
        ) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise WorkbookError(
            f"no credentials to {doing}: AWS finds none in the environment, ~/.aws or this machine's role."
        ) from error
    except exceptions.BotoCoreError as error:
        raise WorkbookError(
            f"SageMaker could not {doing}: {first_line(error).rstrip('.')}."
        ) from error
    except ValueError as error:
        raise WorkbookError(
            f"could not {doing}: {first_line(error).rstrip('.')}; look at the variables AWS_… and at ~/.aws."
        ) from error
