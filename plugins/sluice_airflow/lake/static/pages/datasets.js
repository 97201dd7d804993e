// The table "datasets": a parquet file a dataset, and of one its aggregates as charts.

import { ChartCards } from "../chart-cards.js";
import { bytes, fileName, number } from "../format.js";
import { Card, Command, DataTable, Fact, Go, html, Loaded, Nothing, page, Section, Time, useData } from "../ui.js";

const { useSearchParams } = globalThis.ReactRouterDOM;
const { Box, Flex, Grid, Heading, Stack, Text } = globalThis.ChakraUI;

const PREFIX = "curated/datasets/";

const nameOf = (key) => fileName(key).replace(/\.parquet$/, "");

export const Datasets = () => {
  const [search] = useSearchParams();
  const token = search.get("token") ?? "";
  const state = useData("files", { prefix: PREFIX, token });
  return html`<${Stack} gap=6>
    <${Box} fontSize="sm"><${Go} to=${page("tables")}>All tables</${Go}></${Box}>
    <${Loaded} state=${state}>${({ objects, next }) => {
      if (!objects.length) return html`<${Nothing}>No dataset is published yet. <${Command} text="sluice produce dataset sales" /></${Nothing}>`;
      const newest = [...objects].sort((one, other) => (one.stored_at < other.stored_at ? 1 : -1));
      const key = search.get("key") ?? newest[0].key;
      return html`<${Stack} gap=6>
        <${Dataset} key=${key} of=${key} />
        <${Section} title="Datasets" aside=${next || token ? "a page by name, newest first" : "newest first"}>
          <${DataTable} label="Datasets" rows=${newest} rowKey=${(each) => each.key} maxH="24rem" isCurrent=${(each) => each.key === key} columns=${[
            { name: "Dataset", cell: (each) => html`<${Go} to=${page("tables/datasets", { key: each.key, token })}>${nameOf(each.key)}</${Go}>` },
            { name: "Published (UTC)", cell: (each) => html`<${Time} at=${each.stored_at} />` },
            { name: "Size", end: true, cell: (each) => bytes(each.size_bytes) },
            { name: "File", cell: (each) => html`<${Go} to=${page("files", { key: each.key })}>${fileName(each.key)}</${Go}>` },
          ]} />
          ${next && html`<${Flex} mt=2 fontSize="sm"><${Go} to=${page("tables/datasets", { token: next })}>Next page</${Go}></${Flex}>`}
        </${Section}>
      </${Stack}>`;
    }}</${Loaded}>
  </${Stack}>`;
};

const Dataset = ({ of }) => {
  const state = useData("datasets", { key: of });
  return html`<${Loaded} state=${state}>${(found) => html`<${Stack} gap=6>
    <${Card}>
      <${Heading} as="h2" size="lg" overflowWrap="anywhere">${found.name}</${Heading}>
      <${Text} color="fg.muted" mb=3>One row for each dp of a CSV file, in the table datasets</${Text}>
      <${Grid} as="dl" m=0 templateColumns=${{ base: "1fr 1fr", lg: "repeat(4, 1fr)" }} gap=3>
        <${Fact} name="Rows"><span data-testid="rows">${number(found.rows)}</span></${Fact}>
        <${Fact} name="Size">${bytes(found.size_bytes)}</${Fact}>
        <${Fact} name="Published"><${Time} at=${found.stored_at} /></${Fact}>
        <${Fact} name="File"><${Go} to=${page("files", { key: found.key })}>open</${Go}></${Fact}>
      </${Grid}>
    </${Card}>
    <${ChartCards} charts=${found.charts} />
  </${Stack}>`}</${Loaded}>`;
};
