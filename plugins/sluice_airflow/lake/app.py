"""Routes of the page Lake. Each needs a signed-in user, and what it shows is of Dags that the user may read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.api_fastapi.logging.decorators import action_logging
from airflow.configuration import conf
from airflow.models.asset import AssetModel, TaskInletAssetReference, TaskOutletAssetReference
from airflow.models.dag import DagModel
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.aws import s3
from sluice.aws.tables.definitions import TableMissing
from sluice.core.commands import explain
from sluice.core.run import utc_now
from sluice.environment import web_url
from sluice.errors import SluiceError
from sluice.lake_views import charts, datasets, files, lineage, overview, quality, quarantine, release, runs, tables
from sluice.lake_views.places import ZONES, OutsideTheLake, pipeline_of, pipeline_of_object, table_owners
from sluice.monitoring.pipelines import pipelines
from sluice.pipelines.datasets.records import OUTPUT_PREFIX
from sluice.settings import Settings, load_settings
from sluice_airflow.lake.deadline import within

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"

DOWNLOAD_BYTES = 64 * 1024 * 1024
"""Size of an object that can be downloaded through the API server."""

QUARANTINE_SECONDS = 15
"""Time that the page Quarantine waits: S3 lists files by their keys only, so all are listed to find the newest."""

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

MISSING = (s3.ObjectMissing, quality.GateUnknown, OutsideTheLake, TableMissing)
"""The requested resource does not exist."""


def readable_dags(user: GetUserDep) -> set[str]:
    """Ids of the Dags of this project that the user may read."""
    known = {dag.dag_id for pipeline in pipelines(load_settings()) for dag in pipeline.dags}
    return known & get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


Readable = Annotated[set[str], Depends(readable_dags)]


def require_pipeline(settings: Settings, name: str, dag_ids: set[str]) -> None:
    """The user may read a Dag of the pipeline.

    Raises:
        HTTPException: 403, the user may not.
    """
    if name not in {pipeline.name for pipeline in overview.readable_pipelines(settings, dag_ids)}:
        raise HTTPException(403, "Forbidden")


def require_key(settings: Settings, key: str, dag_ids: set[str]) -> None:
    """The key is in the lake, and the user may read a Dag of its pipeline.

    Raises:
        OutsideTheLake: it is not in the lake.
        HTTPException: 403, the user may not read it.
    """
    if key and (name := pipeline_of(settings, key)):
        require_pipeline(settings, name, dag_ids)


api = APIRouter(prefix="/api", dependencies=[Depends(requires_access_dag("GET"))])


@api.get("/overview")
def get_overview(dag_ids: Readable) -> Any:
    """Problems, and a row for each pipeline."""
    settings = load_settings()
    return within(partial(overview.read_overview, settings, dag_ids, utc_now(), web_url(settings)))


@api.get("/verdict")
def get_verdict(dag_ids: Readable) -> Any:
    """Problems, for the panel on Home."""
    settings = load_settings()
    return within(partial(overview.read_verdict, settings, dag_ids, utc_now(), web_url(settings)))


@api.get("/dags/{dag_id}", dependencies=[Depends(requires_access_dag("GET"))])
def get_dag_data(dag_id: str, dag_ids: Readable, run: str = "") -> Any:
    """What the runs of a Dag counted, or one run, its gates, snapshots and files."""
    if dag_id not in dag_ids:
        raise HTTPException(403, "Forbidden")
    settings = load_settings()
    if run:
        tables.import_readers()
        return within(partial(runs.read_run, settings, dag_id, run, utc_now()))
    return within(partial(runs.read_dag, settings, dag_id, utc_now()))


@api.get("/lineage")
def get_lineage(dag_ids: Readable, session: SessionDep) -> Any:
    """The graph of the pipelines."""
    settings = load_settings()
    flows = read_flows(session, dag_ids)
    return within(partial(lineage.read_lineage, settings, flows, dag_ids, utc_now(), web_url(settings)))


def read_flows(session: Session, dag_ids: Collection[str]) -> dict[str, lineage.Flow]:
    """Dag -> the assets that its tasks read and publish, as Airflow stored them when it read its file."""
    found: list[dict[str, set[str]]] = []
    for reference in (TaskInletAssetReference, TaskOutletAssetReference):
        named = select(reference.dag_id, AssetModel.name).join(AssetModel, AssetModel.id == reference.asset_id)
        names: dict[str, set[str]] = {}
        for dag_id, name in session.execute(named.where(reference.dag_id.in_(dag_ids))):
            names.setdefault(dag_id, set()).add(name)
        found.append(names)
    inlets, outlets = found
    return {each: lineage.Flow(frozenset(inlets.get(each, ())), frozenset(outlets.get(each, ()))) for each in dag_ids}


@api.get("/quality")
def get_quality(dag_ids: Readable) -> Any:
    """The newest result of every gate."""
    return {"gates": within(partial(quality.read_newest_documents, load_settings(), dag_ids))}


@api.get("/quality/{pipeline}/{step}")
def get_gate(pipeline: str, step: str, dag_ids: Readable, run: str = "") -> Any:
    """History of a gate, and the report of one run."""
    settings = load_settings()
    require_pipeline(settings, pipeline, dag_ids)
    return within(partial(quality.read_gate, settings, f"{pipeline}/{step}", run))


def require_table(settings: Settings, table: str, dag_ids: set[str]) -> None:
    """The user may read a Dag of the pipeline of the table.

    Raises:
        OutsideTheLake: no pipeline has such a table.
        HTTPException: 403, the user may not.
    """
    owner = table_owners(settings).get(table)
    if owner is None:
        raise OutsideTheLake(f"no pipeline has a table {table!r}: `sluice tables list` names them")
    require_pipeline(settings, owner, dag_ids)


@api.get("/tables")
def get_tables(dag_ids: Readable) -> Any:
    """Every table, its size and when it was last published."""
    settings = load_settings()
    tables.import_readers()
    names = {each.name for each in overview.readable_pipelines(settings, dag_ids)}
    return {
        "at": utc_now().isoformat(),
        "tables": within(partial(tables.list_tables, settings, names)),
        "folders": tables.list_folders(settings, names),
    }


@api.get("/datasets")
def get_dataset(key: str, dag_ids: Readable) -> Any:
    """Charts of a published dataset."""
    settings = load_settings()
    require_object(settings, key, dag_ids, zone=OUTPUT_PREFIX)
    tables.import_readers()
    return within(partial(datasets.read_dataset, settings, key))


@api.get("/tables/{table}")
def get_table(table: str, dag_ids: Readable) -> Any:
    """Columns, snapshots and partitions of a table."""
    settings = load_settings()
    require_table(settings, table, dag_ids)
    tables.import_readers()
    return within(partial(tables.read_table, settings, table, utc_now()))


@api.get("/tables/{table}/rows")
def get_rows(table: str, dag_ids: Readable) -> Any:
    """First rows of a table, and a profile of its columns."""
    settings = load_settings()
    require_table(settings, table, dag_ids)
    tables.import_readers()
    return within(partial(tables.preview, settings, table))


@api.get("/tables/{table}/charts")
def get_charts(table: str, dag_ids: Readable) -> Any:
    """Charts of a table."""
    settings = load_settings()
    require_table(settings, table, dag_ids)
    tables.import_readers()
    return {"charts": within(partial(charts.read_charts, settings, table, utc_now()))}


@api.get("/quarantine")
def get_quarantine(
    dag_ids: Readable,
    user: GetUserDep,
    pipeline: str = "",
    reason: str = "",
    day: Annotated[str, Query(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = "",
    key: str = "",
) -> Any:
    """Counts of the newest rejected records, and those that match."""
    settings = load_settings()
    if key:
        require_object(settings, key, dag_ids, zone="quarantine/")
        pipeline = pipeline_of_object(settings, key)
    if pipeline:
        require_pipeline(settings, pipeline, dag_ids)
    names = [each.name for each in overview.readable_pipelines(settings, dag_ids)]
    read = partial(quarantine.read_quarantine, pipeline=pipeline, reason=reason, day=day, key=key)
    found = within(partial(read, settings, names), seconds=QUARANTINE_SECONDS)
    return found | {"releasable": {name: release.DAGS[name] for name in names if may_release(name, user)}}


class Release(BaseModel):
    """A corrected record, or for datasets a corrected file, and where the rejected one came from."""

    pipeline: str
    source: str = Field(max_length=2_000)
    text: str = Field(max_length=release.RECORD_BYTES)


def require_same_site(request: Request) -> None:
    """The request comes from a page of this web UI: no other site can have a browser send it.

    Raises:
        HTTPException: 403, it comes from elsewhere; 415, it is not JSON, which a form of another site cannot send.
    """
    origin = request.headers.get("origin")
    # A proxy may rewrite Host; Airflow's configuration has the address that browsers use.
    own = {request.headers.get("host", ""), urlsplit(conf.get("api", "base_url", fallback="")).netloc}
    if origin and urlsplit(origin).netloc not in own - {""}:
        raise HTTPException(403, "Requests of other sites are refused")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "Requests of other sites are refused")
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "Send JSON")


def may_release(pipeline: str, user: BaseUser) -> bool:
    """Whether the user may trigger the Dag that processes a released record."""
    dag_id = release.DAGS.get(pipeline, "")
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return bool(dag_id) and get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )


@api.post(
    "/quarantine/release",
    # The last one records the user and the record in Airflow's audit log.
    dependencies=[Depends(require_same_site), Depends(action_logging("lake_release"))],
)
def post_release(body: Release, dag_ids: Readable, user: GetUserDep) -> Any:
    """Send a corrected record or file back into its pipeline."""
    settings = load_settings()
    require_pipeline(settings, body.pipeline, dag_ids)
    if body.pipeline in release.DAGS and not may_release(body.pipeline, user):
        raise HTTPException(403, "Forbidden")
    done = within(partial(release.release, settings, body.pipeline, body.source, body.text))
    return {"address": done.address, "dag": done.dag_id}


@api.get("/files")
def get_folder(dag_ids: Readable, prefix: str = "", token: str = "") -> Any:
    """One page of a folder of the lake."""
    settings = load_settings()
    require_key(settings, prefix, dag_ids)
    if prefix and not prefix.endswith("/"):
        # S3 would list what begins so: folders of other pipelines, too.
        raise OutsideTheLake(f"{prefix!r} is not a folder: a folder ends in /")
    found = within(partial(files.list_folder, settings, prefix, token))
    if prefix in ZONES:
        # An object outside of the folders belongs to no pipeline.
        found["objects"] = []
        found["folders"] = [each for each in found["folders"] if _may_read(settings, each["prefix"], dag_ids)]
    return found


def _may_read(settings: Settings, prefix: str, dag_ids: set[str]) -> bool:
    try:
        require_key(settings, prefix, dag_ids)
    except (OutsideTheLake, HTTPException):
        return False
    return True


@api.get("/files/preview")
def get_preview(key: str, dag_ids: Readable) -> Any:
    """The beginning of an object."""
    settings = load_settings()
    require_object(settings, key, dag_ids)
    tables.import_readers()
    return within(partial(files.preview, settings, key))


@api.get("/files/download")
def download(key: str, dag_ids: Readable) -> Response:
    """An object as it is, as an attachment."""
    settings = load_settings()
    require_object(settings, key, dag_ids)
    body = within(partial(_read_whole, settings, key), seconds=30)
    name = quote(key.rpartition("/")[2])
    disposition = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    return Response(body, media_type="application/octet-stream", headers=HEADERS | disposition)


def require_object(settings: Settings, key: str, dag_ids: set[str], zone: str = "") -> None:
    """The key names an object, in that zone if one is given, of a pipeline that the user may read.

    Raises:
        OutsideTheLake: it names none.
        HTTPException: 403, the user may not read it.
    """
    if not key.startswith(zone):
        raise OutsideTheLake(f"{key!r} is not in {zone}")
    require_pipeline(settings, pipeline_of_object(settings, key), dag_ids)


def _read_whole(settings: Settings, key: str) -> bytes:
    found = s3.find_object(settings.lake_bucket, key)
    if found and found.size_bytes > DOWNLOAD_BYTES:
        raise TooLarge(settings.lake_bucket, key, found.size_bytes)
    return s3.read_object(settings.lake_bucket, key).body


class TooLarge(SluiceError):
    """An object is too large to go through the API server."""

    def __init__(self, bucket: str, key: str, size_bytes: int) -> None:
        address = f"s3://{bucket}/{key}"
        super().__init__(
            f"{address} has {size_bytes:,} bytes, more than the web UI sends: run `aws s3 cp {address} .` instead"
        )


def make_app() -> FastAPI:
    """The application: pages' files and their data, for signed-in users only."""
    # Before somebody opens a table, and waits for the imports.
    threading.Thread(target=tables.import_readers, daemon=True).start()
    app = FastAPI(title="Lake", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(api)
    static = StaticFiles(directory=STATIC)

    @app.get("/static/{path:path}")
    async def get_static(path: str, request: Request, user: GetUserDep) -> Response:  # noqa: ARG001
        answer = await static.get_response(path, request.scope)
        # Revalidated each time (304), so that a page never mixes two versions.
        answer.headers.update({"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        return answer

    for error in (SluiceError, LookupError, ClientError, BotoCoreError):
        app.add_exception_handler(error, _error_state)
    return app


async def _error_state(request: Request, error: Exception) -> JSONResponse:
    """An error for the pages: what, where, and a command if there is one."""
    if not isinstance(error, (SluiceError, s3.ObjectMissing, ClientError, BotoCoreError)):
        raise error
    said = str(error) if isinstance(error, s3.ObjectMissing) else explain(error)
    log.warning("%s: %s", request.url.path, said)
    status = 404 if isinstance(error, MISSING) else 400 if isinstance(error, release.NotReleasable) else 503
    return JSONResponse({"what": said, "where": _place(load_settings())}, status, HEADERS)


def _place(settings: Settings) -> str:
    return f"{settings.endpoint_url or 'AWS'} ({settings.aws_region}, environment {settings.environment})"
