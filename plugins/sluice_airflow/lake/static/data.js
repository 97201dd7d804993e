// The tab "Data" of a Dag and of a run: what was read, published and rejected, gates, and where the files are.

import { number, runName } from "./format.js";
import { Badge, Card, Command, DataTable, Fact, Go, html, Loaded, Nothing, page, Section, Time, runPage, useData } from "./ui.js";

const { Box, Flex, Grid, Stack } = globalThis.ChakraUI;

const COUNTS = { records_in: "In", published: "Published", duplicates: "Duplicates", quarantined: "Quarantined" };

const Data = ({ dagId, runId }) => {
  const state = useData(`dags/${dagId}`, { run: runId ?? "" });
  return html`<${Box} p=3 data-testid="lake-data"><${Loaded} state=${state}>
    ${(found) => (runId ? html`<${Run} found=${found} />` : html`<${Dag} found=${found} />`)}
  </${Loaded}></${Box}>`;
};

const Tables = ({ tables }) => (tables.length
  ? html`<${Flex} columnGap=3 wrap="wrap">${tables.map(({ table, has_page: hasPage }) => (hasPage
      ? html`<${Go} key=${table} to=${page(`tables/${table}`)}>${table}</${Go}>` : html`<span key=${table}>${table}</span>`))}</${Flex}>`
  : "–");

const Gates = ({ gates }) => html`<${DataTable} label="Gates" rows=${gates} rowKey=${(gate) => gate.gate} columns=${[
  { name: "Outcome", cell: (gate) => html`<${Badge} state=${gate.outcome} />` },
  { name: "Gate", cell: (gate) => html`<${Go} to=${page(`quality/${gate.gate}`, { run: gate.run })}>${gate.gate}</${Go}>` },
  { name: "When (UTC)", cell: (gate) => html`<${Time} at=${gate.at} />` },
]} />`;

const Snapshots = ({ snapshots }) => html`<${DataTable} label="Snapshots" rows=${snapshots} rowKey=${(each) => each.snapshot} columns=${[
  { name: "Table", cell: (each) => html`<${Go} to=${page(`tables/${each.table}`)}>${each.table}</${Go}>` },
  { name: "Snapshot", cell: (each) => each.snapshot },
  { name: "Readers see", cell: (each) => (each.is_current ? html`<${Badge} state="ok">this one</${Badge}>` : "a newer one") },
  { name: "Committed (UTC)", cell: (each) => html`<${Time} at=${each.at} />` },
  { name: "Added", end: true, cell: (each) => number(each.added) },
  { name: "Deleted", end: true, cell: (each) => number(each.deleted) },
  { name: "Rows then", end: true, cell: (each) => number(each.total) },
]} />
  <${Box} mt=2>${snapshots.map((each) => html`<${Command} key=${each.snapshot} text=${`sluice tables read ${each.table} --as-of ${each.snapshot}`} />`)}</${Box}>`;

const Run = ({ found }) => html`<${Stack} gap=5>
  <${Card}><${Grid} as="dl" m=0 templateColumns=${{ base: "1fr 1fr", lg: "repeat(4, 1fr)" }} gap=3>
    ${Object.entries(COUNTS).map(([name, title]) => html`<${Fact} key=${name} name=${title}>
      <span data-testid=${name}>${found.counted ? number(found.counted[name]) : "–"}</span></${Fact}>`)}
    <${Fact} name="Outcome">${found.counted ? html`<${Badge} state=${found.counted.outcome} />` : "it counted nothing"}</${Fact}>
    <${Fact} name="Publishes to"><${Tables} tables=${found.tables} /></${Fact}>
    <${Fact} name="Staging"><${Go} to=${page("files", { prefix: found.places.staging })}>files</${Go}></${Fact}>
    <${Fact} name="Rejected records"><${Go} to=${page("files", { prefix: found.places.quarantine })}>files</${Go}></${Fact}>
  </${Grid}></${Card}>
  ${found.snapshots.length > 0 && html`<${Section} title="Snapshots" aside="that this run committed">
    <${Snapshots} snapshots=${found.snapshots} /></${Section}>`}
  ${found.gates.length > 0 && html`<${Section} title="Gates"><${Gates} gates=${found.gates} /></${Section}>`}
</${Stack}>`;

const Dag = ({ found }) => html`<${Stack} gap=5>
  <${Card}><${Grid} as="dl" m=0 templateColumns=${{ base: "1fr", lg: "repeat(3, 1fr)" }} gap=3>
    <${Fact} name="Pipeline"><${Go} to=${page("")}>${found.pipeline}</${Go}></${Fact}>
    <${Fact} name="Publishes to"><${Tables} tables=${found.tables} /></${Fact}>
    <${Fact} name="Rejected records"><${Go} to=${page("quarantine", { pipeline: found.pipeline })}>quarantine of ${found.pipeline}</${Go}></${Fact}>
  </${Grid}></${Card}>
  ${found.gates.length > 0 && html`<${Section} title="Gates" aside="newest result"><${Gates} gates=${found.gates} /></${Section}>`}
  ${found.runs.length ? html`<${Section} title="What its runs counted" aside="newest first, kept for 30 days">
    <${DataTable} label="Runs" rows=${found.runs} rowKey=${(run) => run.run + run.started_at} columns=${[
      { name: "Outcome", cell: (run) => html`<${Badge} state=${run.outcome} />` },
      { name: "Run", cell: (run) => html`<${Go} to=${runPage(found.dag, run.run)} title=${run.run}>${runName(run.run)}</${Go}>` },
      { name: "Ended (UTC)", cell: (run) => html`<${Time} at=${run.at} />` },
      ...Object.entries(COUNTS).map(([name, title]) => ({ name: title, end: true, cell: (run) => number(run[name]) })),
    ]} /></${Section}>`
    : html`<${Nothing}>No run of this Dag has counted records in the last 30 days.</${Nothing}>`}
</${Stack}>`;

globalThis.Data = Data;
globalThis.AirflowPlugin = Data;
