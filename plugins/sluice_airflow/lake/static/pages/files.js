// Read-only browser of the lake's zones, with a preview of what can be read.

import { bytes, fileName, number, plural, secondsBetween, duration, time } from "../format.js";
import { apiUrl, Card, Command, DataTable, Fact, Go, html, Loaded, Nothing, page, PreviewTable, Section, Time, useData } from "../ui.js";

const { useSearchParams } = globalThis.ReactRouterDOM;
const { Box, Code, Flex, Grid, Heading, Stack, Text } = globalThis.ChakraUI;

export const Files = () => {
  const [search] = useSearchParams();
  const key = search.get("key") ?? "";
  const prefix = key ? key.slice(0, key.lastIndexOf("/") + 1) : search.get("prefix") ?? "";
  return html`<${Stack} gap=4>
    <${Path} path=${key || prefix} />
    ${key ? html`<${Preview} key=${key} name=${key} />` : html`<${Folder} prefix=${prefix} token=${search.get("token") ?? ""} />`}
  </${Stack}>`;
};

const Path = ({ path }) => {
  const parts = path.split("/").filter(Boolean);
  const upTo = (place) => `${parts.slice(0, place + 1).join("/")}/`;
  return html`<${Flex} as="nav" aria-label="Folder" gap=1 wrap="wrap" fontSize="sm" fontFamily="mono" data-testid="path">
    <${Go} to=${page("files")}>lake</${Go}>
    ${parts.map((part, place) => html`<span key=${place} style=${{ overflowWrap: "anywhere" }}>/${" "}
      ${place === parts.length - 1 ? part : html`<${Go} to=${page("files", { prefix: upTo(place) })}>${part}</${Go}>`}</span>`)}
  </${Flex}>`;
};

const kept = (days) => (days ? `kept for ${plural(days, "day")}` : "kept for ever");

const ZONES = {
  "raw/": "data as received",
  "staging/": "work of a run before its gate",
  "curated/": "what passed its gate",
  "quarantine/": "rejected records",
  "quality/": "reports of gates",
};

const Folder = ({ prefix, token }) => {
  const state = useData("files", { prefix, token });
  return html`<${Loaded} state=${state}>${(found) => {
    const rows = [...found.folders.map((each) => ({ ...each, isFolder: true })), ...found.objects];
    if (!rows.length) return html`<${Nothing}>This folder is empty. What was here may have expired.</${Nothing}>`;
    return html`<${Stack} gap=3>
      ${prefix ? html`<${Text} fontSize="sm" color="fg.muted">s3://${found.bucket}/${prefix} · ${kept(found.kept_days)}</${Text}>`
        : html`<${Text} fontSize="sm" color="fg.muted">s3://${found.bucket}</${Text}>`}
      <${DataTable} label="Files" rows=${rows} rowKey=${(row) => row.prefix ?? row.key} columns=${[
        { name: "Name", cell: (row) => row.isFolder
          ? html`<${Go} to=${page("files", { prefix: row.prefix })}><b>${fileName(row.prefix)}/</b></${Go}>`
          : html`<${Go} to=${page("files", { key: row.key })}>${fileName(row.key)}</${Go}>` },
        ...(prefix ? [
          { name: "Size", end: true, cell: (row) => (row.isFolder ? "" : bytes(row.size_bytes)) },
          { name: "Stored (UTC)", cell: (row) => (row.isFolder ? "" : html`<${Time} at=${row.stored_at} />`) },
          { name: "Deleted from (UTC)", cell: (row) => (row.isFolder ? "" : row.expires_at ? time(row.expires_at).slice(0, 10) : "never") },
        ] : [
          { name: "Holds", cell: (row) => ZONES[row.prefix] },
          { name: "Kept", cell: (row) => kept(row.kept_days) },
        ]),
      ]} />
      <${Flex} gap=4 fontSize="sm">
        ${token && html`<${Go} to=${page("files", { prefix })}>First page</${Go}>`}
        ${found.next && html`<${Go} to=${page("files", { prefix, token: found.next })}>Next page</${Go}>`}
      </${Flex}>
    </${Stack}>`;
  }}</${Loaded}>`;
};

const Preview = ({ name }) => {
  const state = useData("files/preview", { key: name });
  return html`<${Loaded} state=${state}>${(found) => html`<${Stack} gap=4>
    <${Card}>
      <${Heading} as="h2" size="md" overflowWrap="anywhere" mb=3>${fileName(name)}</${Heading}>
      <${Grid} as="dl" m=0 templateColumns=${{ base: "1fr", sm: "1fr 1fr", lg: "repeat(4, 1fr)" }} gap=3>
        <${Fact} name="Size">${bytes(found.size_bytes)}</${Fact}>
        <${Fact} name="Stored"><${Time} at=${found.stored_at} /> UTC</${Fact}>
        <${Fact} name="Age">${duration(secondsBetween(found.stored_at, new Date().toISOString()))}</${Fact}>
        <${Fact} name="Deleted from">${found.expires_at ? html`<${Time} at=${found.expires_at} />` : "never"}</${Fact}>
      </${Grid}>
      <${Flex} mt=3 gap=4 fontSize="sm" align="center" wrap="wrap">
        <a href=${apiUrl("files/download", { key: name })} download><${Text} as="span" color="fg.info">Download</${Text}></a>
        <${Box} flex="1" minW="14rem"><${Command} text=${`aws s3 cp s3://${found.bucket}/${name} .`} /></${Box}>
      </${Flex}>
    </${Card}>
    <${Content} found=${found} />
  </${Stack}>`}</${Loaded}>`;
};

const Content = ({ found }) => {
  if (found.kind === "none") return html`<${Nothing}>There is no preview of this kind of file.</${Nothing}>`;
  const aside = found.is_whole ? "all of it" : "its beginning";
  if (found.kind === "rows") {
    const total = found.total_rows === undefined ? aside : `${number(found.rows.length)} of ${plural(found.total_rows, "row")}`;
    return html`<${Section} title="Rows" aside=${total}><${PreviewTable} label="Rows" columns=${found.columns} rows=${found.rows} /></${Section}>`;
  }
  if (found.kind === "html") {
    // Sandboxed: without scripts and without this page's origin.
    return html`<${Section} title="Page"><${Box} borderWidth="1px" borderRadius="md" overflow="hidden">
      <iframe sandbox="" srcDoc=${found.text} title=${fileName(found.key)} style=${{ width: "100%", height: "70vh", border: 0, background: "#fff" }}></iframe>
    </${Box}></${Section}>`;
  }
  return html`<${Section} title="Text" aside=${aside}><${Code} display="block" whiteSpace="pre-wrap" overflowWrap="anywhere" p=3
    color="fg" bg="bg.panel" borderWidth="1px" borderRadius="md" maxH="70vh" overflowY="auto" tabIndex=0>${found.text}</${Code}></${Section}>`;
};
