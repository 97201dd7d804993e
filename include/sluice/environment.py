"""Environment variables for other processes: Airflow, the AWS CLI, Terraform."""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from sluice.aws.emulator import EMBEDDED_SECRET_KEY
from sluice.settings import PROJECT_ROOT, Settings


def aws_environment(settings: Settings) -> dict[str, str]:
    """Variables of every AWS SDK and the AWS CLI; for a real account only the region, and no credentials."""
    if not settings.endpoint_url:
        return {"AWS_DEFAULT_REGION": settings.aws_region}
    return {
        "AWS_DEFAULT_REGION": settings.aws_region,
        "AWS_ENDPOINT_URL": settings.endpoint_url,
        "AWS_ACCESS_KEY_ID": settings.aws_account_id,
        "AWS_SECRET_ACCESS_KEY": EMBEDDED_SECRET_KEY,
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


def aws_connection(settings: Settings) -> str:
    """Airflow's connection `aws_default` as JSON; used by every hook, operator and trigger."""
    extra: dict[str, object] = {"region_name": settings.aws_region}
    connection: dict[str, object] = {"conn_type": "aws", "extra": extra}
    if settings.endpoint_url:
        extra["endpoint_url"] = settings.endpoint_url
        connection |= {"login": settings.aws_account_id, "password": EMBEDDED_SECRET_KEY}
    return json.dumps(connection)


def airflow_environment(settings: Settings, database_url: str, secret: str) -> dict[str, str]:
    """Variables with which an Airflow process runs this project.

    Args:
        settings: the settings of this process.
        database_url: SQLAlchemy URL of the metadata database.
        secret: secret that signs the tokens between Airflow's processes.
    """
    home = settings.home / "airflow"
    variables = aws_environment(settings) | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "sluice_airflow.executor.PreloadingLocalExecutor",
        # Two cores: more concurrent tasks would only compete for them.
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": settings.execution_api_url or f"{web_url(settings)}/execution/",
        "AIRFLOW__API__HOST": settings.web_host,
        "AIRFLOW__API__PORT": str(settings.web_port),
        "AIRFLOW__API__BASE_URL": web_url(settings),
        "AIRFLOW__API__WORKERS": "1",
        # The last lines of a failed log hold a sentence and a command; unwrapped they run off the page.
        "AIRFLOW__API__DEFAULT_WRAP": "True",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__API_AUTH__JWT_SECRET": secret,
        "AIRFLOW__API__SECRET_KEY": secret,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.home / "logs" / "airflow"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
        # Runs of a killed scheduler are detected 30 to 60 s after its last heartbeat, and a killed task a minute after
        # its last one; the defaults are five minutes.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        # An edited Dag file is parsed within half a minute. Unchanged files are parsed less often, only because
        # settings may have changed: parsing all takes three seconds of CPU.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        # One second: with the default of five, a deferred task that resumes at once can be marked failed by mistake.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # Read only where the group `lineage` is installed and a transport is configured.
        "AIRFLOW__OPENLINEAGE__NAMESPACE": settings.resource_prefix,
        "AIRFLOW__OPENLINEAGE__EXTRACTORS": "sluice_airflow.lineage.AssetExtractor",
        "AIRFLOW_CONN_AWS_DEFAULT": aws_connection(settings),
        "GX_ANALYTICS_ENABLED": "false",
        "NO_PROXY": ",".join(own_hosts(settings)),
    }
    if settings.fernet_key:
        variables["AIRFLOW__CORE__FERNET_KEY"] = settings.fernet_key.get_secret_value()
    return variables


def web_url(settings: Settings) -> str:
    """Address of Airflow's web UI for a browser on this machine."""
    return f"http://127.0.0.1:{settings.web_port}"


def own_hosts(settings: Settings) -> list[str]:
    """Hosts to reach without a proxy: this machine, and in Compose the other services."""
    urls = (settings.endpoint_url, settings.execution_api_url)
    return ["127.0.0.1", "localhost", *(str(urlsplit(url).hostname) for url in urls if url)]


def stored_secret(path: Path) -> str:
    """A secret of this checkout: generated on first use, kept in a file that only its owner can read."""
    try:
        return path.read_text()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(f".{secrets.token_hex(4)}")
    made.touch(mode=0o600)
    made.write_text(secrets.token_hex(32))
    # A hard link fails when the name exists: of two concurrent first uses, both read the secret of the winner.
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(made)
    made.unlink()
    return path.read_text()
