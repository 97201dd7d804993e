// What is wrong, and a row for each pipeline.

import { Chart, OUTCOMES } from "../charts.js";
import { clock, duration, number, plural, runName, secondsBetween } from "../format.js";
import { Badge, Card, Command, dagPage, Go, html, Loaded, page, Section, taskPage, Time, useData } from "../ui.js";

const { Alert, Badge: ChakraBadge, Box, Button, Flex, Grid, Heading, Stack, Text } = globalThis.ChakraUI;

const REFRESH_SECONDS = 15;
const HOURS = 24;

export const Overview = () => {
  const state = useData("overview", {}, { seconds: REFRESH_SECONDS });
  return html`<${Loaded} state=${state}>${(found) => html`<${Stack} gap=6>
    <${Head} found=${found} state=${state} />
    <${Verdict} problems=${found.problems} />
    <${Pipelines} found=${found} />
  </${Stack}>`}</${Loaded}>`;
};

export const targetText = ({ kind, account, region, environment }) =>
  kind === "embedded"
    ? `Embedded AWS on this machine (account ${account}) · ${region} · environment ${environment}`
    : `AWS · ${region} · environment ${environment}`;

const Head = ({ found, state }) => html`<${Flex} justify="space-between" align="center" gap=3 wrap="wrap">
  <${Flex} gap=2 align="center" wrap="wrap">
    <${ChakraBadge} colorPalette=${found.target.kind === "embedded" ? "purple" : "blue"} variant="subtle">
      ${found.target.kind === "embedded" ? "emulator" : "AWS"}
    </${ChakraBadge}>
    <${Text} fontSize="sm">${targetText(found.target)}</${Text}>
  </${Flex}>
  <${Flex} gap=3 align="center">
    <${Text} fontSize="sm" color="fg.muted"><${Time} at=${found.at} /> UTC</${Text}>
    <${Button} size="xs" variant="outline" aria-busy=${state.isLoading} onClick=${state.reload}>Refresh</${Button}>
  </${Flex}>
</${Flex}>`;

export const Verdict = ({ problems }) => {
  if (!problems.length) {
    return html`<${Alert.Root} status="success" data-testid="lake-verdict"><${Alert.Indicator} />
      <${Alert.Title}>Nothing is wrong</${Alert.Title}></${Alert.Root}>`;
  }
  return html`<${Section} title=${`${plural(problems.length, "problem")}`} data-testid="lake-verdict">
    <${Grid} as="ul" listStyleType="none" gap=3 templateColumns=${{ base: "1fr", xl: problems.length > 1 ? "1fr 1fr" : "1fr" }}>
      ${problems.map((problem) => html`<li key=${problem.key} style=${{ minWidth: 0 }}><${Problem} problem=${problem} /></li>`)}
    </${Grid}>
  </${Section}>`;
};

const isCommand = (text) => /^(sluice|aws|make) /.test(text);

const Problem = ({ problem }) => html`<${Card} borderLeftWidth="4px" borderLeftColor="red.solid" height="100%">
  <${Flex} gap=2 align="center" mb=1 wrap="wrap">
    <${Badge} state=${problem.kind} /><${Heading} as="h3" size="sm">${problem.title}</${Heading}>
  </${Flex}>
  <${Text} fontSize="sm" overflowWrap="anywhere" whiteSpace="pre-wrap" lineClamp=6>${problem.what}</${Text}>
  <${Text} fontSize="xs" color="fg.muted" mt=2>Look at</${Text}>
  <${Where} problem=${problem} />
  <${Text} fontSize="xs" color="fg.muted" mt=2>Then</${Text}>
  <${Command} text=${problem.again} />
</${Card}>`;

const Where = ({ problem }) => {
  if (problem.kind === "failing" && problem.run) {
    const to = problem.task ? taskPage(problem.dag, problem.run, problem.task) : `${dagPage(problem.dag)}/runs/${problem.run}`;
    const gate = /report: s3:\/\/[^/]+\/quality\/([^/\s]+\/[^/\s]+)\//.exec(problem.what);
    return html`<${Flex} gap=4 wrap="wrap" fontSize="sm">
      <${Go} to=${to}>Log of ${[problem.dag, problem.task].filter(Boolean).join(".")}</${Go}>
      ${gate && html`<${Go} to=${page(`quality/${gate[1]}`, { run: problem.run })}>Report of the gate</${Go}>`}
    </${Flex}>`;
  }
  if (problem.kind === "dead-letters") {
    return html`<${Stack} gap=0><${Box} fontSize="sm">
      <${Go} to=${page("quarantine", { pipeline: problem.pipeline })}>Dead letters of ${problem.pipeline}</${Go}></${Box}>
      <${Command} text=${problem.where} /></${Stack}>`;
  }
  if (isCommand(problem.where)) return html`<${Command} text=${problem.where} />`;
  return html`<${Box} fontSize="sm">${/^https?:/.test(problem.where)
    ? html`<${Go} to=${dagPage(problem.dag)}>Runs of ${problem.dag}</${Go}>`
    : problem.where}</${Box}>`;
};

const COLUMNS = ["Pipeline", "State", "Freshness", "Last 24 hours", "Waiting", "Dead letters", "Gate"];
const WIDTHS = "minmax(8.5rem, 1.1fr) minmax(6.5rem, 0.6fr) minmax(10rem, 1.2fr) 3.4fr minmax(4.5rem, 0.5fr) minmax(4rem, 0.4fr) minmax(8rem, 1.1fr)";

const Pipelines = ({ found }) => html`<${Section} title="Pipelines" aside="Counts by hour, in UTC">
  <${Box} role="table" aria-label="Pipelines" borderWidth="1px" borderRadius="md" bg="bg.panel">
    <${Grid} role="row" templateColumns=${WIDTHS} gap=4 px=4 py=2 bg="bg.muted" fontSize="sm" fontWeight="medium"
      hideBelow="lg">
      ${COLUMNS.map((name) => html`<div key=${name} role="columnheader">${name}</div>`)}
    </${Grid}>
    ${found.pipelines.map((each) => html`<${Pipeline} key=${each.pipeline} pipeline=${each} at=${found.at} />`)}
  </${Box}>
</${Section}>`;

// On narrow screens each value has its name above it.
const Cell = ({ name, children, ...props }) => html`<${Box} role="cell" minW=0 ...${props}>
  <${Text} hideFrom="lg" fontSize="xs" color="fg.muted">${name}</${Text}>
  <${Box} fontSize="sm">${children}</${Box}>
</${Box}>`;

const Pipeline = ({ pipeline, at }) => {
  const [name, state, freshness, hours, waiting, dead, gate] = COLUMNS;
  return html`<${Grid} role="row" data-testid=${`pipeline-${pipeline.pipeline}`} gap=${{ base: 3, lg: 4 }} px=4 py=3
    borderTopWidth="1px" alignItems="center" templateColumns=${{ base: "1.6fr 1fr", lg: WIDTHS }}>
    <${Cell} name=${name}><${Text} fontWeight="semibold">${pipeline.pipeline}</${Text}>
      ${pipeline.dags.filter((dag) => dag.running).map((dag) => html`<${Text} key=${dag.dag} fontSize="xs" color="fg.muted">
        <${Go} to=${dagPage(dag.dag)}>${dag.dag}</${Go}> runs</${Text}>`)}
    </${Cell}>
    <${Cell} name=${state}><${Badge} state=${pipeline.state} /></${Cell}>
    <${Cell} name=${freshness} gridColumn=${{ base: "1 / -1", lg: "auto" }}><${Freshness} pipeline=${pipeline} at=${at} /></${Cell}>
    <${Cell} name=${hours} gridColumn=${{ base: "1 / -1", lg: "auto" }}><${Hours} pipeline=${pipeline} /></${Cell}>
    <${Cell} name=${waiting}>${pipeline.streams.length
      ? html`<span title=${pipeline.streams.map((each) => each.stream).join(", ")}>lag ${duration(pipeline.streams[0].lag_seconds)}</span>`
      : number(pipeline.waiting)}</${Cell}>
    <${Cell} name=${dead}>${pipeline.dead_letters
      ? html`<${Go} to=${page("quarantine", { pipeline: pipeline.pipeline })} fontWeight="semibold">${number(pipeline.dead_letters)}</${Go}>`
      : number(pipeline.dead_letters)}</${Cell}>
    <${Cell} name=${gate} gridColumn=${{ base: "1 / -1", lg: "auto" }}>${pipeline.gate
      ? html`<${Flex} columnGap=2 rowGap=0 wrap="wrap" align="center">
          <${Badge} state=${pipeline.gate.outcome} />
          <${Go} to=${page(`quality/${pipeline.gate.gate}`)}>${pipeline.gate.gate.split("/")[1]}</${Go}>
          <${Text} as="span" fontSize="xs" color="fg.muted" title=${runName(pipeline.gate.run)}>
            ${duration(secondsBetween(pipeline.gate.at, at))} ago</${Text}>
        </${Flex}>`
      : "–"}</${Cell}>
  </${Grid}>`;
};

// Age of the newest publication, and when the next run is due at the latest.
const Freshness = ({ pipeline, at }) => {
  const ages = pipeline.tables.map((each) => each.freshness_seconds).filter((age) => age !== null);
  const due = pipeline.dags.filter((dag) => dag.due_by).sort((one, other) => (one.due_by < other.due_by ? -1 : 1))[0];
  const isLate = pipeline.dags.some((dag) => dag.is_overdue);
  return html`<${Box}>
    <${Text}>${ages.length ? `${duration(Math.min(...ages))} old` : pipeline.tables.length ? "nothing published" : "–"}</${Text}>
    ${due && html`<${Text} fontSize="xs" color=${isLate ? "red.fg" : "fg.muted"} title=${`${due.dag}, ${due.schedule}`}>
      ${due.due_by < at ? `overdue since ${clock(due.due_by)}` : `a run is due by ${clock(due.due_by)}`}</${Text}>`}
  </${Box}>`;
};

const sum = (counts) => counts.reduce((total, count) => total + count, 0);

// Counts of each Dag by itself: what one publishes the next one takes in.
const Hours = ({ pipeline }) => {
  const { start, dags, failed } = pipeline.hours;
  if (!dags.length && !failed) return html`<${Text} color="fg.muted" fontSize="sm">no records in 24 hours</${Text}>`;
  return html`<${Stack} gap=3>
    ${dags.map((counts) => html`<${Counts} key=${counts.dag} counts=${counts} start=${start} />`)}
    ${failed > 0 && html`<${Text} fontSize="xs" color="red.fg"><b>${number(failed)}</b> failed ${failed === 1 ? "run" : "runs"}</${Text}>`}
  </${Stack}>`;
};

const Counts = ({ counts, start }) => {
  const totals = Object.fromEntries(["records_in", ...Object.keys(OUTCOMES)].map((name) => [name, sum(counts[name])]));
  const text = `${number(totals.records_in)} in = `
    + Object.keys(OUTCOMES).map((name) => `${number(totals[name])} ${name}`).join(" + ");
  const first = new Date(start).getTime();
  const labels = [...Array(HOURS).keys()].map((hour) => clock(new Date(first + hour * 3600000).toISOString()));
  const option = {
    grid: { left: 0, right: 0, top: 2, bottom: 0 },
    tooltip: { trigger: "axis", confine: true, axisPointer: { type: "shadow" } },
    xAxis: { type: "category", data: labels, show: false },
    yAxis: { type: "value", show: false },
    series: Object.entries(OUTCOMES).map(([name, colour]) => ({
      name, type: "bar", stack: "all", data: counts[name], itemStyle: { color: colour }, barCategoryGap: "15%",
    })),
  };
  return html`<${Box} data-testid=${`counts-${counts.dag}`}>
    <${Chart} option=${option} height="32px" borderBottomWidth="1px" label=${`Last 24 hours of ${counts.dag}: ${text}`} />
    <${Flex} columnGap=3 rowGap=0 wrap="wrap" fontSize="xs" color="fg.muted" mt=1 title=${text}>
      <${Go} to=${`${dagPage(counts.dag)}/plugin/data`}>${counts.dag}</${Go}>
      <span><b data-testid="in">${number(totals.records_in)}</b> in</span>
      ${Object.entries(OUTCOMES).map(([name, colour]) => html`<span key=${name}>
        <${Box} as="span" display="inline-block" boxSize="8px" borderRadius="2px" mr=1 bg=${colour} aria-hidden="true" />
        <b data-testid=${name}>${number(totals[name])}</b> ${name}</span>`)}
    </${Flex}>
  </${Box}>`;
};
