// All pipelines as one graph: source, queue or stream, Dag, table, readers. Laid out by dagre.

import { graphlib, layout } from "../vendor/dagre.js";
import { duration, secondsBetween } from "../format.js";
import { Badge, colourOf, dagPage, Go, html, Loaded, page, useData } from "../ui.js";

const { useEffect, useMemo, useRef, useState } = globalThis.React;
const { useSearchParams } = globalThis.ReactRouterDOM;
const { Box, Flex, NativeSelect, Stack, Text } = globalThis.ChakraUI;

const WIDTH = 152;
const HEIGHT = 74;
const SCALE_MIN = 0.85;
const NARROW = 700;
const ALL = "all";

const KINDS = {
  source: "Source", queue: "Queue", stream: "Stream", dag: "Dag", table: "Table", files: "Files", topic: "Topic", reader: "Readers",
};
const LINES = { green: "green.solid", orange: "orange.solid", red: "red.solid", gray: "border.emphasized" };

export const Lineage = () => {
  const [search, setSearch] = useSearchParams();
  const state = useData("lineage", {}, { seconds: 30 });
  return html`<${Loaded} state=${state}>${(found) => {
    const names = [...new Set(found.nodes.map((node) => node.pipeline).filter(Boolean))];
    // All pipelines do not fit a narrow screen.
    const pipeline = search.get("pipeline") || (window.innerWidth < NARROW ? names[0] : ALL);
    return html`<${Stack} gap=4>
      <${Flex} gap=4 wrap="wrap" align="flex-end">
        <${Box} as="label" fontSize="xs" color="fg.muted">Pipeline
          <${NativeSelect.Root} size="sm" minW="11rem"><${NativeSelect.Field} value=${pipeline} color="fg"
            onChange=${(event) => setSearch({ pipeline: event.target.value })}>
            <option value=${ALL}>all</option>${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
          </${NativeSelect.Field}><${NativeSelect.Indicator} /></${NativeSelect.Root}>
        </${Box}>
        <${Text} fontSize="sm" color="fg.muted" flex="1" minW="14rem">A line at the left of a node has the colour of its state. Open a node to see its data.</${Text}>
      </${Flex}>
      <${Graph} found=${only(found, pipeline)} at=${found.at} />
    </${Stack}>`;
  }}</${Loaded}>`;
};

const only = ({ nodes, edges }, pipeline) => {
  if (pipeline === ALL) return { nodes, edges };
  const mine = new Set(nodes.filter((node) => node.pipeline === pipeline).map((node) => node.name));
  const kept = edges.filter((edge) => mine.has(edge.from) && (mine.has(edge.to) || nodes.find((node) => node.name === edge.to)?.kind === "reader"));
  const reached = new Set([...mine, ...kept.map((edge) => edge.to)]);
  return { nodes: nodes.filter((node) => reached.has(node.name)), edges: kept };
};

const placed = ({ nodes, edges }) => {
  const graph = new graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 16, ranksep: 26, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) graph.setNode(node.name, { width: WIDTH, height: HEIGHT });
  for (const edge of edges) graph.setEdge(edge.from, edge.to, { width: edge.label ? 26 : 0, height: 14, labelpos: "c" });
  layout(graph);
  return graph;
};

const Graph = ({ found, at }) => {
  const graph = useMemo(() => placed(found), [found.nodes.length, found.edges.length, JSON.stringify(found.edges)]);
  const { width, height } = graph.graph();
  const frame = useRef(null);
  const [scale, setScale] = useState(1);
  useEffect(() => {
    const shown = frame.current;
    const fit = () => setScale(Math.min(1, Math.max(SCALE_MIN, (shown.clientWidth - 2) / width)));
    const sizes = new ResizeObserver(fit);
    sizes.observe(shown);
    return () => sizes.disconnect();
  }, [width]);
  return html`<${Box} ref=${frame} borderWidth="1px" borderRadius="md" bg="bg.panel" overflow="auto" tabIndex=0 role="region" aria-label="Graph of the pipelines">
    <${Box} width=${`${width * scale}px`} height=${`${height * scale}px`} mx="auto">
    <${Box} position="relative" width=${`${width}px`} height=${`${height}px`} transform=${`scale(${scale})`} transformOrigin="top left">
      <${Box} asChild position="absolute" inset=0 color="fg.subtle"><svg width=${width} height=${height} aria-hidden="true">
        <defs><marker id="lake-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
          <path d="M0,0 L8,4 L0,8 z" fill="currentColor" /></marker></defs>
        ${found.edges.map((edge) => html`<path key=${`${edge.from} ${edge.to}`} d=${curve(graph.edge(edge.from, edge.to).points)}
          fill="none" stroke="currentColor" strokeWidth="1.5" markerEnd="url(#lake-arrow)" />`)}
      </svg></${Box}>
      ${found.edges.filter((edge) => edge.label).map((edge) => {
        const { x, y } = graph.edge(edge.from, edge.to);
        return html`<${Box} key=${`${edge.from} ${edge.to}`} position="absolute" left=${`${x}px`} top=${`${y}px`} transform="translate(-50%, -50%)"
          fontSize="xs" px=1 borderWidth="1px" borderRadius="full" bg="bg.panel" color="fg" whiteSpace="nowrap" title=${edge.label}>
          ${edge.label.split(" ")[0]}<${Box} as="span" srOnly> waiting</${Box}></${Box}>`;
      })}
      <${Box} as="ul" listStyleType="none" m=0 p=0>
        ${found.nodes.map((node) => html`<li key=${node.name}><${Node} node=${node} at=${at} place=${graph.node(node.name)} /></li>`)}
      </${Box}>
    </${Box}></${Box}>
  </${Box}>`;
};

const curve = ([first, ...others]) => {
  let path = `M${first.x},${first.y}`;
  let before = first;
  for (const point of others) {
    const middle = (before.x + point.x) / 2;
    path += ` C${middle},${before.y} ${middle},${point.y} ${point.x},${point.y}`;
    before = point;
  }
  return path;
};

// Where a click on a node leads.
const target = (node) => {
  if (node.kind === "dag") return dagPage(node.name);
  if (node.kind === "queue" || node.kind === "stream") return page("quarantine", { pipeline: node.pipeline });
  if (node.has_page) return page(`tables/${node.name}`);
  return node.prefix ? page("files", { prefix: node.prefix }) : "";
};

const age = (node, at) => {
  if (node.freshness_seconds !== undefined && node.freshness_seconds !== null) return `${duration(node.freshness_seconds, 1)} old`;
  if (node.lag_seconds !== undefined && node.lag_seconds !== null) return `lag ${duration(node.lag_seconds)}`;
  if (node.at) return `ran ${duration(secondsBetween(node.at, at), 1)} ago`;
  return node.figures || node.about;
};

// A long name breaks after an underscore.
const breakable = (name) => name.split(/(?<=_)/).flatMap((part, place) => (place ? [html`<wbr key=${place} />`, part] : [part]));

const Node = ({ node, at, place }) => {
  const to = target(node);
  const name = node.name.replace(/^sluice-[a-z0-9-]*?-(?=[a-z_]+(-raw)?$)/, "");
  return html`<${Box} position="absolute" left=${`${place.x - WIDTH / 2}px`} top=${`${place.y - HEIGHT / 2}px`} width=${`${WIDTH}px`} height=${`${HEIGHT}px`}
    borderWidth="1px" borderLeftWidth="4px" borderLeftColor=${LINES[colourOf(node.state)]} borderRadius="md" bg="bg.subtle" px=2 py="3px" overflow="hidden"
    title=${`${node.name}: ${node.about}`} data-testid=${`node-${node.name}`}>
    <${Flex} justify="space-between" gap=1 align="center"><${Text} fontSize="2xs" color="fg.muted">${KINDS[node.kind]}</${Text}>
      ${node.state && node.state !== "ok" && html`<${Badge} state=${node.state} />`}</${Flex}>
    <${Text} fontSize="xs" lineHeight="1.2" fontWeight="semibold" lineClamp=2>${to ? html`<${Go} to=${to}>${breakable(name)}</${Go}>` : breakable(name)}</${Text}>
    <${Text} fontSize="xs" color="fg.muted" truncate>${age(node, at)}</${Text}>
  </${Box}>`;
};
