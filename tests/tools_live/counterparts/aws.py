"""AWS as moto plays it: instances, snapshots, buckets and the rest are kept in memory."""

from __future__ import annotations

import io
import json
import urllib.request
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from helpers.servers import Server
    from tools_live.place import Place

REGION = "us-east-1"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


@pytest.fixture(scope="session")
def cloud(place: Place, moto: Server) -> Place:
    """The product with an account that has one of each."""
    pytest.importorskip("boto3", reason="boto3 is not installed")
    endpoint = f"http://127.0.0.1:{moto.port}"
    place.add_login(
        "aws",
        kind="aws",
        region=REGION,
        access_key_id="AKIAIOSFODNN7EXAMPLE",
        secret_access_key="not-a-real-secret-access-key",
        endpoint_url=endpoint,
    )
    place.variables.update(
        AWS=f"aws --endpoint-url {endpoint} --region {REGION} --output text",
        AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE",
        AWS_SECRET_ACCESS_KEY="not-a-real-secret-access-key",
        **_made(endpoint),
    )
    return place


def _made(endpoint: str) -> dict[str, str]:
    import boto3

    session = boto3.session.Session("id", "secret", region_name=REGION)

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=endpoint)

    ec2, rds = client("ec2"), client("rds")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    started = ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2)["Instances"]
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    group = ec2.create_security_group(GroupName="web", Description="web")["GroupId"]
    rds.create_db_instance(
        DBInstanceIdentifier="shop",
        DBInstanceClass="db.t3.micro",
        Engine="postgres",
        MasterUsername="ops",
        MasterUserPassword="not-a-real-password",
        AllocatedStorage=10,
    )
    buckets = client("s3")
    buckets.create_bucket(Bucket="backups")
    buckets.put_object(Bucket="backups", Key="db/shop.dump", Body=b"dump")
    client("iam").create_user(UserName="alice")
    logs = client("logs")
    logs.create_log_group(logGroupName="/app/web")
    logs.create_log_stream(logGroupName="/app/web", logStreamName="one")
    _add_function(client("lambda"), client("iam"), endpoint)
    return {
        "INSTANCE": started[0]["InstanceId"],
        "DOOMED": started[1]["InstanceId"],
        "VOLUME": volume,
        "GROUP": group,
    }


def _add_function(functions: Any, accounts: Any, endpoint: str) -> None:
    # Without this moto would start a container for each call.
    body = json.dumps({"lambda": {"use_docker": False}}).encode()
    urllib.request.urlopen(f"{endpoint}/moto-api/config", data=body, timeout=10).close()
    role = accounts.create_role(RoleName="run", AssumeRolePolicyDocument=json.dumps(_TRUST))
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("main.py", "def handler(event, context):\n    return event\n")
    functions.create_function(
        FunctionName="echo",
        Runtime="python3.11",
        Role=role["Role"]["Arn"],
        Handler="main.handler",
        Code={"ZipFile": code.getvalue()},
    )
