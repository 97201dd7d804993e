// Rejected records: counts, filters by address, and the records.

import { Chart } from "../charts.js";
import { fileName, number, plural } from "../format.js";
import {
  apiUrl, Card, Command, dagPage, DataTable, ErrorState, Go, html, Loaded, Nothing, page, Section, send, Time, useData,
} from "../ui.js";

const { useState } = globalThis.React;
const { useSearchParams } = globalThis.ReactRouterDOM;
const { Alert, Box, Button, Code, Flex, Grid, NativeSelect, Stack, Text, Textarea } = globalThis.ChakraUI;

const FILTERS = ["pipeline", "reason", "day", "key"];

export const Quarantine = () => {
  const [search, setSearch] = useSearchParams();
  const filter = Object.fromEntries(FILTERS.map((name) => [name, search.get(name) ?? ""]));
  const state = useData("quarantine", filter);
  const choose = (name, value) => {
    const next = new URLSearchParams(search);
    if (value) next.set(name, value); else next.delete(name);
    setSearch(next);
  };
  return html`<${Loaded} state=${state}>${(found) => html`<${Stack} gap=6>
    <${Filters} found=${found} filter=${filter} choose=${choose} />
    ${found.dead_letters.length > 0 && html`<${DeadLetters} queues=${found.dead_letters} />`}
    ${found.counts.length ? html`<${Counts} found=${found} filter=${filter} />
      <${Records} found=${found} />` : html`<${Nothing}>Nothing is in quarantine${FILTERS.some((name) => filter[name]) ? " that matches" : ""}.</${Nothing}>`}
  </${Stack}>`}</${Loaded}>`;
};

const DeadLetters = ({ queues }) => html`<${Section} title="Dead letters" aside="messages that failed each time they were received">
  <${Stack} gap=3>${queues.map((each) => html`<${Card} key=${each.queue} p=3 borderLeftWidth="4px" borderLeftColor="red.solid">
    <${Text} fontSize="sm"><b>${plural(each.messages, "message")}</b> in ${each.queue}</${Text}>
    <${Command} text=${`sluice dead-letters list ${each.pipeline}`} />
    <${Command} text=${`sluice dead-letters redrive ${each.pipeline} --no-dry-run`} />
  </${Card}>`)}</${Stack}>
</${Section}>`;

const distinct = (values) => [...new Set(values)].sort();

const Filters = ({ found, filter, choose }) => html`<${Flex} gap=3 wrap="wrap" align="flex-end">
  <${Choice} name="Pipeline" value=${filter.pipeline} choices=${distinct([...found.pipelines, filter.pipeline])} choose=${(value) => choose("pipeline", value)} />
  <${Choice} name="Reason" value=${filter.reason} choices=${distinct([...found.counts.map((each) => each.reason), filter.reason])} choose=${(value) => choose("reason", value)} />
  <${Choice} name="Day (UTC)" value=${filter.day} choices=${distinct([...found.days, filter.day]).reverse()} choose=${(value) => choose("day", value)} />
  ${filter.key && html`<${Flex} align="center" gap=2 fontSize="sm"><span>File ${fileName(filter.key)}</span>
    <${Button} size="xs" variant="outline" onClick=${() => choose("key", "")}>All files</${Button}></${Flex}>`}
</${Flex}>`;

const Choice = ({ name, value, choices, choose }) => html`<${Box} as="label" fontSize="xs" color="fg.muted">${name}
  <${NativeSelect.Root} size="sm" minW="11rem">
    <${NativeSelect.Field} value=${value} onChange=${(event) => choose(event.target.value)} color="fg">
      <option value="">all</option>
      ${choices.filter(Boolean).map((each) => html`<option key=${each} value=${each}>${each}</option>`)}
    </${NativeSelect.Field}><${NativeSelect.Indicator} />
  </${NativeSelect.Root}>
</${Box}>`;

// Counts by reason, each with its link; the chart shows the same by pipeline.
const Counts = ({ found, filter }) => {
  const total = found.counts.reduce((sum, each) => sum + each.records, 0);
  const byReason = new Map();
  for (const each of found.counts) {
    const key = `${each.pipeline} ${each.reason}`;
    const row = byReason.get(key) ?? { pipeline: each.pipeline, reason: each.reason, records: 0, days: {} };
    row.records += each.records;
    row.days[each.day] = (row.days[each.day] ?? 0) + each.records;
    byReason.set(key, row);
  }
  const rows = [...byReason.values()].sort((one, other) => other.records - one.records);
  return html`<${Section} title=${`${plural(total, "rejected record")}`} aside=${found.is_whole ? "all that is kept (90 days)" : "in the newest files"}>
    ${!found.is_whole && html`<${Alert.Root} status="info" mb=3 size="sm"><${Alert.Indicator} /><${Alert.Title}>
      ${found.is_listed ? "Only the newest files are counted here. Choose a pipeline and a day for older ones."
        : `There are too many files to list: these are the newest of the first ${number(found.files_listed)} of a pipeline by key. See Files for others.`}</${Alert.Title}></${Alert.Root}>`}
    <${Grid} templateColumns=${{ base: "1fr", xl: "1fr 1fr" }} gap=4>
      <${DataTable} label="Rejected records by pipeline and reason" maxH="320px" rows=${rows} rowKey=${(row) => row.pipeline + row.reason} columns=${[
        { name: "Pipeline", cell: (row) => row.pipeline },
        { name: "Reason", cell: (row) => html`<${Go} to=${page("quarantine", { ...filter, pipeline: row.pipeline, reason: row.reason })}>${row.reason}</${Go}>` },
        { name: "Records", end: true, cell: (row) => number(row.records) },
        { name: "Newest day", cell: (row) => Object.keys(row.days).sort().pop() },
      ]} />
      <${Card}><${ByDay} counts=${found.counts} /></${Card}>
    </${Grid}>
  </${Section}>`;
};

const ByDay = ({ counts }) => {
  const days = distinct(counts.map((each) => each.day));
  const names = distinct(counts.map((each) => each.pipeline));
  const count = (pipeline, day) =>
    counts.filter((each) => each.pipeline === pipeline && each.day === day).reduce((sum, each) => sum + each.records, 0);
  const option = {
    grid: { left: 8, right: 8, top: 34, bottom: 4, containLabel: true },
    legend: { top: 0 },
    xAxis: { type: "category", data: days },
    yAxis: { type: "value", minInterval: 1 },
    series: names.map((name) => ({ name, type: "bar", stack: "all", barMaxWidth: 40, data: days.map((day) => count(name, day)) })),
  };
  return html`<${Chart} option=${option} height="284px" label=${`Rejected records by day and pipeline: ${names.join(", ")}`} />`;
};

const Records = ({ found }) => html`<${Section} title="Records"
  aside=${found.matching > found.records.length ? `the first ${found.records.length} of ${number(found.matching)}` : plural(found.matching, "record")}>
  <${Stack} as="ul" listStyleType="none" gap=3>
    ${found.records.map((record, place) => html`<li key=${place}><${Record} record=${record} dag=${found.releasable[record.pipeline]} /></li>`)}
  </${Stack}>
</${Section}>`;

const Record = ({ record, dag }) => {
  const [isOpen, setOpen] = useState(false);
  return html`<${Card} p=3 data-testid="quarantined">
    <${Flex} gap=3 wrap="wrap" align="baseline" fontSize="sm">
      <${Text} as="span" fontWeight="semibold">${record.reason}</${Text}>
      <${Text} as="span" color="fg.muted">${record.pipeline}</${Text}>
      <${Text} as="span" color="fg.muted"><${Time} at=${record.stored_at} /> UTC</${Text}>
      <${Box} flexBasis=${{ base: "100%", md: 0 }} flexGrow=1 />
      <${Go} to=${page("quarantine", { key: record.key })}>file</${Go}>
      <a href=${apiUrl("files/download", { key: record.key })} download><${Text} as="span" color="fg.info">download</${Text}></a>
      ${dag && html`<${Button} size="xs" variant="outline" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>Release</${Button}>`}
    </${Flex}>
    <${Text} fontSize="sm" overflowWrap="anywhere">${record.detail}</${Text}>
    <${Text} fontSize="xs" color="fg.muted" overflowWrap="anywhere">from ${record.source}</${Text}>
    <${Code} display="block" mt=2 px=2 py=1 fontSize="xs" whiteSpace="pre-wrap" overflowWrap="anywhere" maxH="9rem" overflowY="auto"
      color="fg" bg="bg.muted" tabIndex=0>${record.record || "(no record)"}${record.is_cut ? "…" : ""}</${Code}>
    ${isOpen && html`<${Release} record=${record} dag=${dag} />`}
  </${Card}>`;
};

// A corrected record, or for datasets the whole corrected file, goes back into its pipeline: after a second click.
const Release = ({ record, dag }) => {
  const isFile = record.pipeline === "datasets";
  const [text, setText] = useState(isFile || record.is_cut ? "" : record.record);
  const [isAsking, setAsking] = useState(false);
  const [result, setResult] = useState(null);
  const [error, setError] = useState(null);
  const choose = (event) => event.target.files[0]?.text().then(setText);
  const confirm = () => send("quarantine/release", { pipeline: record.pipeline, source: record.source, text })
    .then((found) => { setResult(found); setError(null); }, setError).finally(() => setAsking(false));
  if (result) {
    return html`<${Alert.Root} status="success" mt=3><${Alert.Indicator} /><${Alert.Title} overflowWrap="anywhere">
      Sent to ${result.address}. The next run of <${Go} to=${dagPage(result.dag)}>${result.dag}</${Go}> takes it.</${Alert.Title}></${Alert.Root}>`;
  }
  return html`<${Stack} gap=2 mt=3 borderTopWidth="1px" pt=3>
    <${Box} as="label" fontSize="xs" color="fg.muted">${isFile ? "The whole corrected file, which replaces the one it came from" : "The corrected record"}
      <${Textarea} rows=5 fontFamily="mono" fontSize="xs" color="fg" value=${text} onChange=${(event) => { setText(event.target.value); setAsking(false); }} />
    </${Box}>
    ${isFile && html`<${Box} as="label" fontSize="xs" color="fg.muted">or choose it: <input type="file" accept=".csv" onChange=${choose} /></${Box}>`}
    ${error && html`<${ErrorState} error=${error} />`}
    <${Flex} gap=2 align="center" wrap="wrap">
      ${isAsking
        ? html`<${Text} fontSize="sm">Send it back into ${record.pipeline}? ${dag} validates it again.</${Text}>
            <${Button} size="sm" colorPalette="blue" onClick=${confirm}>Send</${Button}>
            <${Button} size="sm" variant="outline" onClick=${() => setAsking(false)}>Cancel</${Button}>`
        : html`<${Button} size="sm" variant="outline" disabled=${!text.trim()} onClick=${() => setAsking(true)}>Send back…</${Button}>`}
    </${Flex}>
  </${Stack}>`;
};
