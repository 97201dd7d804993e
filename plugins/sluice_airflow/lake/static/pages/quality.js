// Newest result of every gate, and the history of one.

import { duration, plural, runName, secondsBetween, time } from "../format.js";
import {
  Badge, Card, colourOf, Command, DataTable, Fact, Go, html, Loaded, Nothing, page, runPage, Section, taskPage, Time, useData,
} from "../ui.js";

const { useSearchParams } = globalThis.ReactRouterDOM;
const { Box, Flex, Grid, Heading, Stack, Text } = globalThis.ChakraUI;

export const Quality = ({ parts }) =>
  parts.length === 2 ? html`<${Gate} gate=${parts.join("/")} />` : html`<${Gates} />`;

const Gates = () => {
  const state = useData("quality", {}, { seconds: 30 });
  return html`<${Loaded} state=${state}>${({ gates }) => gates.length
    ? html`<${Section} title="Newest result of every gate" aside="failed and warned ones first">
        <${DataTable} label="Gates" rows=${gates} rowKey=${(gate) => gate.gate} columns=${[
          { name: "Outcome", cell: (gate) => html`<${Badge} state=${gate.outcome} />` },
          { name: "Gate", cell: (gate) => html`<${Go} to=${page(`quality/${gate.gate}`)} fontWeight="medium">${gate.gate}</${Go}>` },
          { name: "When (UTC)", cell: (gate) => html`<${Time} at=${gate.at} />` },
          { name: "Run", cell: (gate) => html`<${Go} to=${taskPage(gate.dag, gate.run, gate.task)} title=${gate.run}>${runName(gate.run)}</${Go}>` },
          { name: "What was found", wrap: true, cell: (gate) => html`<${Broken} gate=${gate} />` },
        ]} /></${Section}>`
    : html`<${Nothing}>No gate has run yet. A run of any pipeline has one: <${Command} text="make demo" /></${Nothing}>`}
  </${Loaded}>`;
};

// What does not hold, in words.
const Broken = ({ gate }) => {
  if (gate.outcome === "passed") return "every expectation holds";
  if (!gate.broken.length) return html`<${Text} lineClamp=3>${gate.message}</${Text}>`;
  return html`<${Stack} gap=1>${gate.broken.map((each) => html`<span key=${each.expected}>
    not so: ${each.expected}; found ${each.found}</span>`)}</${Stack}>`;
};

const Gate = ({ gate }) => {
  const [search] = useSearchParams();
  const state = useData(`quality/${gate}`, { run: search.get("run") ?? "" });
  return html`<${Stack} gap=6>
    <${Box} fontSize="sm"><${Go} to=${page("quality")}>All gates</${Go}></${Box}>
    <${Loaded} state=${state}>${(found) => html`<${Stack} gap=6>
      <${Result} found=${found} /><${History} found=${found} />
    </${Stack}>`}</${Loaded}>
  </${Stack}>`;
};

const Result = ({ found }) => {
  const { chosen, report, places } = found;
  return html`<${Stack} gap=4>
    <${Card}>
      <${Flex} gap=3 align="center" wrap="wrap" mb=3>
        <${Heading} as="h2" size="lg">${found.gate}</${Heading}><${Badge} state=${chosen.outcome} />
      </${Flex}>
      <${Grid} as="dl" m=0 templateColumns=${{ base: "1fr", sm: "1fr 1fr", lg: "repeat(4, 1fr)" }} gap=3>
        <${Fact} name="When"><${Time} at=${chosen.at} /> UTC</${Fact}>
        <${Fact} name="Run"><${Go} to=${runPage(chosen.dag, chosen.run)}>${chosen.run}</${Go}></${Fact}>
        <${Fact} name="Judged">${report ? `${plural(report.rows, "row")}, ${plural(report.findings.length, "expectation")}` : "the report has expired"}</${Fact}>
        <${Fact} name="Its data"><${Flex} columnGap=3 rowGap=0 wrap="wrap">
          <${Go} to=${page("files", { prefix: places.staging })}>staging</${Go}>
          <${Go} to=${page("files", { prefix: places.quarantine })}>quarantine</${Go}>
          <${Go} to=${page("files", { key: places.report })}>stored report</${Go}>
        </${Flex}></${Fact}>
      </${Grid}>
    </${Card}>
    ${report && html`<${Section} title="Expectations of this run">
      <${DataTable} label="Expectations" rows=${report.findings} columns=${[
        { name: "Outcome", cell: (each) => html`<${Badge} state=${outcome(each)} />` },
        { name: "Expected", wrap: true, cell: (each) => html`<span title=${each.expectation}>${each.expected || each.expectation}</span>` },
        { name: "Found", wrap: true, cell: (each) => html`<${Stack} gap=1><span>${each.found || (each.passed ? "–" : "")}</span>
          ${each.observed && (report.rows !== 1 || !each.found) && html`<${Text} as="span" color="red.fg">${each.observed}</${Text}>`}</${Stack}>` },
        { name: "Unit", cell: (each) => each.unit || "–" },
        { name: "If it fails", cell: (each) => (each.severity === "critical" ? "nothing is published" : "a warning") },
      ]} /></${Section}>`}
  </${Stack}>`;
};

const outcome = (finding) => (finding.passed ? "passed" : finding.severity === "critical" ? "failed" : "warned");

const GRID_COLOURS = { green: "green.solid", orange: "orange.solid", red: "red.solid", gray: "bg.emphasized" };

// Runs from left (old) to right (new), one row an expectation.
const History = ({ found }) => {
  const runs = found.runs.map((run, place) => ({ ...run, place })).reverse();
  return html`<${Section} title="History" aside=${`the last ${plural(runs.length, "run")}, the newest on the right`}>
    <${Box} overflowX="auto" borderWidth="1px" borderRadius="md" bg="bg.panel" p=3 tabIndex=0 role="region" aria-label="History of the gate">
      <table style=${{ borderCollapse: "separate", borderSpacing: "3px" }}>
        <thead><tr><th scope="col" style=${{ textAlign: "start" }}><${Text} as="span" fontSize="xs" color="fg.muted">Expectation</${Text}></th>
          ${runs.map((run) => html`<th key=${run.place} scope="col"><${RunCell} gate=${found.gate} run=${run} isChosen=${run.run === found.chosen.run} /></th>`)}
        </tr></thead>
        <tbody>${found.grid.map((row) => html`<tr key=${row.expected}>
          <th scope="row" style=${{ textAlign: "start", fontWeight: "normal", paddingInlineEnd: "1rem" }}>
            <${Text} as="span" fontSize="sm">${row.expected}</${Text}></th>
          ${runs.map((run) => html`<td key=${run.place}><${OutcomeCell} outcome=${row.outcomes[run.place]} run=${run} /></td>`)}
        </tr>`)}</tbody>
      </table>
    </${Box}>
  </${Section}>`;
};

const RunCell = ({ gate, run, isChosen }) => html`<${Box} outlineWidth=${isChosen ? "2px" : "0"} outlineStyle="solid"
  outlineColor="blue.solid" outlineOffset="1px" borderRadius="sm">
  <${Go} to=${page(`quality/${gate}`, { run: run.run })} display="block" title=${`${run.outcome}, ${time(run.at)} UTC, ${run.run}`}>
    <${Box} boxSize="22px" borderRadius="sm" bg=${GRID_COLOURS[colourOf(run.outcome)]} aria-hidden="true" />
    <${Box} as="span" srOnly>${run.outcome} at ${time(run.at)}</${Box}>
  </${Go}>
</${Box}>`;

const OutcomeCell = ({ outcome: found, run }) => html`<${Box} boxSize="22px" borderRadius="sm"
  bg=${GRID_COLOURS[colourOf(found)]} opacity=${found === "passed" ? 0.55 : 1} title=${`${found || "not judged"}, ${time(run.at)} UTC`}>
  <${Box} as="span" srOnly>${found || "not judged"}</${Box}>
</${Box}>`;
