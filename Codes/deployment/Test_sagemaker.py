"""SageMaker, by boto3 against moto's server on this machine, which is made to fail as AWS does.

What moto lacks is added here, and marked so: `update_endpoint`, states on the way, refusals, and a prediction, for
which the image's own command is asked. None of it has met the real cloud.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

# pylint: disable=protected-access  # moto is looked into, and added to
import pytest
import requests
from click.testing import CliRunner
from mlflow import MlflowClient
from moto.core.exceptions import JsonRESTError
from moto.sagemaker.models import FakeTransformJob, SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.models import SageMakerRuntimeBackend
from moto.server import ThreadedMotoServer

from Codes.commands import cli
from Codes.deployment import config, deployments
from Codes.deployment.conftest import NAME
from Codes.ground.errors import WorkbookError
from Codes.model_registry import registry
from Codes.serving import client

REGION = "eu-central-1"
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/flights@sha256:{'0' * 64}"
YAML = f"""\
region: {REGION}
role: arn:aws:iam::123456789012:role/sagemaker
image: {IMAGE}
instance_type: ml.m5.large
tags: {{team: planes}}
poll_seconds: 0.01
wait_seconds: 60
"""


class Cloud:
    """moto's SageMaker, and what it lacks: `states` that the next looks see, calls that it `refuses` so many times."""

    def __init__(self):
        self.states, self.refused, self.calls, self.container = [], {}, Counter(), ""

    @property
    def backend(self):
        """What moto holds of SageMaker."""
        return sagemaker_backends["123456789012"][REGION]

    def refuse(self, action, code, message, times):
        """Let the next calls of `action` fail, so many times."""
        self.refused[action] = [JsonRESTError(code, message)] * times


@pytest.fixture(name="cloud", scope="module")
def _server():
    cloud, look = Cloud(), SageMakerModelBackend.describe_endpoint

    def describe_endpoint(self, endpoint_name):
        found = dict(look(self, endpoint_name))
        state = cloud.states.pop(0) if cloud.states else {}
        return found | ({"EndpointStatus": state} if isinstance(state, str) else state)

    def update_endpoint(self):
        found = self.sagemaker_backend.endpoints[self._get_param("EndpointName")]
        found.endpoint_config_name = self._get_param("EndpointConfigName")
        return json.dumps({"EndpointArn": found.arn})

    def invoke_endpoint(_, endpoint_name, unique_repr):
        asked = json.loads(base64.b64decode(unique_repr))["Body"]
        answer = requests.post(
            f"{cloud.container}/invocations", asked, headers=client.JSON, timeout=60
        )
        return answer.text, "application/json", "all", endpoint_name

    def counted(action, real):
        def call(self):
            cloud.calls[action] += 1
            if cloud.refused.get(action):
                raise cloud.refused[action].pop()
            return real(self)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SageMakerModelBackend, "describe_endpoint", describe_endpoint)
        patch.setattr(SageMakerResponse, "update_endpoint", update_endpoint, raising=False)
        patch.setattr(SageMakerRuntimeBackend, "invoke_endpoint", invoke_endpoint)
        for action in (
            "create_model",
            "create_endpoint",
            "update_endpoint",
            "describe_endpoint",
            "add_tags",
        ):
            patch.setattr(
                SageMakerResponse, action, counted(action, getattr(SageMakerResponse, action))
            )
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing-key")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield cloud
        server.stop()


@pytest.fixture(name="place")
def _place(cloud, made, tmp_path):  # pylint: disable=unused-argument
    """A function that runs a command of the deployment, and gives what it says; another exit than `code` fails."""
    cloud.backend.reset()
    deployments.sagemaker.cache_clear()
    cloud.states, cloud.refused = [], {}
    (tmp_path / "deploy.yaml").write_text(YAML, "utf-8")

    def call(*words, code=0):
        told = CliRunner().invoke(cli.main, [str(word) for word in words])
        error = getattr(told.exception, "message", "") or (
            repr(told.exception) if told.exit_code else ""
        )
        assert told.exit_code == code, told.output + error
        return told.output + error

    def deploy(code=0):
        words = "--name", "cells", "--config", tmp_path / "deploy.yaml"
        return call("deploy", f"{NAME}/1", *words, code=code)

    call.deploy, call.file = deploy, tmp_path / "deploy.yaml"
    yield call
    cloud.states, cloud.refused = [], {}


def test_a_version_is_created_asked_exchanged_without_a_gap_and_removed(
    cloud, place, made, served, tmp_path
):
    cloud.states = ["Creating", "Creating", "InService"]
    said = place.deploy()
    assert said.index("Creating") < said.index("InService")
    model = cloud.backend.endpoints["cells"]
    tags = {tag["Key"]: tag["Value"] for tag in model.tags}
    run = registry.find(f"{NAME}/1").run_id
    assert (
        tags["workbook:run"] == run and tags["workbook:version"] == "1" and tags["team"] == "planes"
    )
    assert "serves it already" in place.deploy() and cloud.calls["create_endpoint"] == 1
    listed = " ".join(place("deployments").split())
    assert f"{NAME} version 1" in listed and listed.endswith("InService")
    (tmp_path / "request.json").write_text(
        client.body(registry.load(made.version).example), "utf-8"
    )
    cloud.container = served
    answer = place("ask", "cells", "--file", tmp_path / "request.json")
    expected = registry.load(made.version).predict(registry.load(made.version).example).tolist()
    assert json.loads(answer)["predictions"] == expected
    place.file.write_text(YAML.replace("ml.m5.large", "ml.m5.xlarge"), "utf-8")
    place.deploy()
    assert cloud.calls["update_endpoint"] == 1 and cloud.calls["create_endpoint"] == 1
    assert len(cloud.backend.endpoint_configs) == 2, "what was there before can come back"
    place("undeploy", "cells")
    assert not cloud.backend.endpoints and not cloud.backend.endpoint_configs
    assert not cloud.backend._models, "of the same tag"
    assert "nothing is deployed" in place("deployments")
    history = " ".join(place("history", NAME).split())
    assert history.count("deploy cells at sagemaker: version 1: done") == 4
    place("undeploy", "cells", code=1)


@pytest.mark.parametrize(
    "change, says",
    [
        (
            "instance_typ: ml.m5.large",
            "instance_typ: there is no such key; did you mean 'instance_type'?",
        ),
        ("count: '2'", "count: Input should be a valid integer, not '2'"),
        ("capture: {s3: here}", "capture.s3: must be like s3://bucket/folder, not 'here'"),
        ("variants: [{instance_type: ml.m5.large}]", "either 'instance_type' or 'variants'"),
        ("count: true", "count: Input should be a valid integer, not True"),
        (
            "capture: {s3: s3://kept, share: '1'}",
            "capture.share: Input should be a valid number, not '1'",
        ),
        ("capture: {s3: s3://kept, share: .nan}", "capture.share: Input should be a finite number"),
        ("\n".join(f"key{n}: 1" for n in range(60)), "; and 57 more"),
        ("vpc: {subnets: [a], groups: [b]}", "vpc.groups: there is no such key; there are subnets"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_before_anything_is_sent(tmp_path, change, says):
    (tmp_path / "deploy.yaml").write_text(f"{YAML}{change}\n", "utf-8")
    with pytest.raises(WorkbookError) as error:
        config.read(tmp_path / "deploy.yaml")
    assert says in error.value.message and "\n" not in error.value.message


@pytest.mark.parametrize(
    "before, after, says",
    [
        (
            "wait_seconds: 60",
            "wait_seconds: '60'",
            "wait_seconds: Input should be a valid number, not '60'",
        ),
        ("wait_seconds: 60", "wait_seconds: .inf", "wait_seconds: Input should be"),
        (IMAGE, IMAGE.partition("@")[0] + ":{verison}", "image: must be like 123456789012.dkr"),
        (IMAGE, IMAGE[:-1], "image: must be like 123456789012.dkr"),
        (
            "instance_type: ml.m5.large",
            "variants: [{instance_type: ml.m5.large, weight: 0}]",
            "a weight above 0",
        ),
        (
            "team: planes",
            ", ".join(f"t{n}: x" for n in range(46)),
            "tags: at most 45 are allowed, not {",
        ),
        ("team: planes", "1: planes", "tags.1: Input should be a valid string, not 1"),
        (
            "team: planes",
            f"team: {'x' * 257}",
            "tags.team: at most 256 characters are allowed, not 'xxx",
        ),
    ],
)
def test_a_value_that_aws_would_not_take_is_one_line_too(tmp_path, before, after, says):
    (tmp_path / "deploy.yaml").write_text(YAML.replace(before, after), "utf-8")
    with pytest.raises(WorkbookError, match="^deploy.yaml: ") as error:
        config.read(tmp_path / "deploy.yaml")
    assert says in error.value.message and "\n" not in error.value.message


@pytest.mark.parametrize(
    "words, says",
    [
        (("--port", 8081), "--port is for --target docker"),
        (("--every", 5), "--every is for --follow"),
        (("--target", "docker", "--no-wait"), "--config is for --target sagemaker"),
        (("--follow", "--every", "inf"), "inf is not in the range"),
        (("--follow", "--every", "nan"), "nan is no amount"),
        (("--name", "a_b"), "'a_b' cannot be an endpoint's name"),
        (("--config", "."), "there is no file '.'"),
    ],
)
def test_words_that_do_not_fit_are_refused_before_anything_is_sent(place, cloud, words, says):
    before = cloud.calls.total()
    known = "--name", "cells", "--config", place.file
    told = CliRunner().invoke(cli.main, list(map(str, ["deploy", f"{NAME}/1", *known, *words])))
    assert says in told.stderr and told.exit_code in (1, 2) and cloud.calls.total() == before


def test_who_follows_what_is_not_there_is_told_at_once(place, monkeypatch):
    place.file.write_text(YAML.replace(IMAGE, f"{IMAGE.partition('@')[0]}:{{version}}"), "utf-8")
    words = "--name", "cells", "--config", place.file, "--follow"
    assert "no registered model 'nothing'" in place("deploy", "nothing@production", *words, code=1)
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert "needs boto3" in place("deploy", f"{NAME}/1", *words, code=1)


def test_a_name_in_two_regions_needs_the_region(cloud, place):
    place.deploy()
    place.file.write_text(YAML.replace(f"region: {REGION}", "region: eu-west-1"), "utf-8")
    place.deploy()
    assert f"in several regions ({REGION}, eu-west-1): choose" in place("undeploy", "cells", code=1)
    assert "at sagemaker us-east-1" in place("undeploy", "cells", "--region", "us-east-1", code=1)
    place("undeploy", "cells", "--region", "eu-west-1")
    assert list(cloud.backend.endpoints) == ["cells"], "in the other region"
    place("undeploy", "cells")


def test_a_page_in_place_of_an_answer_is_one_line(cloud, place, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    cloud.refuse("describe_endpoint", "500", "<html>\n  <h1>Bad Gateway</h1>\n</html>", 1)
    assert "<html> <h1>Bad Gateway</h1> </html>" in place.deploy(code=1)


def test_an_endpoint_of_others_is_left_alone_by_deploy_and_undeploy_until_it_is_handed_over(
    cloud, place
):
    place.deploy()
    endpoint = cloud.backend.endpoints["cells"]
    kept = [tag for tag in endpoint.tags if tag["Key"] == "workbook:deployment"]
    endpoint.tags = [tag for tag in endpoint.tags if tag not in kept]
    place.file.write_text(YAML.replace("ml.m5.large", "ml.m5.xlarge"), "utf-8")
    before = cloud.calls["update_endpoint"]
    assert "was made by others" in place.deploy(code=1)
    assert cloud.calls["update_endpoint"] == before
    assert "was made by others: it stays" in place("undeploy", "cells")
    assert cloud.backend.endpoints
    endpoint.tags += kept
    assert "InService" in place.deploy()


def test_what_stands_there_is_found_at_its_target_and_removed_without_its_version(cloud, place):
    first = registry.find(f"{NAME}/1")
    gone = MlflowClient().create_model_version(NAME, first.source, tags=first.tags).version
    words = "--name", "cells", "--config", place.file
    place.file.write_text(YAML.replace(IMAGE, f"{IMAGE.partition('@')[0]}:{{version}}"), "utf-8")
    place("deploy", f"{NAME}/{gone}", *words)
    told = place("undeploy", "cells", "--target", "docker", code=1)
    assert f"there are: cells (sagemaker {REGION})" in told
    MlflowClient().delete_model_version(NAME, gone)
    place("undeploy", "cells")
    assert not cloud.backend.endpoints


def test_variants_a_network_and_capture_reach_aws(cloud, place):
    text = YAML.replace("instance_type: ml.m5.large\n", "") + (
        "variants:\n- {name: a, instance_type: ml.m5.large, weight: 3}\n- {name: b, instance_type: ml.c5.large}\n"
        "vpc: {subnets: [subnet-1], security_groups: [sg-1]}\ncapture: {s3: s3://kept/here, share: 0.1}\n"
    )
    place.file.write_text(text, "utf-8")
    place.deploy()
    (made,) = cloud.backend.endpoint_configs.values()
    assert [v["InitialVariantWeight"] for v in made.production_variants] == [3, 1]
    assert made.data_capture_config["InitialSamplingPercentage"] == 10
    (model,) = cloud.backend._models.values()
    assert model.vpc_config["Subnets"] == ["subnet-1"]


@pytest.mark.parametrize(
    "action, code, message, says",
    [
        ("create_model", "AccessDeniedException", "User is not authorized", "your role may not"),
        pytest.param(
            *("create_endpoint", "ThrottlingException", "Rate exceeded", "AWS asks for patience"),
            marks=pytest.mark.soak,
        ),
        pytest.param(
            *(
                "create_endpoint",
                "ResourceLimitExceeded",
                "0 instances",
                "refuses to create the endpoint",
            ),
            marks=pytest.mark.soak,
        ),
    ],
)
def test_a_refusal_is_one_line_and_the_same_command_goes_on(  # pylint: disable=R0913,R0917
    cloud, place, monkeypatch, action, code, message, says
):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    cloud.refuse(action, code, message, 1)
    told = place.deploy(code=1)
    assert (
        says in told and message in told and "Traceback" not in told and "testing-key" not in told
    )
    listed = " ".join(place("deployments").split())
    assert says in listed and "failed" in listed
    place.deploy()
    assert cloud.backend.endpoints["cells"].endpoint_status == "InService"


def test_a_moment_of_throttling_is_not_seen(cloud, place):
    cloud.refuse("create_endpoint", "ThrottlingException", "Rate exceeded", 1)
    assert "InService" in place.deploy()


def test_without_credentials_one_line_says_so(place, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    before = deployments.of(NAME)
    assert "no credentials to" in place.deploy(code=1)
    assert deployments.of(NAME) == before, "nothing was sent"


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS"])
def test_nonsense_in_the_settings_of_aws_is_one_line(place, monkeypatch, name):
    monkeypatch.setenv(name, "nonsense")
    assert "could not reach SageMaker: " in place.deploy(code=1)


def test_an_image_that_is_not_there_fails_with_sagemakers_reason_and_is_made_anew(cloud, place):
    reason = "The image is not found in the registry"
    cloud.states = ["Creating", {"EndpointStatus": "Failed", "FailureReason": reason}]
    told = place.deploy(code=1)
    assert reason in told and "The same command makes it anew" in told
    cloud.states = [{"EndpointStatus": "Failed", "FailureReason": reason}]
    again = place.deploy()
    assert f"had failed ({reason}): it is made anew" in again and "InService" in again


def test_a_rollback_by_sagemaker_is_told_and_what_was_there_serves(cloud, place):
    place.deploy()
    before = cloud.backend.endpoints["cells"].endpoint_config_name
    other = YAML.replace("ml.m5.large", "ml.m5.xlarge").replace("planes", "ships")
    place.file.write_text(other, "utf-8")
    back = {"EndpointStatus": "InService", "EndpointConfigName": before, "FailureReason": "no ping"}
    cloud.states = ["InService", "Updating", "RollingBack", back]
    told = place.deploy(code=1)
    assert "was rolled back by SageMaker" in told and "no ping" in told
    listed = " ".join(place("deployments").split())
    assert "(done; later version 1 failed: cells was rolled back" in listed, "what serves is listed"
    tags = {"Key": "team", "Value": "planes"}
    assert tags in cloud.backend.endpoints["cells"].tags, "those of what serves"


def test_tags_that_a_killed_command_did_not_set_are_set_by_the_next(cloud, place, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    place.deploy()
    place.file.write_text(YAML.replace("planes", "ships"), "utf-8")
    cloud.refuse("add_tags", "AccessDeniedException", "not yet", 1)
    assert "refuses to tag the endpoint" in place.deploy(code=1)
    assert "serves it already" in place.deploy()
    assert {"Key": "team", "Value": "ships"} in cloud.backend.endpoints["cells"].tags


def test_what_takes_too_long_is_told_and_the_same_command_goes_on_waiting(cloud, place):
    place.file.write_text(YAML.replace("wait_seconds: 60", "wait_seconds: 0.1"), "utf-8")
    cloud.states = ["Creating"] * 1000
    assert "is Creating after 0.1 s" in place.deploy(code=1)
    cloud.states = ["Creating", "Creating"]
    place.file.write_text(YAML, "utf-8")
    told = place.deploy()
    assert "is Creating from before" in told and "serves it already" in told


def test_who_follows_brings_each_promotion_there_and_a_rollback_back(cloud, place):
    first, words = registry.find(f"{NAME}/1"), ("--name", "cells", "--config", place.file)
    made = MlflowClient().create_model_version(NAME, first.source, tags=first.tags)
    second = int(made.version)
    registry.move(NAME, "production", 1, None)
    place.deploy()
    assert "serves at cells as version 1" in place("deploy", f"{NAME}/{second}", *words, code=1)
    follow = "deploy", f"{NAME}@production", *words, "--follow"
    assert "needs {version}" in place(*follow, code=1), "one image is one version"
    place.file.write_text(YAML.replace(IMAGE, f"{IMAGE.partition('@')[0]}:{{version}}"), "utf-8")
    assert "an alias moves" in place("deploy", f"{NAME}/1", *follow[2:], code=1)
    moves, said = [(second, 1), (1, second)], []

    def deploy_once():
        deployments.deploy(follow[1], "cells", config.read(place.file), said.append)
        if not moves:
            raise KeyboardInterrupt
        registry.move(NAME, "production", *moves.pop(0))

    cloud.refuse("update_endpoint", "AccessDeniedException", "not yet", 1)
    with pytest.raises(KeyboardInterrupt):
        deployments.follow(follow[1], deploy_once, 0.01, said.append)
    assert any("not yet" in line and "again in 0.02 s" in line for line in said)
    done = [each for each in deployments.of(NAME) if each.outcome == "done"][-3:]
    assert [each.version for each in done] == [1, second, 1]
    assert [each.image.rpartition(":")[2] for each in done] == ["1", str(second), "1"]


def test_a_killed_deploy_is_settled_by_the_same_command(cloud, place):
    cloud.states = ["Creating"] * 100_000
    command = [sys.executable, "-m", "Codes.commands.cli", "deploy", f"{NAME}/1", "--name", "cells"]
    with subprocess.Popen(
        [*command, "--config", place.file], stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert any("cells: Creating" in line for line in process.stderr)
        process.send_signal(signal.SIGKILL)
    assert deployments.of(NAME)[-1].outcome == "begun"
    cloud.states = ["Creating"]
    assert "serves it already" in place.deploy()
    assert [each.outcome for each in deployments.of(NAME)[-2:]] == [deployments.INTERRUPTED, "done"]


def test_a_batch_is_transformed_and_its_failure_told(cloud, place, monkeypatch):
    words = (
        "transform",
        f"{NAME}/1",
        "s3://in/rows",
        "s3://out",
        "--name",
        "cells",
        "--config",
        place.file,
    )
    assert "'out' is not on S3" in place(*words[:3], "out", *words[4:], code=1)
    assert "begun" in place(*words)
    (job,) = cloud.backend.transform_jobs.values()
    assert job.transform_output["S3OutputPath"] == "s3://out"
    job.transform_job_status = "InProgress"
    said = place(*words, "--no-wait")
    assert "is under way from before" in said and deployments.SENT in said
    assert len(cloud.backend.transform_jobs) == 1, "a killed command's job is not begun twice"
    job.transform_job_status = "Completed"
    monkeypatch.setattr(time, "strftime", lambda *_: "later")
    # new files may lie there
    assert "done" in place(*words) and len(cloud.backend.transform_jobs) == 2
    monkeypatch.setattr(
        FakeTransformJob,
        "response_object",
        {"TransformJobStatus": "Failed", "FailureReason": "no such bucket"},
    )
    assert "Failed: no such bucket" in place(*words, code=1)
