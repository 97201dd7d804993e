// Published tables: a list, and of one its columns, charts, partitions, rows and snapshots.

import { ChartCards } from "../chart-cards.js";
import { bytes, duration, number, plural, runName, secondsBetween, time } from "../format.js";
import {
  Badge, Card, Command, DataTable, Fact, Go, html, Loaded, Nothing, page, PreviewTable, Section, Time, useData,
} from "../ui.js";
import { Datasets } from "./datasets.js";

const { Box, Flex, Grid, Heading, Stack, Text } = globalThis.ChakraUI;

export const Tables = ({ parts: [name] }) => {
  if (name === "datasets") return html`<${Datasets} />`;
  return name ? html`<${Table} name=${name} />` : html`<${List} />`;
};

const List = () => {
  const state = useData("tables", {}, { seconds: 60 });
  return html`<${Loaded} state=${state}>${({ tables, folders, at }) => tables.length + folders.length
    ? html`<${Grid} as="ul" listStyleType="none" gap=4 templateColumns=${{ base: "1fr", md: "1fr 1fr", xl: "1fr 1fr 1fr" }}>
        ${tables.map((table) => html`<li key=${table.table}><${Summary} table=${table} at=${at} /></li>`)}
        ${folders.map((each) => html`<li key=${each.table}><${Folder} folder=${each} /></li>`)}
      </${Grid}>`
    : html`<${Nothing}>There is no table yet. <${Command} text="sluice deploy" /></${Nothing}>`}
  </${Loaded}>`;
};

const Summary = ({ table, at }) => html`<${Card} height="100%">
  <${Heading} as="h2" size="md" mb=1><${Go} to=${page(`tables/${table.table}`)}>${table.table}</${Go}></${Heading}>
  <${Text} fontSize="sm" color="fg.muted" mb=3>${table.description}</${Text}>
  <${Grid} as="dl" m=0 templateColumns="1fr 1fr" gap=2>
    <${Fact} name="Rows">${number(table.rows)}</${Fact}>
    <${Fact} name="Size">${bytes(table.size_bytes)} in ${plural(table.files, "file")}</${Fact}>
    <${Fact} name="Published">${table.published_at ? `${duration(secondsBetween(table.published_at, at))} ago` : "never"}</${Fact}>
    <${Fact} name="Pipeline">${table.pipeline}</${Fact}>
  </${Grid}>
</${Card}>`;

const Folder = ({ folder }) => html`<${Card} height="100%">
  <${Heading} as="h2" size="md" mb=1><${Go} to=${page(`tables/${folder.table}`)}>${folder.table}</${Go}></${Heading}>
  <${Text} fontSize="sm" color="fg.muted" mb=3>${folder.description}</${Text}>
  <${Grid} as="dl" m=0 templateColumns="1fr 1fr" gap=2>
    <${Fact} name="Format">a parquet file each</${Fact}>
    <${Fact} name="Pipeline">${folder.pipeline}</${Fact}>
  </${Grid}>
</${Card}>`;

const Table = ({ name }) => {
  const state = useData(`tables/${name}`);
  return html`<${Stack} gap=6>
    <${Box} fontSize="sm"><${Go} to=${page("tables")}>All tables</${Go}></${Box}>
    <${Loaded} state=${state}>${(found) => html`<${Stack} gap=6>
      <${Head} table=${found} />
      <${Charts} name=${name} />
      ${found.calendar && html`<${Calendar} calendar=${found.calendar} table=${found} />`}
      <${Rows} name=${name} columns=${found.columns} />
      <${Snapshots} table=${found} />
    </${Stack}>`}</${Loaded}>
  </${Stack}>`;
};

const Head = ({ table }) => html`<${Card}>
  <${Heading} as="h2" size="lg">${table.table}</${Heading}>
  <${Text} color="fg.muted" mb=3>${table.description}</${Text}>
  <${Grid} as="dl" m=0 templateColumns=${{ base: "1fr 1fr", lg: "repeat(5, 1fr)" }} gap=3>
    <${Fact} name="Rows"><span data-testid="rows">${number(table.rows)}</span></${Fact}>
    <${Fact} name="Size">${bytes(table.size_bytes)} in ${plural(table.files, "file")}</${Fact}>
    <${Fact} name="Published"><${Time} at=${table.published_at} /></${Fact}>
    <${Fact} name="Partitioned by">${table.partitioning.join(", ").replace(/^.* = /, "")}</${Fact}>
    <${Fact} name="Files"><${Go} to=${page("files", { prefix: `curated/${table.table}/` })}>open</${Go}></${Fact}>
  </${Grid}>
</${Card}>`;

const Charts = ({ name }) => {
  const state = useData(`tables/${name}/charts`);
  return html`<${Loaded} state=${state}>${({ charts }) => html`<${ChartCards} charts=${charts} />`}</${Loaded}>`;
};

const COLOURS = {
  present: "green.solid", late: "orange.solid", reprocessed: "blue.solid", empty: "bg.emphasized", missing: "red.solid",
};
const WORDS = {
  present: "present", late: "published again with late events", reprocessed: "processed again",
  empty: "processed, no rows", missing: "missing: no rows, no run in 30 days",
};

// Hours as a row a day, months as a row a year.
const Calendar = ({ calendar, table }) => {
  const byRow = new Map();
  const isHours = calendar.unit === "hour";
  for (const each of calendar.partitions) {
    const row = isHours ? each.start.slice(0, 10) : each.start.slice(0, 4);
    byRow.set(row, [...(byRow.get(row) ?? []), each]);
  }
  const columns = isHours ? [...Array(24).keys()] : [...Array(12).keys()];
  const place = (each) => Number(isHours ? each.start.slice(11, 13) : each.start.slice(5, 7) - 1);
  const states = [...new Set(calendar.partitions.map((each) => each.state))];
  return html`<${Section} title=${isHours ? "Hours" : "Months"} aside="UTC; a cell says its rows, size, run and snapshot">
    <${Box} borderWidth="1px" borderRadius="md" bg="bg.panel" p=3 overflowX="auto" tabIndex=0 role="region" aria-label="Partitions">
      <table style=${{ borderCollapse: "separate", borderSpacing: "2px" }}>
        <thead><tr><th scope="col"><${Box} as="span" srOnly>${isHours ? "Day" : "Year"}</${Box}></th>
          ${columns.map((column) => html`<th key=${column} scope="col"><${Text} as="span" fontSize="2xs" color="fg.muted">
            ${String(isHours ? column : column + 1).padStart(2, "0")}</${Text}></th>`)}</tr></thead>
        <tbody>${[...byRow.entries()].reverse().map(([row, cells]) => html`<tr key=${row}>
          <th scope="row" style=${{ paddingInlineEnd: "8px", fontWeight: "normal" }}><${Text} as="span" fontSize="xs" whiteSpace="nowrap">${row}</${Text}></th>
          ${columns.map((column) => html`<td key=${column}><${Partition} table=${table} partition=${cells.find((each) => place(each) === column)} /></td>`)}
        </tr>`)}</tbody>
      </table>
      <${Flex} gap=4 wrap="wrap" mt=3 fontSize="xs" color="fg.muted">
        ${states.map((state) => html`<span key=${state}><${Box} as="span" display="inline-block" boxSize="10px" borderRadius="2px"
          mr=1 bg=${COLOURS[state]} aria-hidden="true" />${WORDS[state]}</span>`)}
      </${Flex}>
    </${Box}>
  </${Section}>`;
};

const Partition = ({ partition }) => {
  if (!partition) return html`<${Box} boxSize="20px" />`;
  const text = [
    `${time(partition.start, { seconds: false })} UTC: ${WORDS[partition.state]}`,
    partition.rows !== undefined && `${plural(partition.rows, "row")}, ${bytes(partition.size_bytes)} in ${plural(partition.files, "file")}`,
    partition.run && `written by ${partition.run}`,
    partition.times > 0 && `processed ${plural(partition.times, "time")} in 30 days: ${partition.processed_by.join(", ")}${partition.times > partition.processed_by.length ? ", …" : ""}`,
    partition.snapshot && `snapshot ${partition.snapshot}`,
  ].filter(Boolean).join("\n");
  const cell = html`<${Box} boxSize="20px" borderRadius="3px" bg=${COLOURS[partition.state]} title=${text}>
    <${Box} as="span" srOnly>${text}</${Box}></${Box}>`;
  return cell;
};

const Rows = ({ name, columns }) => {
  const state = useData(`tables/${name}/rows`);
  return html`<${Loaded} state=${state}>${(found) => {
    const profiles = new Map(found.profile.map((each) => [each.column, each]));
    return html`<${Stack} gap=6>
      <${Section} title="Columns" aside=${`profile of ${plural(found.sampled, "row")}`}>
        <${DataTable} label="Columns" rows=${columns} rowKey=${(column) => column.name} columns=${[
          { name: "Column", cell: (column) => html`<b>${column.name}</b>` },
          { name: "Type", cell: (column) => column.type },
          { name: "Description", wrap: true, cell: (column) => column.description || "–" },
          { name: "Nulls", end: true, cell: (column) => number(profiles.get(column.name)?.nulls) },
          { name: "Distinct", end: true, cell: (column) => number(profiles.get(column.name)?.distinct) },
          { name: "Least", cell: (column) => short(profiles.get(column.name)?.min) },
          { name: "Greatest", cell: (column) => short(profiles.get(column.name)?.max) },
        ]} /></${Section}>
      <${Section} title="First rows" aside=${`${number(found.rows.length)} rows`}>
        <${PreviewTable} label="First rows" columns=${found.columns} rows=${found.rows} />
        <${Box} mt=2><${Command} text=${found.command} /><${Command} text=${found.sql} /></${Box}>
      </${Section}>
    </${Stack}>`;
  }}</${Loaded}>`;
};

const short = (value) => {
  if (value === null || value === undefined) return "–";
  const text = String(value);
  return html`<span title=${text}>${text.length > 24 ? `${text.slice(0, 24)}…` : text}</span>`;
};

const Snapshots = ({ table }) => html`<${Section} title="Snapshots" aside=${`${plural(table.snapshots, "snapshot")} can be read`}>
  <${DataTable} label="Snapshots" rows=${table.snapshot_list} rowKey=${(each) => each.snapshot} columns=${[
    { name: "Committed (UTC)", cell: (each) => html`<${Time} at=${each.at} />` },
    { name: "Readers see", cell: (each) => (each.is_current ? html`<${Badge} state="ok">this one</${Badge}>` : "") },
    { name: "Operation", cell: (each) => each.operation },
    { name: "Added", end: true, cell: (each) => number(each.added) },
    { name: "Deleted", end: true, cell: (each) => number(each.deleted) },
    { name: "Rows then", end: true, cell: (each) => number(each.total) },
    { name: "Run", cell: (each) => (each.run ? html`<span title=${each.run}>${each.dag ? `${each.dag} ` : ""}${runName(each.run)}</span>` : "–") },
    { name: "Snapshot", cell: (each) => each.snapshot },
  ]} /></${Section}>`;
