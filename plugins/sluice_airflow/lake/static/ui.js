// What every page of the Lake is made of: templates, links with addresses, data from the API, and its three states.
// React, its router and Chakra UI are those of Airflow's own page, and so are its theme and its dark mode.

import htm from "./vendor/htm.js";
import { time } from "./format.js";

const { createElement, useCallback, useEffect, useRef, useState } = globalThis.React;
const { Link: RouterLink } = globalThis.ReactRouterDOM;
const {
  Alert, Badge: ChakraBadge, Box, Button, Code, Flex, Heading, Link: ChakraLink, Skeleton, Stack, Table, Text,
} = globalThis.ChakraUI;

export const html = htm.bind(createElement);

export const ROOT = "/plugin/lake";

export const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

export const page = (path, values = {}) => `${ROOT}${path ? `/${path}` : ""}${query(values)}`;
export const runPage = (dag, run) => `/dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}`;
export const dagPage = (dag) => `/dags/${encodeURIComponent(dag)}`;
export const taskPage = (dag, run, task) => `${runPage(dag, run)}/tasks/${encodeURIComponent(task)}`;

export const apiUrl = (path, values = {}) => new URL(`lake/api/${path}${query(values)}`, document.baseURI).href;

// Answers by address: a page that was open before shows what it had until the new answer is there.
const answers = new Map();

const ask = async (url, options = {}) => {
  const answer = await fetch(url, { ...options, headers: { Accept: "application/json", ...options.headers } });
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  const known = { 401: "You are signed out: reload this page to sign in.", 403: "You may not do this, or not read the Dags of this data." };
  const what = known[answer.status] ?? body.what ?? (typeof body.detail === "string" ? body.detail : `The API server answered ${answer.status}.`);
  throw Object.assign(new Error(what), { where: body.where ?? "", status: answer.status });
};

export const send = (path, body) =>
  ask(apiUrl(path), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

const RETRY_SECONDS = 5;

// State of a question to the API: { data, error, isLoading, reload }. It is asked again every `seconds`, and soon where
// AWS did not answer.
export const useData = (path, values = {}, { seconds = 0 } = {}) => {
  const url = apiUrl(path, values);
  const [state, setState] = useState({ url, data: answers.get(url), error: null, isLoading: true });
  const asked = useRef(0);
  const retry = useRef(null);
  const reload = useCallback(() => {
    const number = ++asked.current;
    const settle = (found) => number === asked.current && setState({ url, isLoading: false, ...found });
    clearTimeout(retry.current);
    setState((before) => ({ url, data: answers.get(url), error: before.url === url ? before.error : null, isLoading: true }));
    ask(url).then(
      (data) => { answers.set(url, data); settle({ data, error: null }); },
      (error) => {
        settle({ data: undefined, error });
        if (error.status === 503 && number === asked.current) retry.current = setTimeout(reload, RETRY_SECONDS * 1000);
      },
    );
  }, [url]);
  useEffect(() => {
    reload();
    const timer = seconds ? setInterval(() => document.visibilityState === "visible" && reload(), seconds * 1000) : null;
    return () => { asked.current += 1; clearInterval(timer); clearTimeout(retry.current); };
  }, [reload, seconds]);
  return { ...(state.url === url ? state : { data: answers.get(url), error: null, isLoading: true }), reload };
};

// The state of a question, and its answer once it is there.
export const Loaded = ({ state, children }) => {
  if (state.data && !state.error) return children(state.data);
  if (state.error) return html`<${ErrorState} error=${state.error} retry=${state.reload} />`;
  return html`<${Stack} gap=3 role="status" aria-label="Loading" data-testid="lake-loading">
    ${[1, 2, 3].map((key) => html`<${Skeleton} key=${key} height="4.5rem" borderRadius="md" />`)}
  </${Stack}>`;
};

// What happened, where, and what to do: a command of the message can be copied.
export const ErrorState = ({ error, retry }) => {
  const commands = [...error.message.matchAll(/`([^`]+)`/g)].map((found) => found[1]);
  return html`<${Alert.Root} status="error" role="alert" alignItems="flex-start">
    <${Alert.Indicator} />
    <${Alert.Content} minW=0>
      <${Alert.Title} overflowWrap="anywhere">${error.message.replaceAll("`", "")}</${Alert.Title}>
      <${Alert.Description} width="100%">
        ${error.where && html`<${Text} fontSize="sm">Where: ${error.where}</${Text}>`}
        ${commands.map((command) => html`<${Command} key=${command} text=${command} />`)}
        ${retry && html`<${Button} size="sm" variant="outline" mt=2 onClick=${retry}>Try again</${Button}>`}
      </${Alert.Description}>
    </${Alert.Content}>
  </${Alert.Root}>`;
};

export const Nothing = ({ children }) =>
  html`<${Box} borderWidth="1px" borderStyle="dashed" borderRadius="md" p=6 textAlign="center" color="fg.muted">
    ${children}
  </${Box}>`;

// A command and a button that copies it.
export const Command = ({ text }) => {
  const [isCopied, setCopied] = useState(false);
  const copy = () =>
    copyText(text).then(() => { setCopied(true); setTimeout(() => setCopied(false), 2000); }, () => {});
  return html`<${Flex} gap=2 align="flex-start" my=1 minW=0>
    <${Code} flex="1" minW=0 px=2 py="3px" overflowWrap="anywhere" whiteSpace="pre-wrap" color="fg" bg="bg.emphasized"
      fontSize="sm">${text}</${Code}>
    <${Button} size="xs" variant="outline" bg="bg.panel" color="fg" flexShrink=0 onClick=${copy}
      aria-label=${`Copy the command ${text}`}>${isCopied ? "Copied" : "Copy"}</${Button}>
  </${Flex}>`;
};

// The clipboard of a browser is there on localhost and https only.
const copyText = async (text) => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
};

// A link inside Airflow, or to another place in a new tab.
export const Go = ({ to, children, ...props }) =>
  /^https?:/.test(to)
    ? html`<${ChakraLink} color="fg.info" href=${to} target="_blank" rel="noopener noreferrer" ...${props}>${children}</${ChakraLink}>`
    : html`<${ChakraLink} asChild display="inline" color="fg.info" ...${props}><${RouterLink} to=${to}>${children}</${RouterLink}></${ChakraLink}>`;

const COLOURS = {
  ok: "green", passed: "green", succeeded: "green", "first run": "green", present: "green",
  warned: "orange", late: "orange", stale: "red", failing: "red", failed: "red", missing: "red",
  "dead-letters": "red", "queue-age": "red", "stream-lag": "red",
};
const WORDS = { "dead-letters": "dead letters", "queue-age": "queue waits", "stream-lag": "stream lags" };
const MARKS = { green: "✓", orange: "!", red: "✕", gray: "–" };

export const colourOf = (state) => COLOURS[state] ?? "gray";

// A state in a word and a colour, with a mark for those who do not see the colour.
export const Badge = ({ state, children }) => {
  const colour = colourOf(state);
  return html`<${ChakraBadge} colorPalette=${colour} variant="subtle" size="sm" whiteSpace="nowrap">
    <span aria-hidden="true">${MARKS[colour]}</span> ${children ?? WORDS[state] ?? state}
  </${ChakraBadge}>`;
};

export const Time = ({ at, seconds = true }) =>
  at ? html`<time dateTime=${at} title=${`${time(at)} UTC`} style=${{ wordBreak: "keep-all" }}>${time(at, { seconds })}</time>` : "–";

export const Section = ({ title, aside, children, ...props }) => html`<${Box} as="section" ...${props}>
  <${Flex} align="baseline" justify="space-between" gap=3 mb=2 wrap="wrap">
    <${Heading} as="h2" size="md">${title}</${Heading}>
    ${aside && html`<${Box} color="fg.muted" fontSize="sm">${aside}</${Box}>`}
  </${Flex}>
  ${children}
</${Box}>`;

export const Card = ({ children, ...props }) =>
  html`<${Box} borderWidth="1px" borderRadius="md" bg="bg.panel" p=4 minW=0 ...${props}>${children}</${Box}>`;

export const Fact = ({ name, children }) => html`<${Box} minW=0>
  <${Text} as="dt" fontSize="xs" color="fg.muted">${name}</${Text}>
  <${Box} as="dd" m=0 fontSize="sm" overflowWrap="anywhere">${children}</${Box}>
</${Box}>`;

// A table that scrolls by itself where it is too wide. Columns: { name, cell(row), end (align), wrap }.
export const DataTable = ({ label, columns, rows, rowKey, maxH, isCurrent = () => false }) => html`
  <${Box} borderWidth="1px" borderRadius="md" overflow="auto" maxH=${maxH}
    tabIndex=0 role="region" aria-label=${label} bg="bg.panel">
    <${Table.Root} size="sm">
      <${Table.Header}><${Table.Row} bg="bg.muted">
        ${columns.map(({ name, end }) => html`<${Table.ColumnHeader} key=${name} whiteSpace="nowrap"
          color="fg" textAlign=${end ? "end" : "start"}>${name}</${Table.ColumnHeader}>`)}
      </${Table.Row}></${Table.Header}>
      <${Table.Body}>
        ${rows.map((row, place) => html`<${Table.Row} key=${rowKey ? rowKey(row, place) : place}
          bg=${isCurrent(row) ? "bg.info" : "transparent"}>
          ${columns.map(({ name, cell, end, wrap }) => html`<${Table.Cell} key=${name} verticalAlign="top"
            textAlign=${end ? "end" : "start"} whiteSpace=${wrap ? "normal" : "nowrap"}
            fontVariantNumeric=${end ? "tabular-nums" : "normal"}
            ...${wrap ? { minW: "14rem", overflowWrap: "anywhere" } : {}}>${cell(row, place)}</${Table.Cell}>`)}
        </${Table.Row}>`)}
      </${Table.Body}>
    </${Table.Root}>
  </${Box}>`;

// Rows of an object of the lake, as texts.
export const PreviewTable = ({ label, columns, rows }) => html`<${DataTable} label=${label}
  columns=${columns.map((name, place) => ({ name, cell: (row) => cellText(row[place]), end: typeof rows[0]?.[place] === "number" }))}
  rows=${rows} />`;

const cellText = (value) => {
  if (value === null || value === undefined) return html`<${Text} as="span" color="fg.muted" fontStyle="italic">null</${Text}>`;
  const text = String(value);
  return text.length > 80 ? html`<span title=${text}>${text.slice(0, 80)}…</span>` : text;
};
